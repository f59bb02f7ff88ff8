"""What stages hand on: the store, opened data sets, duplicates."""
