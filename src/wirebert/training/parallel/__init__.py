"""Training on several processes and GPUs."""
