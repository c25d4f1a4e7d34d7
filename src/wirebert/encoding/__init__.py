"""Arrow tables to token ids."""
