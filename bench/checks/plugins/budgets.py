"""Conformance of compressors: bytes. No budget is exceeded, the smallest size is true, and more bytes are no worse."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.api import SoftLabels
from bench.checks.plugins import sample_labels
from bench.checks.plugins.codec import Codec, tried
from bench.checks.plugins.compressors import CompressorSubject
from bench.checks.plugins.kit import NotApplicable, error_text
from bench.errors import InfeasibleError
from bench.trials.budget import reference_bytes

RATIOS = (5, 10, 20, 30, 50, 100, 200)
ODD_SIZES = (1, 7, 61, 257, 1009, 2003, 4099, 7919)  # bytes
EDGES = 4  # sizes that are asked for with a byte less
STEPS = 12  # budgets on the way from 1/60 of the reference to 1.5 times float16
WORSE = 0.001  # by how much more bytes may cost: what is added carries rounding of its own


def budget_is_never_exceeded(subject: CompressorSubject) -> Iterator[str]:
    """Shared part and blob together, from 1/5 to 1/200 of the reference, at odd numbers of bytes, and a byte below the
    sizes that came out."""
    given = sample_labels.labels(sample_labels.ordinary())
    reference = reference_bytes(*sample_labels.SHAPE)
    sizes: set[int] = set()
    with subject.codec() as codec:
        for budget in sorted({reference // ratio for ratio in RATIOS} | set(ODD_SIZES), reverse=True):
            yield from _within(subject, codec, given, budget, sizes)
        for size in sorted(sizes)[:: max(1, len(sizes) // EDGES)]:
            if subject.takes_budget:
                yield from _within(subject, codec, given, size - 1, sizes)
    if not subject.takes_budget and len(sizes) > 1:
        yield f"TAKES_BUDGET is False, and yet the size depends on the budget: {sorted(sizes)} bytes."


def _within(subject: CompressorSubject, codec: Codec, given: SoftLabels, budget: int, sizes: set[int]) -> Iterator[str]:
    try:
        size = len(codec.encode(given, budget))
    except InfeasibleError as error:
        if not subject.takes_budget:
            yield f"TAKES_BUDGET is False, and yet a budget of {budget} bytes is infeasible."
        elif error.smallest_bytes <= budget:
            yield f"{budget} bytes are refused as infeasible, the smallest size being {error.smallest_bytes}."
    except Exception as error:
        ended = error_text(error, subject.plugin)
        yield f"a budget of {budget} bytes ends with {ended}; raise InfeasibleError(smallest_bytes)."
    else:
        sizes.add(size)
        if subject.takes_budget and size > budget:
            yield f"for a budget of {budget} bytes it takes {size}."


def the_smallest_size_is_true(subject: CompressorSubject) -> Iterator[str]:
    """What InfeasibleError names is enough, and a byte less is not."""
    if not subject.takes_budget:
        raise NotApplicable("its size does not depend on a budget")
    for name, logits in (("ordinary", sample_labels.ordinary()), ("constant", sample_labels.degenerate()["constant"])):
        given = sample_labels.labels(logits)
        with subject.codec() as codec:
            refused = tried(codec.encode, given, 1)
            if not isinstance(refused, InfeasibleError):
                if isinstance(refused, Exception):
                    yield f"{name} labels: a budget of one byte ends with {error_text(refused)}; raise InfeasibleError."
                continue
            smallest = refused.smallest_bytes
            enough = tried(codec.encode, given, smallest)
            if isinstance(enough, Exception):
                yield f"{name} labels: {smallest} bytes are named as enough, but end with {error_text(enough)}"
            elif len(enough) > smallest:
                yield f"{name} labels: {smallest} bytes are named as enough, but {len(enough)} are taken."
            less = tried(codec.encode, given, smallest - 1)
            if not isinstance(less, InfeasibleError):
                yield f"{name} labels: {smallest} bytes are named as the smallest size, but {smallest - 1} do as well."


def more_bytes_are_never_worse(subject: CompressorSubject) -> Iterator[str]:
    """Not fewer views; and of as many, a squared error that grows by no more than 0.1 %."""
    if not subject.takes_budget:
        raise NotApplicable("its size does not depend on a budget")
    for spread in (0.6, 0.1):
        given = sample_labels.ordinary(spread)
        before: tuple[int, float, int] | None = None
        with subject.codec() as codec:
            for budget in (
                np.geomspace(reference_bytes(*given.shape) / 60, 1.5 * given.nbytes, STEPS).astype(int).tolist()
            ):
                encoded = tried(codec.encode, sample_labels.labels(given), budget)
                if isinstance(encoded, Exception):
                    continue  # too small, or found by budget_is_never_exceeded
                views, error = len(codec.stored(encoded, given.shape[1])), codec.error(encoded, given)
                if before and views < before[0]:
                    yield f"{budget} bytes hold {views} views, {before[2]} bytes hold {before[0]}."
                elif before and views == before[0] and error > before[1] * (1 + WORSE) + 1e-6:
                    now, then = f"{error:.4g} at {budget} bytes", f"{before[1]:.4g} at {before[2]}"
                    yield f"its squared error, as a share of the squared norm, is {now}, and {then}."
                before = (views, error, budget)
