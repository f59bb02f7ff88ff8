"""How fast `glyphs` are drawn: 12,000 images (100 classes) in at most 30 seconds of one core."""

from __future__ import annotations

import time

from protocols.datasets._glyph_classes import CLASSES
from protocols.datasets._glyph_drawing import draw
from speed.row import Row


def measure(quick: bool = False) -> list[Row]:
    """CPU seconds, extrapolated from the same number of images of every class."""
    per_class = 2 if quick else 12
    draw(0, CLASSES[0], 0)  # imports and the first face
    start = time.process_time()
    for character in CLASSES[:100]:
        for index in range(per_class):
            draw(0, character, index)
    seconds = (time.process_time() - start) * 12_000 / (100 * per_class)
    note = f"{seconds / 12:.2f} ms an image, {100 * per_class} drawn"
    return [Row("glyphs: 12,000 images drawn, one core", seconds, "s", 30.0, False, note)]
