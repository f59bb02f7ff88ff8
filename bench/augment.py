"""What compressors may know of views (bench/views/parameters.py). The path is part of the plugin contract."""

from bench.views.parameters import View, Views, batch_bounds

__all__ = ["View", "Views", "batch_bounds"]
