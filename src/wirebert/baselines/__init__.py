"""Other methods, trained and tuned on the same rows."""
