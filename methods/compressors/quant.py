"""Uniform quantisation: 8 to 2 bits a value, a scale and a zero point for each row; range coded or zstd if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.errors import InfeasibleError
from methods._codec import domain as domains
from methods._codec import factors, uniform
from methods._codec import labels as shared
from methods._codec.container import Container, Specs, pack, packed_size

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Uniform scalar quantisation, asymmetric, per row; Gray and Neuhoff 1998, Quantization"
CODEC = "quant"
_BITS = range(2, 9)


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    bits: int = 0,
    coder: str = "none",
    domain: str = "logits",
    temperature: float = 1.0,
) -> bytes:
    """All values in the same number of bits; 4 bytes a row for its scale and zero point.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: not used.
        bits: 2..8; 0: as many as the budget holds.
        coder: "none"; "range": codes in as many bits as they carry information, by their frequencies in the shard; or
            "zstd", which finds repetitions as well. Never longer than "none", which is taken where it is shorter.
        domain: "logits", or "probabilities" at the temperature (see `methods/_codec/domain.py`).
        temperature: T of the probabilities.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
        InfeasibleError: 2 bits, or the number asked for, do not fit.
    """
    if bits and bits not in _BITS:
        raise ValueError(f"bits: must be in 2..8, or 0 for what fits best; got {bits}")
    if coder not in uniform.CODERS:
        raise ValueError(f"coder: {coder!r} is not one of {', '.join(uniform.CODERS)}")
    logits = shared.checked_logits(labels)

    def plain(values: np.ndarray, budget: int) -> bytes:
        return _encode(values, budget, [bits] if bits else list(reversed(_BITS)), coder)

    return _STORED.encode(logits, budget_bytes, domain, temperature, plain)


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    return _STORED.decode(blob, rows)


def invalid(blob: bytes) -> tuple[int, int]:
    """(negative values, rows whose sum was not one) of approximated probabilities, see `methods/_codec/domain.py`."""
    return _STORED.invalid(blob)


def _encode(values: np.ndarray, budget_bytes: int, widths: list[int], coder: str) -> bytes:
    """The first of the widths that fits."""
    n, k, c = values.shape
    peaks = np.abs(values).reshape(n, -1).max(1).astype(np.float64)
    exponents = np.where(peaks > 0, np.frexp(peaks)[1], 0)
    coded = shared.encode_exponents(exponents)
    sizes = []
    for width in widths:
        size = _plain_size((n, k, c), coded.size, width)
        if size <= budget_bytes or coder != "none":
            blob = _blob(values, exponents, width, coder)
            size = len(blob)
            if size <= budget_bytes:
                return blob
        sizes.append(size)
    raise InfeasibleError(min(sizes), f"the coarsest codes take more than the {budget_bytes} bytes left")


def _plain_size(shape: tuple[int, int, int], exponent_bytes: int, bits: int) -> int:
    n, k, c = shape
    specs: Specs = {"e": ("u1", exponent_bytes), "m": ("<f2", n * k), "d": ("<f2", n * k), "b": ("u1", 1)}
    return packed_size(CODEC, shape, specs | {"q": ("u1", (n * k * c * bits + 7) // 8)})


def _blob(values: np.ndarray, exponents: np.ndarray, bits: int, coder: str) -> bytes:
    parts = [
        uniform.quantise(shared.scaled(chunk, -exponents[start : start + len(chunk)]), bits)
        for start, chunk in shared.chunks(values)
    ]
    codes, low, step = (np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "low", "step"))
    sections = {"e": shared.encode_exponents(exponents), "m": low.ravel(), "d": step.ravel()}
    return pack(CODEC, values.shape, sections | uniform.sections(codes, bits, coder))


def _restored(container: Container, rows: np.ndarray) -> torch.Tensor:
    n, k, c = container.shape
    stored = container.sections
    codes = uniform.read(stored, n, k, c, rows)
    low, step = (stored[name].reshape(n, k)[:, rows] for name in ("m", "d"))
    exact = torch.from_numpy(uniform.restore(codes, low, step))
    return factors.restored(exact, shared.decode_exponents(stored["e"], n))


_STORED = domains.Stored(CODEC, _restored)
