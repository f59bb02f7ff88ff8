"""What compressors may know of views (bench/views/augment.py). The path is part of the plugin contract."""

from bench.views.augment import View, Views, batch_bounds

__all__ = ["View", "Views", "batch_bounds"]
