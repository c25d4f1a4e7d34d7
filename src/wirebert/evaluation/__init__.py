"""Arrays to evidence; knows no model."""
