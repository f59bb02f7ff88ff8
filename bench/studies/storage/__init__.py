"""What label sets take in every layout of the literature."""
