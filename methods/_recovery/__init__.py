"""Parts of the methods that recover images from a teacher: statistics, losses, jitter, the optimisation loop."""
