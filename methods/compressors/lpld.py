"""Label pruning: a random subset of whole views, or of stored batches, is kept in float16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import batches as stored_batches
from methods._codec import bits, raw
from methods._codec import labels as shared
from methods._codec.batches import Batches
from methods._codec.container import Container, Specs, pack, packed_size, unpack

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Xiao and He 2024, Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation? (LPLD)"
PUBLISHED = {"unit": "batch", "order": "first", "kept": {"10x": 0.1, "20x": 0.05, "30x": 0.03, "40x": 0.025}}
CODEC = "lpld"
UNITS = ("row", "batch")
ORDERS = ("random", "first")


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context, *, unit: str = "row", order: str = "random") -> bytes:
    """As many whole units as the budget holds.

    What is kept is the pool. How training draws from it is the protocol's business: with replacement, in lpld-v1 and
    wherever something was pruned.

    Args:
        labels: logits [n, K, C]; with unit="batch" the views as well.
        budget_bytes: total for the n images, header included.
        ctx: gives the permutation of the units, of which the first m are kept; it depends on seed and number of units
            alone, so shards keep the same ones, but for the last few that one has room for and another has not.
        unit: "row", a view of all images; or "batch", a stored batch of a view, as published: its crops, its partners
            and its labels stay together.
        order: "random"; or "first" for the units that were stored first (LPLD's code keeps those of the first epochs,
            and since all views are drawn alike, which ones does not matter to a student).

    Raises:
        ValueError: a value that is not finite, an unknown unit or order, batches of views that have none.
        InfeasibleError: one unit does not fit.
    """
    if unit not in UNITS:
        raise ValueError(f"unit: {unit!r} is not one of {', '.join(UNITS)}")
    if order not in ORDERS:
        raise ValueError(f"order: {order!r} is not one of {', '.join(ORDERS)}")
    values = shared.checked_logits(labels)
    if unit == "batch":
        return _by_batch(values, stored_batches.of_labels(labels), budget_bytes, ctx, order)
    n, k, c = values.shape
    permutation = ctx.numpy("views").permutation(k) if order == "random" else np.arange(k)
    index = _index(k)
    exponents = shared.fp16_exponents(values)
    coded: Specs = {"e": ("u1", shared.encode_exponents(exponents).size)} if exponents.any() else {}

    def size(m: int) -> int:
        specs: Specs = {"k": (index, m), "X": ("<f2", n * m * c)}
        return packed_size(CODEC, (n, k, c), specs | coded)

    views = np.sort(permutation[: shared.largest_feasible(size, 1, k, budget_bytes, "one view of every image")])
    return pack(CODEC, (n, k, c), {"k": views.astype(index)} | raw.sections(values[:, views], exponents))


def _by_batch(values: np.ndarray, units: Batches, budget_bytes: int, ctx: Context, order: str) -> bytes:
    """Sections b (numbers of the batches), s (how many of these images each has), v (the views), n (the images), and
    the rows, batch by batch."""
    n, k, c = values.shape
    if len(units.views) != k:
        raise ValueError(f"unit: the labels have {k} rows an image and {len(units.views)} views, which must be as many")
    total = k * units.per_view
    permutation = ctx.numpy("batches").permutation(total) if order == "random" else np.arange(total)
    sizes = units.sizes()
    rows = np.concatenate([[0], np.cumsum(sizes[permutation])])
    spread = np.maximum.accumulate(sizes[permutation]) - np.minimum.accumulate(sizes[permutation])
    index = _index(total)
    numbers = units.numbers if (np.diff(units.numbers) != 1).any() else units.numbers[:1]
    fixed: dict[str, np.ndarray] = {
        "v": np.frombuffer(units.views.to_bytes(), np.uint8),
        "n": numbers.astype(np.uint32),
    }
    exponents = shared.fp16_exponents(values)
    coded: Specs = {"e": ("u1", shared.encode_exponents(exponents).size)} if exponents.any() else {}

    def size(m: int) -> int:
        specs: Specs = {name: (part.dtype, part.size) for name, part in fixed.items()}
        counts = ("u1", bits.encoded_uints_size(m, int(spread[m - 1])))
        return packed_size(CODEC, (n, k, c), specs | {"b": (index, m), "s": counts, "X": ("<f2", rows[m] * c)} | coded)

    kept = np.sort(permutation[: shared.largest_feasible(size, 1, total, budget_bytes, "one stored batch")])
    parts = []
    for view in np.unique(kept // units.per_view):
        place = units.places(int(view))
        by_batch = np.argsort(place, kind="stable")
        in_pool = np.isin(place[by_batch], kept - view * units.per_view)
        picked = by_batch[in_pool]
        parts.append(shared.scaled(values[picked, view], -exponents[picked], np.float16))
    stored = fixed | {"b": kept.astype(index), "s": bits.encode_uints(sizes[kept])}
    if exponents.any():
        stored["e"] = shared.encode_exponents(exponents)
    return pack(CODEC, (n, k, c), stored | {"X": np.concatenate(parts).ravel()})


def rows(blob: bytes) -> np.ndarray:
    """int64, ascending: the views that are stored of all images; with unit="batch" those whose batches all are."""
    return _views(unpack(blob, CODEC))


def batches(blob: bytes) -> np.ndarray | None:
    """int64 [m, 2]: (view, batch of that view) of each stored batch, ascending; None where whole views are stored."""
    container = unpack(blob, CODEC)
    if "b" not in container.sections:
        return None
    return np.stack(np.divmod(container.sections["b"].astype(np.int64), _units(container).per_view), axis=1)


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; None stands for the views of `rows(blob)` in ascending order.

    With unit="batch" a view of which some batches are stored can be asked for: what was pruned of it is NaN.

    Raises:
        ValueError: a view of which nothing is stored; the message names it.
    """
    container = unpack(blob, CODEC)
    n, k, c = container.shape
    views = _views(container)
    picked = views if rows is None else shared.checked_rows(rows, k)
    if "b" in container.sections:
        return _read_batches(container, picked)
    at = np.minimum(np.searchsorted(views, picked), len(views) - 1)
    missing = picked[views[at] != picked]
    if missing.size:
        raise _pruned(missing, views)
    return raw.read(container.sections, n, len(views), c, at)


