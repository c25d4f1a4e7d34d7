"""Checks: small functions from what was seen of a table to findings. A finding changes nothing."""
