"""Labels in memory to measure compressors on, and how compressors are asked for."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from bench.api import SoftLabels
from bench.labels.label_file import shard_sizes
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec, parse
from bench.seeds import numpy_generator
from bench.studies.label_sets.label_sources import LabelSet


class ArrayLabels(LabelSet):
    """Labels in memory, in shards of at most `limit` bytes."""

    name, views = "an array", b"17 bytes of views"

    def __init__(self, logits: torch.Tensor, limit: int = 1 << 26) -> None:
        self.logits, self.shape = logits, tuple(logits.shape)
        self.sizes = shard_sizes(*self.shape, limit)

    def parts(self) -> Any:
        start = 0
        for size in self.sizes:
            rows = np.arange(start, start + size)
            yield SoftLabels(self.logits[rows], torch.zeros(size, dtype=torch.int64), images=rows)
            start += size

    @contextmanager
    def context(self, spec: Spec) -> Any:
        yield SimpleNamespace(numpy=lambda *name: numpy_generator(str(spec), *name))


def drawn(n: int, k: int, c: int, scale: float = 3.0) -> torch.Tensor:
    rng = numpy_generator("label quality", n, k, c)
    low = rng.standard_normal((n, k, 3)) @ rng.standard_normal((n, 3, c))
    return torch.from_numpy(scale * low + rng.standard_normal((n, k, c))).to(torch.float16)


def asked(registry: Registry, *specs: str) -> list[tuple[Spec, str | None]]:
    """`svd@10x` and the like."""
    found = []
    for text in specs:
        name, _, budget = text.partition("@")
        found.append((parse(registry, "compressor", name), budget or None))
    return found
