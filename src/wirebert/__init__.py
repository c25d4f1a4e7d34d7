"""wirebert trains DistilBERT to detect intrusions in network traffic."""

__version__ = "0.1.0"
