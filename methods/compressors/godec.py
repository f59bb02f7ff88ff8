"""GoDec: each image's K x C logits as low rank plus sparse by alternating projection, both within the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.errors import InfeasibleError
from methods._codec import domain as domains
from methods._codec import factors, godec, sparse
from methods._codec import labels as shared
from methods._codec.container import pack, packed_size, unpack
from methods._codec.split import share_bits

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Zhou and Tao 2011, GoDec: randomized low-rank and sparse matrix decomposition in noisy case"
CODEC = "godec"


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    rounds: int = 4,
    domain: str = "logits",
    temperature: float = 1.0,
) -> bytes:
    """Rank and number of entries are chosen for what they leave over at the image's share of the budget.

    What `rpca` gets by a pursuit that knows no budget and is cut afterwards, this finds within the budget: the blob has
    the same parts and takes a small fraction of the time (see `methods/_codec/godec.py`).

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: not used.
        rounds: alternations at the rank that is chosen.
        domain: "logits", or "probabilities" at the temperature (see `methods/_codec/domain.py`).
        temperature: T; with domain="logits" it is not used.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
        InfeasibleError: rank 1 of L with an empty S does not fit.
    """
    if rounds < 1:
        raise ValueError(f"rounds: must be at least 1, got {rounds}")
    domains.check(domain, temperature)
    values = domains.enter(shared.checked_logits(labels), domain, temperature)
    n, k, c = values.shape
    exponents = shared.norm_exponents(values)
    coded = shared.encode_exponents(exponents)
    extra = packed_size(CODEC, values.shape, domains.specs(domain)) - packed_size(CODEC, values.shape, {})
    try:
        share = share_bits(CODEC, (n, k, c), coded.size, budget_bytes - extra)
    except InfeasibleError as error:
        raise InfeasibleError(error.smallest_bytes + extra, error.why) from None
    ranks, parts, kept = [], [], []
    for start, chunk in shared.chunks(values):
        found = godec.split(shared.scaled(chunk, -exponents[start : start + len(chunk)]), share, rounds)
        ranks.append(found.ranks)
        parts.append(found.factors)
        kept += found.entries
    stored = factors.sections(factors.Factors.join(parts), np.concatenate(ranks)) | sparse.sections(kept, k, c)
    stored = {"e": coded} | stored
    spoilt = np.zeros(2, np.int64)
    if domain == "probabilities":
        for view in range(k):
            spoilt += domains.invalid(_restored(stored, n, k, c, np.array([view])))
    return pack(CODEC, (n, k, c), stored | domains.sections(domain, temperature, spoilt))


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    container = unpack(blob, CODEC)
    n, k, c = container.shape
    stored = container.sections
    return domains.leave(_restored(stored, n, k, c, shared.checked_rows(rows, k)), stored)


def invalid(blob: bytes) -> tuple[int, int]:
    """(values below the floor, rows whose sum was not one) of approximated probabilities; see
    `methods/_codec/domain.py`."""
    return domains.counted(unpack(blob, CODEC).sections)


def _restored(stored: Mapping[str, np.ndarray], n: int, k: int, c: int, rows: np.ndarray) -> torch.Tensor:
    exact = factors.product(stored, n, k, c, rows)
    sparse.add_rows(exact, stored, k, rows)
    return factors.restored(exact, shared.decode_exponents(stored["e"], n))
