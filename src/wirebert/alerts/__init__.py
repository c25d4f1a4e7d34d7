"""Verdicts to what people act on: Community ID, events in the formats of others, incidents, sinks."""
