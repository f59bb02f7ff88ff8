"""`klt` on labels of ImageNet size, one thread: time to encode and decode an image, and what it keeps at 30x."""

from __future__ import annotations

import time

import numpy as np
import torch

from bench.api import SoftLabels
from bench.protocol.recipe import Augment
from bench.seeds import numpy_generator
from bench.views.parameters import Views
from methods.compressors import klt, svd
from speed.row import NO_CONTEXT, Row

_SETS = 100  # so many such blobs share a basis


def measure(quick: bool = False) -> list[Row]:
    """Rows for encoding, decoding, and squared error beside `svd` with int8 factors at equal bytes."""
    images, k, c = (8, 60, 100) if quick else (8, 300, 1000)
    labels = _labels(images, k, c)
    budget = labels.logits.numel() * 2 // 30
    shared = klt.fit(labels, _SETS * budget, NO_CONTEXT)
    klt.decode(klt.encode(_labels(1, 4, c), 4 * budget, NO_CONTEXT))  # compiled code comes from the disk: 0.2 s, once
    start = time.process_time()
    blob = klt.encode(labels, budget, NO_CONTEXT, shared=shared)
    encoded = (time.process_time() - start) / images
    decoded = float("inf")
    for _ in range(2):
        start = time.process_time()
        found = klt.decode(blob, shared=shared)
        decoded = min(decoded, (time.process_time() - start) / images)
    other = svd.decode(svd.encode(labels, budget, NO_CONTEXT, factor="int8"))
    what = f"klt at 30x, {k} x {c}"
    return [
        Row(f"{what}: encode an image", 1e3 * encoded, "ms", 120, False),
        Row(f"{what}: decode an image", 1e3 * decoded, "ms", 30, False),
        Row(
            f"{what}: squared error of svd int8 at equal bytes, against it",
            _error(other, labels) / _error(found, labels),
            "x",
            1,
            True,
            f"the shared basis, fitted on these images as for a set of {_SETS * images}, is not counted",
        ),
    ]


def _labels(n: int, k: int, c: int) -> SoftLabels:
    """CutMix rows of n images: shares of two images' own logits, and noise with the falling spectrum of teachers."""
    rng = numpy_generator("speed", "klt", n, k, c)
    options = Augment(crop_scale=(0.4, 1.0), flip=0.5, mix="cutmix", mix_alpha=1.0, mix_probability=1.0)
    everyone = _SETS * n
    views = Views(options, everyone, 224, mirror=True, batch=everyone, seed=1, count=k)
    falling = 1 / np.sqrt(1 + np.arange(c))
    axes = np.linalg.qr(rng.standard_normal((c, c)))[0] * falling
    own = 8 * rng.standard_normal((everyone, c)) @ axes.T
    logits = 4 * rng.standard_normal((n, k, c)) @ axes.T
    for at, view in enumerate(views):
        assert view.lam is not None
        assert view.partner is not None
        lam = view.lam[:n, None]
        logits[:, at] += lam * own[:n] + (1 - lam) * own[view.partner[:n]]
    return SoftLabels(torch.from_numpy(logits.astype(np.float16)), torch.arange(n), views, images=np.arange(n))


def _error(found: torch.Tensor, labels: SoftLabels) -> float:
    rest = found.double() - labels.logits.double()
    return float((rest - rest.mean(2, keepdim=True)).square().sum())
