"""CUR decomposition: some columns and rows of each image's K x C logits, by leverage, and a least-squares core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import bits, factors
from methods._codec import domain as domains
from methods._codec import labels as shared
from methods._codec.container import Container, Specs, pack, packed_size
from methods._codec.lowrank import leverage_scores

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Mahoney and Drineas 2009, CUR matrix decompositions for improved data analysis"
CODEC = "cur"
_CUTOFF = 1e-3  # singular values of C and R below this share of the largest are noise of float16
_LEFT_BITS = 22  # of a column's entry when rows are decoded; see `_product`


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    pick: str = "top",
    energy: float = 0.5,
    centre: bool = True,
    domain: str = "logits",
    temperature: float = 1.0,
) -> bytes:
    """C U R of each image: columns, rows, and the core that fits them best.

    C and R are columns and rows of the matrix as stored (float16); U = C^+ A R^+ is fitted to them after rounding, and
    kept in float32, since its entries are large and cancel. Picks are added one by one to the side on which fewer bytes
    were spent; every image gets the same number of picks, and what is left buys one more for those that gain the most.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: gives the draw of columns and rows.
        pick: "top": the largest leverages; "sampled": without replacement, with probability proportional to leverage.
        energy: share of the squared norm in the subspace whose leverage counts, in (0, 1].
        centre: decompose what the mean row leaves over, and store the mean row too (2 C bytes): then no image can come
            back worse than its mean label.
        domain: "logits", or "probabilities" at the temperature (see `methods/_codec/domain.py`).
        temperature: T of the probabilities.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
        InfeasibleError: one column and one row per image do not fit.
    """
    if pick not in ("sampled", "top"):
        raise ValueError(f"pick: {pick!r} is not one of sampled, top")
    if not 0 < energy <= 1:
        raise ValueError(f"energy: must be in (0, 1], got {energy}")
    logits = shared.checked_logits(labels)

    def plain(values: np.ndarray, budget: int) -> bytes:
        return _encode(values, budget, ctx.numpy("columns and rows") if pick == "sampled" else None, energy, centre)

    return _STORED.encode(logits, budget_bytes, domain, temperature, plain)


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    return _STORED.decode(blob, rows)


def invalid(blob: bytes) -> tuple[int, int]:
    """(negative values, rows whose sum was not one) of approximated probabilities, see `methods/_codec/domain.py`."""
    return _STORED.invalid(blob)


def _encode(
    values: np.ndarray, budget_bytes: int, generator: np.random.Generator | None, energy: float, centre: bool
) -> bytes:
    """`generator`: draws the columns and rows; None: the largest leverages."""
    n, k, c = values.shape
    exponents = shared.norm_exponents(values)
    coded = shared.encode_exponents(exponents)
    path = _path(k, c)

    def size(total: int) -> int:
        """Bytes when all images together took `total` steps of the path, spread evenly."""
        step, ahead = divmod(total, n)
        shapes = [(n - ahead, *path[step])] + ([(ahead, *path[step + 1])] if ahead else [])
        specs: Specs = {"e": ("u1", coded.size), "t": ("u1", bits.encoded_uints_size(n, 1 if ahead else 0))}
        specs |= {"M": ("<f2", n * c if centre else 0), "C": ("<f2", sum(b * k * m for b, m, _ in shapes))}
        specs |= {
            "U": ("<f4", sum(b * m * p for b, m, p in shapes)),
            "R": ("<f2", sum(b * p * c for b, _, p in shapes)),
        }
        return packed_size(CODEC, (n, k, c), specs)

    last = len(path) - 1
    step = shared.largest_feasible(lambda s: size(s * n), 0, last, budget_bytes, "one column and one row of each image")
    ahead = 0
    if step < last and n > 1 and size(step * n + 1) <= budget_bytes:
        ahead = shared.largest_feasible(lambda a: size(step * n + a), 1, n - 1, budget_bytes, "")
    # Keys of an exponential race: in order of key / score the first m are a draw of m without replacement, so that more
    # picks contain fewer.
    row_keys, column_keys = (np.ones(s) if generator is None else _keys(generator, s) for s in (k, c))
    means, fits, better, gains = [], [], [], []
    for start, chunk in shared.chunks(values):
        data = shared.scaled(chunk, -exponents[start : start + len(chunk)])
        mean = data.mean(1).astype(np.float16) if centre else np.zeros((len(data), 0), np.float16)
        if centre:
            data -= mean[:, None, :]
        row_scores, column_scores = leverage_scores(data, energy)
        order = _race(column_scores, column_keys), _race(row_scores, row_keys)
        means.append(mean)
        fits += _fit(data, *order, *path[step])
        if ahead:
            better += _fit(data, *order, *path[step + 1])
        scale = np.ldexp(1.0, 2 * exponents[start : start + len(chunk)].astype(np.int32))
        gains += (
            [scale[i] * (fits[start + i].error - better[start + i].error) for i in range(len(chunk))] if ahead else []
        )
    steps = np.full(n, step)
    chosen = np.argsort(-np.array(gains), kind="stable")[:ahead]
    steps[chosen] += 1
    for image in chosen:
        fits[image] = better[image]
    ordered = [fits[image] for image in np.argsort(steps, kind="stable")]
    sections = {
        "e": coded,
        "t": bits.encode_uints(steps),
        "M": np.concatenate(means).ravel(),
        "C": np.concatenate([fit.columns.ravel() for fit in ordered]),
        "U": np.concatenate([fit.core.ravel() for fit in ordered]),
        "R": np.concatenate([fit.rows.ravel() for fit in ordered]),
    }
    return pack(CODEC, (n, k, c), sections)


@dataclass(frozen=True)
class _Cur:
    """One image's C [K, m] and R [p, C] (float16), U [m, p] (float32), and the squared error."""

    columns: np.ndarray
    core: np.ndarray
    rows: np.ndarray
    error: float


