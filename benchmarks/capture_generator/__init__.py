"""Short captures of many made-up networks, on which the model in the box is trained and looked at."""
