"""What a training says while it runs; without PyTorch."""
