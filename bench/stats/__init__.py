"""Statistics: intervals, tests and ranks. Numbers in, numbers out."""
