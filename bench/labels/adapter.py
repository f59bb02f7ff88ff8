"""Adapter of compressors: it hands their functions what they take, and checks what they return."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import numpy as np

from bench.api import SoftLabels, Survey
from bench.errors import PluginError


def takes_shared(compressor: ModuleType) -> bool:
    """Whether the compressor has a part that all images share: it defines `fit`.

    Raises PluginError if its `encode` or `decode` has no parameter `shared` to be handed that part.
    """
    if not hasattr(compressor, "fit"):
        return False
    for name in ("encode", "decode"):
        if "shared" not in inspect.signature(getattr(compressor, name)).parameters:
            raise PluginError(
                f"compressor '{compressor.__name__.rpartition('.')[2]}' defines fit(...), so {name}(...) "
                f"must take `shared`, the bytes that fit returned."
            )
    return True


def takes_survey(compressor: ModuleType) -> bool:
    """Whether the compressor's `fit` has a parameter `survey`."""
    return hasattr(compressor, "fit") and "survey" in inspect.signature(compressor.fit).parameters


def invalid(compressor: ModuleType, blob: bytes | memoryview) -> tuple[int, int] | None:
    """What `invalid(blob)` tells, checked: (negative probabilities, rows of them whose sum is not one). None where the
    compressor does not count. Raises PluginError, or what the compressor raises."""
    if not hasattr(compressor, "invalid"):
        return None
    counts = compressor.invalid(blob)
    if (
        isinstance(counts, tuple)
        and len(counts) == 2
        and all(isinstance(n, int | np.integer) and n >= 0 for n in counts)
    ):
        return int(counts[0]), int(counts[1])
    raise PluginError(
        f"compressor '{compressor.__name__.rpartition('.')[2]}': invalid(blob) must return two whole numbers, of "
        f"negative values and of rows that do not sum to one; it returned {counts!r}."
    )


def fit(
    compressor: ModuleType,
    labels: SoftLabels,
    allowance: int,
    ctx: Any,
    survey: Survey | None = None,
    **params: Any,
) -> bytes:
    """What all shards share, checked: bytes, and within the allowance. `survey`: of the whole set, where `labels` are
    one of several shards. Where not even the views' parameters fit, the allowance is below zero: nothing is shared, and
    `encode` tells what it would need. Raises PluginError, or what the compressor raises."""
    allowance = max(allowance, 0)
    extra = {"survey": survey} if takes_survey(compressor) else {}
    return _checked(compressor, "fit", compressor.fit(labels, allowance, ctx, **extra, **params), allowance)


def encode(compressor: ModuleType, labels: SoftLabels, allowance: int, ctx: Any, shared: bytes, **params: Any) -> bytes:
    """One shard's blob, checked: bytes, and within the allowance; where the views' parameters alone take more than the
    budget, none are left. Raises PluginError, or what the compressor raises."""
    allowance = max(allowance, 0)
    extra = {"shared": shared} if takes_shared(compressor) else {}
    blob = compressor.encode(labels, allowance, ctx, **extra, **params)
    return _checked(compressor, "encode", blob, allowance)


def _checked(compressor: ModuleType, function: str, returned: Any, allowance: int) -> bytes:
    name = compressor.__name__.rpartition(".")[2]
    if not isinstance(returned, bytes):
        raise PluginError(f"compressor '{name}': {function}(...) must return bytes, not {type(returned).__name__}.")
    if len(returned) > allowance and getattr(compressor, "TAKES_BUDGET", True):
        raise PluginError(
            f"compressor '{name}': {function}(...) returned {len(returned)} bytes for a budget of {allowance}. It must "
            f"stay within the budget or raise bench.errors.InfeasibleError(smallest_bytes)."
        )
    return returned
