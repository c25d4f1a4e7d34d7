"""The meaning of the columns of a traffic table."""
