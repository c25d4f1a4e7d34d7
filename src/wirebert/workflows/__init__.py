"""One module per use case, readable on a page each."""
