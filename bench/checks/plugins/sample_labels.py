"""Small label sets by hand, on which every compressor is checked: ordinary ones, and the awkward ones."""

from __future__ import annotations

import numpy as np
import torch

from bench.api import SoftLabels
from bench.protocol.recipe import Augment
from bench.seeds import numpy_generator, seed
from bench.views.parameters import Views

SHAPE = (12, 20, 30)  # images, views, classes
SIZE = 8  # pixels of the images that the views were drawn for
AUGMENT = Augment(crop_scale=(0.4, 1.0), flip=0.5, mix="cutmix")


def ordinary(spread: float = 0.6) -> np.ndarray:
    """float16 [12, 20, 30]: as a teacher's logits are: one class stands out, views of an image resemble each other, and
    each has something of its own (`spread`)."""
    n, k, c = SHAPE
    rng = numpy_generator("checks", "labels")
    mean = rng.standard_normal((n, 1, c))
    mean[np.arange(n), 0, rng.integers(0, c, n)] += 8
    sway = rng.standard_normal((n, k, 3)) @ rng.standard_normal((n, 3, c))
    return (mean + sway + spread * rng.standard_normal(SHAPE)).astype(np.float16)


def degenerate() -> dict[str, np.ndarray]:
    """Labels with nothing wrong about them, but for which a decomposition may stumble; by what they are."""
    rng = numpy_generator("checks", "degenerate")
    noise = rng.standard_normal((3, 8, 6)).astype(np.float16)
    one_hot = np.zeros((3, 8, 6), np.float16)
    one_hot[:, :, 2] = 20
    extreme = noise.copy()
    extreme[0, 1, 2], extreme[2, 3, 4] = 65504, -65504
    return {
        "constant": np.full((3, 8, 6), 2.5, np.float16),
        "one-hot": one_hot,
        "all zero": np.zeros((3, 8, 6), np.float16),
        "one image of zeros": noise * np.array([1, 0, 1], np.float16)[:, None, None],
        "one view (K = 1)": noise[:, :1],
        "two classes": noise[:, :, :2],
        "one class": noise[:, :, :1],
        "one image": noise[:1],
        "one image, one view, two classes": noise[:1, :1, :2],
        "equal views": noise[:, :1].repeat(8, axis=1),
        "the largest float16": extreme,
        "the smallest float16": (noise * np.float16(6e-8)).astype(np.float16),
        "float32": noise.astype(np.float32),
    }


def labels(logits: np.ndarray) -> SoftLabels:
    """As the harness hands them over, views included; the images' own classes count up."""
    n, k, c = logits.shape
    views = Views(AUGMENT, n, SIZE, mirror=True, batch=n, seed=seed("checks", "views"), count=k)
    return SoftLabels(torch.from_numpy(logits.copy()), torch.arange(n) % c, views)
