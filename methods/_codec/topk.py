"""The k largest classes of every row, k the same for all rows: chosen, coded and read back by rows.

The classes of a row are a set: l low bits of each class, and k + ((C - 1) >> l) bits of unary steps for the high parts
(Elias-Fano), or a map of C bits, whichever is shortest; nothing at all where every class is kept. Every row takes the
same number of bits, so that any row is found without an index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from methods._codec import bits, labels
from methods._codec.container import Specs


def largest(values: np.ndarray, k: int) -> np.ndarray:
    """int64 [..., k], ascending: the classes of the k largest values [..., C]; the lower class first among equals."""
    if k == values.shape[-1]:
        return np.broadcast_to(np.arange(k), values.shape).copy()
    order = np.argsort(-values.astype(np.float64), axis=-1, kind="stable")
    return np.sort(order[..., :k], axis=-1)


def affordable(size: Callable[[int], int], c: int, wanted: int, budget_bytes: int, what: str) -> int:
    """The k that a budget buys.

    Args:
        size: bytes for a k in 1..c; does not fall up to c - 1. All c classes may take less, since they need no indices.
        c: classes.
        wanted: a k that is asked for; 0 for the largest that fits.
        budget_bytes: for everything that `size` counts.
        what: the smallest code, for the message.

    Raises:
        ValueError: `wanted` is not in 0..c.
        InfeasibleError: the smallest k, or the one wanted, is above the budget.
    """
    if not 0 <= wanted <= c:
        raise ValueError(f"k: must be in 1..{c} (the classes), or 0 for as many as fit; got {wanted}")
    if wanted:
        labels.require(size(wanted), budget_bytes, f"{wanted} classes of each row")
        return wanted
    if size(c) <= budget_bytes:
        return c
    labels.require(min(size(1), size(c)), budget_bytes, what)
    return labels.largest_feasible(size, 1, c - 1, budget_bytes, what)


def _layout(k: int, c: int) -> tuple[int, int]:
    """(low bits of a class, bits of a row's unary steps, or of its map where there are no low bits)."""
    if k == c:
        return 0, 0
    best = (0, c)
    for low in range(1, bits.width_of(c - 1) + 1):
        last = (c - 1) >> low
        steps = k + last if last else 0  # without high parts there is nothing to tell
        if k * low + steps < k * best[0] + best[1]:
            best = low, steps
    return best


def specs(rows: int, k: int, c: int) -> Specs:
    """Sections of `sections` for this many rows."""
    low, steps = _layout(k, c)
    return {
        "h": ("u1", (rows * steps + 7) // 8),
        "l": ("u1", (rows * k * low + 7) // 8),
        "x": ("<f2", rows * k),
    }


def sections(columns: np.ndarray, values: np.ndarray, c: int) -> dict[str, np.ndarray]:
    """Sections h (high parts), l (low parts), x (values).

    Args:
        columns: int64 [rows, k], ascending in each row.
        values: float16 [rows, k].
        c: classes.
    """
    count, k = columns.shape
    low, steps = _layout(k, c)
    high = np.zeros((count, steps), np.uint8)
    if steps:
        np.put_along_axis(high, (columns >> low) + _ahead(k, low), 1, axis=1)
    return {
        "h": np.packbits(high.ravel(), bitorder="little"),
        "l": bits.pack((columns & ((1 << low) - 1)).ravel(), low),
        "x": values.astype(np.float16).ravel(),
    }


def read(stored: Mapping[str, np.ndarray], rows: np.ndarray, k: int, c: int) -> tuple[np.ndarray, np.ndarray]:
    """(classes int64 [m, k], values float64 [m, k]) of these rows, int64 [m], counted over the whole shard."""
    low, steps = _layout(k, c)
    values = stored["x"].reshape(-1, k)[rows].astype(np.float64)
    if k == c:
        return np.broadcast_to(np.arange(c), values.shape), values
    at = rows[:, None] * k + np.arange(k)
    columns = bits.take(stored["l"], at.ravel() * low, low).reshape(at.shape)
    if steps:
        unary = bits.read_bits(stored["h"], rows[:, None] * steps + np.arange(steps))
        high = np.nonzero(unary)[1].reshape(at.shape) - _ahead(k, low)
        columns = columns | high << low
    return columns, values


def _ahead(k: int, low: int) -> np.ndarray:
    """int64 [k]: how far the ones before it push each class' one; not at all in a map."""
    return np.arange(k) if low else np.zeros(k, np.int64)


def flat_rows(n: int, k: int, rows: np.ndarray) -> np.ndarray:
    """int64 [n * len(rows)]: places of these views of every image, image by image, among the n * k rows of a shard."""
    return (np.arange(n)[:, None] * k + rows).reshape(-1)
