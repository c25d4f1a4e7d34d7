"""Columns computed from the flows before: windows per host and pair."""
