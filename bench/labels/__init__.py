"""Soft labels: made by teachers, encoded by compressors, read back row by row."""
