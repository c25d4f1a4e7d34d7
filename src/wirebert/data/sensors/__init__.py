"""Sensor logs to canonical flow columns."""
