"""Training of a model on encoded flows."""
