"""A detector on labelled rows: the room that joins inference and metrics."""
