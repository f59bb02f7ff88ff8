"""CUR decomposition: some columns and rows of each image's K x C logits, by leverage, and a least-squares core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import factors
from methods._codec import labels as shared
from methods._codec.container import Specs, pack, packed_size, unpack
from methods._codec.lowrank import leverage_scores

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Mahoney and Drineas 2009, CUR matrix decompositions for improved data analysis"
CODEC = "cur"
_CUTOFF = 1e-3  # singular values of C and R below this share of the largest are noise of float16
_LEFT_BITS = 22  # of a column's entry when rows are decoded; see `decode`


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    pick: str = "top",
    energy: float = 0.25,
    centre: bool = True,
) -> bytes:
    """C U R of each image with as many columns as rows, m, the same for all images and the largest that fits.

    C and R are columns and rows of the matrix as stored (float16); U = C^+ A R^+ is fitted to them after rounding, and
    kept in float32, since its entries are large and cancel.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: gives the draw of columns and rows.
        pick: "sampled": without replacement, with probability proportional to leverage; "top": the largest leverages.
        energy: share of the squared norm in the subspace whose leverage counts, 0..1.
        centre: decompose what the mean row leaves over, and store the mean row too (2 C bytes): then no image can come
            back worse than its mean label.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
        InfeasibleError: one column and one row per image do not fit.
    """
    if pick not in ("sampled", "top"):
        raise ValueError(f"pick: {pick!r} is not one of sampled, top")
    if not 0 < energy <= 1:
        raise ValueError(f"energy: must be in (0, 1], got {energy}")
    values = shared.checked_logits(labels)
    n, k, c = values.shape
    exponents = shared.norm_exponents(values)
    coded = shared.encode_exponents(exponents)

    def size(m: int) -> int:
        specs: Specs = {"m": ("<u2", 1), "e": ("u1", coded.size), "M": ("<f2", n * c if centre else 0)}
        specs |= {"C": ("<f2", n * k * m), "U": ("<f4", n * m * m), "R": ("<f2", n * m * c)}
        return packed_size(CODEC, (n, k, c), specs)

    m = shared.largest_feasible(size, 1, min(k, c), budget_bytes, "one column and one row of every image")
    # Keys of an exponential race: sorting by key / score draws without replacement, and m + 1 picks contain m picks.
    generator = ctx.numpy("columns and rows") if pick == "sampled" else None
    row_keys, column_keys = (np.ones(side) if generator is None else _keys(generator, side) for side in (k, c))
    parts: list[tuple[np.ndarray, ...]] = []
    for start, chunk in shared.chunks(values):
        data = shared.scaled(chunk, -exponents[start : start + len(chunk)])
        mean = data.mean(1).astype(np.float16) if centre else np.zeros((len(data), 0), np.float16)
        if centre:
            data = data - mean[:, None, :].astype(np.float64)
        row_scores, column_scores = leverage_scores(data, energy)
        columns = np.take_along_axis(data, _first(column_scores, column_keys, m)[:, None, :], 2).astype(np.float16)
        rows = np.take_along_axis(data, _first(row_scores, row_keys, m)[:, :, None], 1).astype(np.float16)
        inverse = np.linalg.pinv(columns.astype(np.float64), rcond=_CUTOFF)
        core = inverse @ data @ np.linalg.pinv(rows.astype(np.float64), rcond=_CUTOFF)
        parts.append((mean, columns, core.astype(np.float32), rows))
    mean, columns, core, rows = (np.concatenate(part).ravel() for part in zip(*parts, strict=True))
    sections = {"m": np.array([m], "<u2"), "e": coded, "M": mean, "C": columns, "U": core, "R": rows}
    return pack(CODEC, (n, k, c), sections)


def _keys(generator: np.random.Generator, size: int) -> np.ndarray:
    return np.asarray(generator.exponential(size=size))


def _first(scores: np.ndarray, keys: np.ndarray, m: int) -> np.ndarray:
    """int64 [b, m]: where keys / scores is smallest, lowest index first among equals."""
    race = np.divide(keys, scores, out=np.full(scores.shape, np.inf), where=scores > 0)
    return np.argsort(race, axis=1, kind="stable")[:, :m]


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all.

    C[rows] (U R) in float64 with both operands rounded to fixed point, so that the sums are exact and a row has the
    same bits whichever rows are asked for.
    """
    container = unpack(blob, CODEC)
    n, k, c = container.shape
    stored = container.sections
    picked = shared.checked_rows(rows, k)
    m = int(stored["m"][0])
    core = torch.from_numpy(stored["U"].astype(np.float64)).reshape(n, m, m)
    right = torch.bmm(core, torch.from_numpy(stored["R"].astype(np.float64)).reshape(n, m, c))
    # Columns are below 1 in magnitude; 53 bits hold the product of two grids and the carries of m terms.
    largest = right.abs().amax((1, 2), keepdim=True).numpy()
    step = torch.from_numpy(np.exp2(np.frexp(largest)[1] - (52.0 - _LEFT_BITS - m.bit_length())))
    right = torch.round(right / step) * step
    left = torch.from_numpy(stored["C"].reshape(n, k, m)[:, picked].astype(np.float64))
    left = torch.round(left * 2**_LEFT_BITS) / 2**_LEFT_BITS
    exact = torch.bmm(left, right)
    if stored["M"].size:
        exact += torch.from_numpy(stored["M"].astype(np.float64)).reshape(n, 1, c)
    return factors.restored(exact, shared.decode_exponents(stored["e"], n))