def _read_batches(container: Container, picked: np.ndarray) -> torch.Tensor:
    n, _, c = container.shape
    units, sections = _units(container), container.sections
    kept = sections["b"].astype(np.int64)
    ends = np.cumsum(bits.decode_uints(sections["s"], len(kept)))
    values = sections["X"].reshape(-1, c)
    scale = shared.decode_exponents(sections["e"], n) if "e" in sections else np.zeros(n, np.int64)
    out = np.full((n, len(picked), c), np.nan, np.float32)
    for column, view in enumerate(picked):
        first, last = np.searchsorted(kept, [view * units.per_view, (view + 1) * units.per_view])
        if first == last:
            raise _pruned(picked[column:], np.unique(kept // units.per_view))
        place = units.places(int(view))
        by_batch = np.argsort(place, kind="stable")
        images = by_batch[np.isin(place[by_batch], kept[first:last] - view * units.per_view)]
        own = values[(ends[first - 1] if first else 0) : ends[last - 1]]
        out[images, column] = shared.scaled(own, scale[images], np.float32)
    return torch.from_numpy(out)


def _views(container: Container) -> np.ndarray:
    if "b" not in container.sections:
        return container.sections["k"].astype(np.int64)
    units = _units(container)
    view, count = np.unique(container.sections["b"].astype(np.int64) // units.per_view, return_counts=True)
    return view[count == units.per_view]


def _units(container: Container) -> Batches:
    numbers = container.sections["n"].astype(np.int64)
    n = container.shape[0]
    views = stored_batches.views_of(container.sections["v"].tobytes())
    return Batches(views, numbers if len(numbers) == n else numbers[0] + np.arange(n))


def _index(units: int) -> np.dtype:
    return np.dtype("u1" if units <= 1 << 8 else "<u2" if units <= 1 << 16 else "<u4")


def _pruned(missing: np.ndarray, stored: np.ndarray) -> ValueError:
    return ValueError(f"rows: view {int(missing[0])} was pruned, stored are {stored.tolist()}")
