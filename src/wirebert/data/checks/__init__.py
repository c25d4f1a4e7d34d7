"""Data checks: small functions from the profile of a table to findings. A finding changes nothing."""
