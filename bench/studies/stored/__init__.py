"""What lies in a store: listed by kind, and pruned."""
