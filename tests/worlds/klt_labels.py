"""Synthetic label sets with CutMix views, for tests of the compressor `klt`."""

from __future__ import annotations

import functools

import numpy as np
import torch

from bench.api import SoftLabels
from bench.protocol.recipe import Augment
from bench.views.parameters import Views

N, K, C = 12, 24, 40


@functools.cache
def views(n: int = N, k: int = K) -> Views:
    options = Augment(crop_scale=(0.4, 1.0), flip=0.5, mix="cutmix", mix_alpha=1.0, mix_probability=1.0)
    return Views(options, n, 32, mirror=True, batch=8, seed=5, count=k)


@functools.cache
def mixed(n: int = N, k: int = K, c: int = C, seed: int = 0, loud: float = 3) -> SoftLabels:
    """Each row: lambda of the image's own logits, the rest of its partner's, `loud` both; and correlated noise."""
    rng = np.random.default_rng(seed)
    own = loud * rng.standard_normal((n, c)) @ np.diag(1 / np.sqrt(1 + np.arange(c)))
    mixing = rng.standard_normal((c, c)) / np.sqrt(1 + np.arange(c))[:, None]
    logits = np.empty((n, k, c))
    for at, view in enumerate(views(n, k)):
        lam = view.lam[:, None]
        logits[:, at] = lam * own + (1 - lam) * own[view.partner]
    logits += 0.5 * rng.standard_normal((n, k, c)) @ mixing
    return SoftLabels(torch.from_numpy(logits.astype(np.float16)), torch.arange(n), views(n, k))
