"""Metrics, intervals and tests, from arrays to numbers."""
