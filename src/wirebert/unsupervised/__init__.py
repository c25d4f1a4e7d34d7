"""What is learned without labels: how surprising each feature of a flow is, and a score from that."""
