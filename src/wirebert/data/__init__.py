"""Files to checked, labelled Arrow tables."""
