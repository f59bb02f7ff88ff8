"""A shard as low rank plus sparse per image, within a budget: what `rpca` and `godec` store alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from methods._codec import factors, labels, sparse
from methods._codec.container import Container, pack
from methods._codec.split import Split, share_bits

Divide = Callable[[np.ndarray, int], Split]  # [b, K, C] at Frobenius norm < 1, bits for each image -> the parts


def encode(codec: str, values: np.ndarray, budget_bytes: int, divide: Divide) -> bytes:
    """A blob in which every image takes the same share of the budget, divided as `divide` chooses.

    Args:
        codec: name in the header.
        values: [n, K, C], checked.
        budget_bytes: total for the n images.
        divide: the parts of the images of a chunk.

    Raises:
        InfeasibleError: rank 1 of L with an empty S, for every image, is above the budget.
    """
    n, k, c = values.shape
    exponents = labels.norm_exponents(values)
    coded = labels.encode_exponents(exponents)
    share = share_bits(codec, (n, k, c), coded.size, budget_bytes)
    ranks, parts, entries = [], [], []
    for start, chunk in labels.chunks(values):
        found = divide(labels.scaled(chunk, -exponents[start : start + len(chunk)]), share)
        ranks.append(found.ranks)
        parts.append(found.factors)
        entries += found.entries
    low = factors.sections(factors.Factors.join(parts), np.concatenate(ranks))
    return pack(codec, (n, k, c), {"e": coded} | low | sparse.sections(entries, k, c))


def decode(container: Container, rows: np.ndarray) -> torch.Tensor:
    """float32 [n, len(rows), C] from a blob of `encode`."""
    n, k, c = container.shape
    exact = factors.product(container.sections, n, k, c, rows)
    sparse.add_rows(exact, container.sections, k, rows)
    return factors.restored(exact, labels.decode_exponents(container.sections["e"], n))
