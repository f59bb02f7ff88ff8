"""What plugins may know of views (bench/views/parameters.py) and of DSA's augmentation. The path is part of the plugin
contract."""

from bench.views.parameters import View, Views, batch_bounds
from bench.views.siamese import draw_operation, operate, without_flip

__all__ = ["View", "Views", "batch_bounds", "draw_operation", "operate", "without_flip"]
