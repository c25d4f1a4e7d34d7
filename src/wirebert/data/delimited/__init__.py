"""Delimited text: its dialect, and its reader."""
