"""What `wirebert compare` and `wirebert report A B` do."""
