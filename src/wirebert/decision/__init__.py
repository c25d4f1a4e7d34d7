"""From logits to verdicts; knows no model and no artifact."""
