"""What networks that nobody trained on a condensed set see in it: entropy, likelihood, and the shape of the loss."""