def _path(k: int, c: int) -> list[tuple[int, int]]:
    """(columns, rows) after 0, 1, 2, ... further picks, to the side with fewer bytes, up to full rank."""
    side = min(k, c)
    m, p = 1, 1
    path = [(m, p)]
    while m < side or p < side:
        if p == side or (m < side and (m + 1) * k <= (p + 1) * c):
            m += 1
        else:
            p += 1
        path.append((m, p))
    return path


def _keys(generator: np.random.Generator, size: int) -> np.ndarray:
    return np.asarray(generator.exponential(size=size))


def _race(scores: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """int64 [b, size]: order of keys / scores, lowest index first among equals."""
    finish = np.divide(keys, scores, out=np.full(scores.shape, np.inf), where=scores > 0)
    return np.argsort(finish, axis=1, kind="stable")


def _fit(data: np.ndarray, columns: np.ndarray, rows: np.ndarray, m: int, p: int) -> list[_Cur]:
    """The first m of the ordered `columns` and p of the `rows` of each matrix, with the core U = C^+ A R^+."""
    c = np.take_along_axis(data, columns[:, None, :m], 2).astype(np.float16)
    r = np.take_along_axis(data, rows[:, :p, None], 1).astype(np.float16)
    wide_c, wide_r = c.astype(np.float64), r.astype(np.float64)
    core = np.linalg.pinv(wide_c, rcond=_CUTOFF) @ data @ np.linalg.pinv(wide_r, rcond=_CUTOFF)
    core = core.astype(np.float32)
    error = ((data - wide_c @ (core @ wide_r)) ** 2).sum((1, 2))
    return [_Cur(*parts) for parts in zip(c, core, r, error.tolist(), strict=True)]


def _restored(container: Container, rows: np.ndarray) -> torch.Tensor:
    """float32 [n, len(rows), C]."""
    n, k, c = container.shape
    stored = container.sections
    steps, path = bits.decode_uints(stored["t"], n), _path(k, c)
    exact = torch.empty(n, len(rows), c, dtype=torch.float64)
    at = [0, 0, 0]
    for step in np.unique(steps):
        images = np.flatnonzero(steps == step)
        m, p = path[step]
        parts = []
        for i, (name, height, width) in enumerate((("C", k, m), ("U", m, p), ("R", p, c))):
            end = at[i] + len(images) * height * width
            parts.append(stored[name][at[i] : end].reshape(len(images), height, width))
            at[i] = end
        exact[torch.from_numpy(images)] = _product(parts[0][:, rows], parts[1], parts[2])
    if stored["M"].size:
        exact += torch.from_numpy(stored["M"].astype(np.float64)).reshape(n, 1, c)
    return factors.restored(exact, shared.decode_exponents(stored["e"], n))


def _product(columns: np.ndarray, core: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """C (U R) in float64 with both operands rounded to fixed point: the sums are exact, so that a row has the same bits
    whichever rows are asked for."""
    left, middle, right = (torch.from_numpy(part.astype(np.float64)) for part in (columns, core, rows))
    right = torch.bmm(middle, right)
    # Entries of C are below 1 in magnitude; 53 bits hold the product of two grids and the carries of m terms.
    largest = right.abs().amax((1, 2), keepdim=True).numpy()
    step = torch.from_numpy(np.ldexp(1.0, np.frexp(largest)[1] - (52 - _LEFT_BITS - left.shape[2].bit_length())))
    left = torch.round(left * 2**_LEFT_BITS) / 2**_LEFT_BITS
    return torch.bmm(left, torch.round(right / step) * step)


_STORED = domains.Stored(CODEC, _restored)
