"""Product quantisation: a few bytes for each row, which name centroids in a basis that all images share."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.errors import InfeasibleError
from methods._codec import codebooks
from methods._codec import labels as common
from methods._codec.codebooks import Codebooks, Plan
from methods._codec.container import Container, CorruptBlobError, Specs, pack, packed_size, unpack
from methods._codec.wholeset import images_of

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = (
    "Jegou, Douze and Schmid 2011, Product quantization for nearest neighbor search; Ge et al. 2013 for the groups"
)
CODEC = "pq"
_COUNT: Specs = {"n": ("<u2", 1)}  # groups that are coded
_REFERENCE: Specs = {"s": ("<u4", 1)} | _COUNT  # s: checksum of the shared part that a blob was made with
_FITTED_ON = 8192  # rows at most
_SPARE = 16  # bytes of each shard: the label file has headers of its own


def fit(labels: SoftLabels, budget_bytes: int, ctx: Context) -> bytes:
    """Mean row, basis and codebooks, as large as lowers the expected error of the whole set.

    Args:
        labels: logits [n, K, C] of some images of the set.
        budget_bytes: for the whole set, what is returned included.
        ctx: seeds k-means.

    Returns:
        bytes; none at all where no codebooks fit besides the codes of all images.

    Raises:
        ValueError: a value that is not finite.
    """
    values = common.checked_logits(labels)
    n, k, c = values.shape
    images = images_of(labels)
    shards = -(-images // n)

    def size(plan: Plan) -> int:
        blob = packed_size(CODEC, (n, k, c), _REFERENCE | plan.code_specs(n, n * k))
        return packed_size(CODEC, (n, k, c), plan.specs(c, rows_fitted(n, k))) + shards * (blob + _SPARE)

    books, _ = _fitted(values, size, budget_bytes, ctx)
    return b"" if books is None else pack(CODEC, (n, k, c), books.sections())


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context, *, shared: bytes = b"") -> bytes:
    """One code for each group of components of each row.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: seeds k-means where there is nothing shared.
        shared: from `fit`; without it the blob holds codebooks of its own.

    Raises:
        ValueError: a value that is not finite; `shared` is of another number of classes.
        InfeasibleError: one code for each row does not fit.
    """
    values = common.checked_logits(labels)
    n, k, c = values.shape
    if shared:
        books = _shared(shared, c)
        head = {"s": np.array([zlib.crc32(shared)], np.uint32)}

        def size(count: int) -> int:
            return packed_size(CODEC, (n, k, c), _REFERENCE | books.specs(n, n * k, count))

        groups = common.largest_feasible(size, 1, len(books.groups), budget_bytes, "one code for each row")
    else:

        def whole(plan: Plan) -> int:
            own = plan.specs(c, rows_fitted(n, k)) | plan.code_specs(n, n * k) | _COUNT
            return packed_size(CODEC, (n, k, c), own)

        found, smallest = _fitted(values, whole, budget_bytes, ctx)
        if found is None:
            raise InfeasibleError(smallest, f"the smallest codebooks take more than the {budget_bytes} bytes left")
        books, groups, head = found, len(found.groups), found.sections()
    coded = [books.code(books.scaled(chunk), groups) for _, chunk in common.chunks(values)]
    centres, scales, codes = (np.concatenate(parts) for parts in zip(*coded, strict=True))
    parts = head | {"n": np.array([groups], np.uint16)} | books.code_sections(centres, scales, codes)
    return pack(CODEC, (n, k, c), parts)


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None, *, shared: bytes = b"") -> torch.Tensor:
    """float32 [n, len(rows), C].

    Args:
        blob: from `encode`.
        rows: view indices 0..K-1, None for all.
        shared: what `encode` was given.

    Raises:
        CorruptBlobError: a damaged blob, or one that was made with another shared part.
        ValueError: a row out of range.
    """
    container = unpack(blob, CODEC)
    n, k, _ = container.shape
    picked = common.checked_rows(rows, k)
    books = _books(container, shared)
    groups = int(container.sections["n"][0])
    return torch.from_numpy(books.rows(container.sections, n, k, groups, picked).astype(np.float32))


def rows_fitted(n: int, k: int) -> int:
    """Rows that codebooks are fitted on: those of as many images as come near `_FITTED_ON`."""
    return len(_sample(n, k)) * k


def _sample(n: int, k: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, max(1, _FITTED_ON // k))).astype(np.int64))


def _fitted(
    values: np.ndarray, size: Callable[[Plan], int], budget_bytes: int, ctx: Context
) -> tuple[Codebooks | None, int]:
    """Codebooks of the plan with the least expected error among those with size(plan) within the budget, None
    where there is none; and the least size of all."""
    n, k, _ = values.shape
    some = values[_sample(n, k)]
    exponent = codebooks.scale_of(some)
    scaled = np.ldexp(some.astype(np.float64), -exponent)
    plan, smallest = codebooks.best_plan(codebooks.spectra(scaled), rows_fitted(n, k), size, budget_bytes)
    if plan is None:
        return None, smallest
    return codebooks.fit(scaled, plan, exponent, int(ctx.numpy("codebooks").integers(2**31))), smallest


def _books(container: Container, shared: bytes) -> Codebooks:
    stored = container.sections
    if "s" not in stored:
        return Codebooks.read(stored)
    if zlib.crc32(shared) != int(stored["s"][0]):
        raise CorruptBlobError("label blob was made with a shared part other than the one given")
    return _shared(shared, container.shape[2])


def _shared(shared: bytes, classes: int) -> Codebooks:
    container = unpack(shared, CODEC)
    if container.shape[2] != classes:
        raise ValueError(f"shared: was fitted on {container.shape[2]} classes, the labels have {classes}")
    return Codebooks.read(container.sections)
