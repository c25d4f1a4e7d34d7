"""Bytes to checked, labelled Arrow tables."""
