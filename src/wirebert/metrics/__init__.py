"""Arrays to numbers; knows nothing else."""
