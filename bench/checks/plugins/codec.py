"""A compressor as the checks use it: shared part and blob together, errors as values, damage on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from bench.api import SoftLabels
from bench.errors import InfeasibleError
from bench.labels.adapter import takes_shared, takes_survey
from bench.plugins.registry import Plugin
from bench.stages.context import HarnessContext

FLIPS = 24
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """What a label set became."""

    shared: bytes
    blob: bytes

    def __len__(self) -> int:
        return len(self.shared) + len(self.blob)


class Codec:
    """One compressor with its parameters and a context. No size is checked here: the checks do that themselves."""

    def __init__(self, plugin: Plugin, ctx: HarnessContext, parameters: Mapping[str, Any]) -> None:
        self.ctx = ctx
        self._module, self._parameters = plugin.module, parameters
        self._shares = takes_shared(plugin.module)

    def encode(self, labels: SoftLabels, budget: int) -> Encoded:
        """Both parts within `budget` bytes.

        Raises:
            InfeasibleError: with the size that both parts would need; and whatever the compressor raises.
        """
        if not self._shares:
            return Encoded(b"", self._module.encode(labels, budget, self.ctx, **self._parameters))
        keywords = {"survey": partial(_survey, labels)} if takes_survey(self._module) else {}
        shared = self._module.fit(labels, budget, self.ctx, **keywords, **self._parameters)
        try:
            left = budget - len(shared)
            return Encoded(shared, self._module.encode(labels, left, self.ctx, shared=shared, **self._parameters))
        except InfeasibleError as error:
            raise InfeasibleError(error.smallest_bytes + len(shared), error.why) from None

    def encode_near(self, labels: SoftLabels, budget: int) -> Encoded:
        """Within `budget`, or in the smallest size that there is."""
        try:
            return self.encode(labels, budget)
        except InfeasibleError as error:
            return self.encode(labels, error.smallest_bytes)

    def decode(self, encoded: Encoded, rows: Sequence[int] | None = None) -> torch.Tensor:
        """[n, len(rows), C]."""
        return self.decode_by(self._module, encoded, rows)

    def decode_by(self, module: ModuleType, encoded: Encoded, rows: Sequence[int] | None = None) -> torch.Tensor:
        """The same by another copy of the module."""
        extra = {"shared": encoded.shared} if self._shares else {}
        logits: torch.Tensor = module.decode(encoded.blob, rows=rows, **extra)
        return logits

    def stored(self, encoded: Encoded, views: int) -> np.ndarray:
        """int64: the views that `decode` can give."""
        if not hasattr(self._module, "rows"):
            return np.arange(views)
        return np.asarray(self._module.rows(encoded.blob), dtype=np.int64)

    def error(self, encoded: Encoded, logits: np.ndarray) -> float:
        """Squared error of the stored views, as a share of their squared norm."""
        wide = logits[:, self.stored(encoded, logits.shape[1])].astype(np.float64)
        return float(((self.decode(encoded).double().numpy() - wide) ** 2).sum() / (wide**2).sum())

    def largest_gap(self, encoded: Encoded, logits: np.ndarray) -> float:
        """Largest absolute error of the stored views, as a share of the largest magnitude (of 1 where all are 0)."""
        wide = logits[:, self.stored(encoded, logits.shape[1])].astype(np.float64)
        return float(np.abs(self.decode(encoded).double().numpy() - wide).max() / (np.abs(wide).max() or 1.0))


def _survey(labels: SoftLabels, views: Sequence[int]) -> Iterator[SoftLabels]:
    """Of a set whose only shard this is."""
    n = labels.shape[0]
    shown = [labels.views[k] for k in views] if len(labels.views) else []
    images = np.arange(n) if labels.images is None else labels.images
    yield SoftLabels(labels.logits[:, list(views)], labels.hard, shown, images)


def tried(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """What a call returns, or the error that it ends with."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return error


def damaged(encoded: Encoded) -> Iterator[tuple[str, Encoded]]:
    """(what was done, the result): a bit flipped here and there, or the end cut off, of blob and shared part."""
    for field in ("blob", "shared"):
        whole: bytes = getattr(encoded, field)
        if not whole:
            continue
        for number, place in enumerate(np.linspace(0, len(whole) - 1, FLIPS).astype(int).tolist()):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << number % 8
            yield (
                f"bit {number % 8} of byte {place} of the {field} flipped",
                replace(encoded, **{field: bytes(flipped)}),
            )
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            yield f"the {field} cut to {length} of {len(whole)} bytes", replace(encoded, **{field: whole[:length]})
