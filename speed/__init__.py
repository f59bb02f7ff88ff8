"""Measured ratios, printed by `make speed`: a file a subject, each with `measure() -> list[Row]`."""
