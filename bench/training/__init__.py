"""Training of one network: loop, feed, losses, learning rates, networks."""
