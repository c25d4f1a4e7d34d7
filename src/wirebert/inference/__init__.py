"""The model folder and everything that scores with it; never imports training."""
