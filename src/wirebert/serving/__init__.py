"""A model folder to verdicts; never imports training."""
