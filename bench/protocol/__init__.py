"""Protocol files: what is fixed for every cell."""
