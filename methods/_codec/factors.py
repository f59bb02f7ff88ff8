"""Storage of per-image low-rank factors: how many ranks a budget buys, their sections, decoding by rows.

Decoding is exact: a stored factor is a multiple of 2^-24 (float16, or int8 times a float16 scale), the matrices were
scaled to Frobenius norm < 1 and the factors are balanced, so every partial sum of products is a multiple of 2^-48 of
magnitude at most about 1 and float64 holds it without rounding. Hence a row has the same bits whichever rows are asked
for, on any number of threads and with any BLAS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from methods._codec import bits, labels
from methods._codec.container import Container, Specs, pack, packed_size
from methods._codec.lowrank import working_dtype

Decompose = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]]  # as lowrank.truncated_svd
FACTORS = ("fp16", "int8")


@dataclass(frozen=True)
class Factors:
    """Quantised factors of n matrices, padded to one rank R. Scales are None for fp16."""

    left: np.ndarray  # [n, K, R] float16 or int8
    right: np.ndarray  # [n, R, C]
    left_scale: np.ndarray | None = None  # float16 [n, R]
    right_scale: np.ndarray | None = None

    @classmethod
    def join(cls, parts: list[Factors]) -> Factors:
        """One after the other along the first axis."""
        first = parts[0]
        if first.left_scale is None:
            return cls(np.concatenate([p.left for p in parts]), np.concatenate([p.right for p in parts]))
        columns = zip(*[(p.left, p.right, p.left_scale, p.right_scale) for p in parts], strict=True)
        return cls(*(np.concatenate(column) for column in columns))


def quantise(left: np.ndarray, right: np.ndarray, factor: str) -> Factors:
    """float16, or int8 with one float16 scale per component (rounded first, then used)."""
    if factor == "fp16":
        return Factors(left.astype(np.float16), right.astype(np.float16))
    if factor != "int8":
        raise ValueError(f"factor: {factor!r} is not one of {', '.join(FACTORS)}")
    codes, scales = [], []
    for values, axis in ((left, 1), (right, 2)):
        scale = (np.abs(values).max(axis) / 127).astype(np.float16)
        step = np.expand_dims(scale.astype(np.float64), axis)
        code = np.divide(values, step, out=np.zeros(values.shape), where=step > 0)
        codes.append(np.clip(np.rint(code), -127, 127).astype(np.int8))
        scales.append(scale)
    return Factors(*codes, *scales)


def specs(n: int, total: int, spread: int, height: int, width: int, factor: str) -> Specs:
    """Sections of `total` components over n matrices whose ranks differ by at most `spread`."""
    kind = "<f2" if factor == "fp16" else "i1"
    result: Specs = {
        "r": ("u1", bits.encoded_uints_size(n, spread)),
        "U": (kind, total * height),
        "V": (kind, total * width),
    }
    return result if factor == "fp16" else result | {"u": ("<f2", total), "v": ("<f2", total)}


def sections(factors: Factors, ranks: np.ndarray) -> dict[str, np.ndarray]:
    """The sections that `specs` announces: matrices in order of (rank, index), each cut to its rank."""
    order = np.argsort(ranks, kind="stable")

    def flat(take: Callable[[int, int], np.ndarray]) -> np.ndarray:
        return np.concatenate([take(int(i), int(ranks[i])).ravel() for i in order])

    result = {
        "r": bits.encode_uints(ranks),
        "U": flat(lambda i, r: factors.left[i, :, :r]),
        "V": flat(lambda i, r: factors.right[i, :r]),
    }
    left_scale, right_scale = factors.left_scale, factors.right_scale
    if left_scale is not None and right_scale is not None:
        result["u"] = flat(lambda i, r: left_scale[i, :r])
        result["v"] = flat(lambda i, r: right_scale[i, :r])
    return result


def product(stored: Mapping[str, np.ndarray], n: int, height: int, width: int, rows: np.ndarray) -> torch.Tensor:
    """float64 [n, len(rows), width]: these rows of left @ right for each matrix. Cost grows with len(rows)."""
    ranks = bits.decode_uints(stored["r"], n)
    out = torch.empty(n, len(rows), width, dtype=torch.float64)
    at = 0  # components passed
    for rank in np.unique(ranks):
        images = np.flatnonzero(ranks == rank)
        end = at + len(images) * int(rank)
        stack = stored["U"][at * height : end * height].reshape(len(images), height, rank)
        left = _wide(stack if len(rows) == height and (rows == np.arange(height)).all() else stack[:, rows])
        right = _wide(stored["V"][at * width : end * width].reshape(len(images), rank, width))
        if "u" in stored:
            left *= _wide(stored["u"][at:end].reshape(len(images), 1, rank))
            right *= _wide(stored["v"][at:end].reshape(len(images), rank, 1))
        if len(images) == n:
            return torch.bmm(left, right, out=out)
        out[torch.from_numpy(images)] = torch.bmm(left, right)
        at = end
    return out


def _wide(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values)).double()  # a copy: sections are read-only and may be unaligned


def encode(codec: str, values: np.ndarray, budget_bytes: int, factor: str, decompose: Decompose) -> bytes:
    """A blob of per-image factors that uses `budget_bytes` as far as whole components go.

    Rule: the largest rank r that all images can have; what is left buys one more component each for the images that
    gain the most energy by it. Every image has at least rank 1.

    Args:
        codec: name in the header.
        values: [n, K, C], checked.
        budget_bytes: total for the n images.
        factor: "fp16" or "int8".
        decompose: chunk [b, K, C] at Frobenius norm < 1, rank -> left, right, singular values.

    Raises:
        InfeasibleError: rank 1 for every image is above the budget.
    """
    if factor not in FACTORS:
        raise ValueError(f"factor: {factor!r} is not one of {', '.join(FACTORS)}")
    n, height, width = values.shape
    shape = (n, height, width)
    exponents = labels.norm_exponents(values)
    coded = labels.encode_exponents(exponents)

    def size(total: int) -> int:
        spread = 1 if total % n else 0
        return packed_size(codec, shape, {"e": ("u1", coded.size)} | specs(n, total, spread, height, width, factor))

    highest = min(height, width)
    rank = labels.largest_feasible(lambda r: size(r * n), 1, highest, budget_bytes, "rank 1 for every image")
    extra = 0
    if rank < highest and n > 1 and size(rank * n + 1) <= budget_bytes:
        extra = labels.largest_feasible(lambda m: size(rank * n + m), 1, n - 1, budget_bytes, "")
    parts, gains = [], []
    for start, chunk in labels.chunks(values):
        inverse = -exponents[start : start + len(chunk)]
        left, right, singular = decompose(
            labels.scaled(chunk, inverse, working_dtype(height, width)), rank + (1 if extra else 0)
        )
        parts.append(quantise(left, right, factor))
        gains.append(np.ldexp(singular[:, -1].astype(np.float64), -inverse.astype(np.int32)))
    ranks = np.full(n, rank)
    ranks[np.argsort(-np.concatenate(gains), kind="stable")[:extra]] += 1
    return pack(codec, shape, {"e": coded} | sections(Factors.join(parts), ranks))


def decode(container: Container, rows: np.ndarray) -> torch.Tensor:
    """float32 [n, len(rows), C] from a blob of `encode`."""
    n, height, width = container.shape
    exact = product(container.sections, n, height, width, rows)
    return restored(exact, labels.decode_exponents(container.sections["e"], n))


def restored(exact: torch.Tensor, exponents: np.ndarray) -> torch.Tensor:
    """float32: `exact` [n, m, C] float64 times 2^exponents [n]; overwrites `exact`."""
    scale = torch.from_numpy(np.ldexp(1.0, exponents.astype(np.int32)))
    return exact.mul_(scale[:, None, None]).float()
