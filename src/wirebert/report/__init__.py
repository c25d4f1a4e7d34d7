"""Dataclasses to words, tables and pages; knows no model."""
