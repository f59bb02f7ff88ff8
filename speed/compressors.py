"""Soft-label compressors on the small data sets' labels: encoding and decoding, one thread, in turns."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import torch

from bench.api import SoftLabels
from bench.seeds import numpy_generator
from methods.compressors import cur, lpld, rpca, rsvd, svd
from speed._tools import mixed_view_logits, times
from speed.row import Row


def measure(quick: bool = False) -> list[Row]:
    """Rows for encoding and decoding. Labels are drawn with the spectrum of mixed views."""
    rows = []
    images = 20 if quick else 100
    context = SimpleNamespace(numpy=lambda *name: numpy_generator("speed", *name))
    for classes, ratio in ((10, 5), (100, 10)):
        logits = mixed_view_logits(images, 100, classes).astype(np.float16)
        labels = SoftLabels(torch.from_numpy(logits), torch.zeros(images, dtype=torch.int64))
        for module in (svd, rsvd, cur, rpca, lpld):
            name = module.__name__.rsplit(".", 1)[-1]
            budget = 2 * logits.size // ratio
            blob = module.encode(labels, budget, context)
            block = lpld.rows(blob)[:8] if module is lpld else np.arange(40, 48)
            calls = [partial(module.encode, labels, budget, context), partial(module.decode, blob, block)]
            encode, decode = times(calls, 2)
            what = f"{name} at {ratio}x, 100 views, {classes} classes"
            per = 100 / images
            if classes == 10:
                rows.append(Row(f"{what}: encode 100 images", encode * per, "s", 0.3, False))
            rows.append(Row(f"{what}: decode {len(block)} views of 100 images", 1e3 * decode * per, "ms", 2, False))
    return rows
