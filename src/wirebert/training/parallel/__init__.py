"""One training on several processes and GPUs."""
