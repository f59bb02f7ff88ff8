"""`discover`, where tests that version 0.1 wrote look for it."""

from bench.plugins.registry import discover

__all__ = ["discover"]
