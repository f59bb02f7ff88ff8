"""Product quantisation: a few bytes for each row, which name centroids in a basis that all images share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.errors import InfeasibleError
from methods._codec import codebooks, sharedpart
from methods._codec import domain as domains
from methods._codec import labels as common
from methods._codec.codebooks import Codebooks, Plan
from methods._codec.container import Container, Specs, pack, packed_size
from methods._codec.wholeset import images_of

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = (
    "Jegou, Douze and Schmid 2011, Product quantization for nearest neighbor search; Ge et al. 2013 for the groups"
)
CODEC = "pq"
_COUNT: Specs = {"n": ("<u2", 1)}  # groups that are coded
_FITTED_ON = 8192  # rows at most
_SPARE = 16  # bytes of each shard: the label file has headers of its own


def fit(
    labels: SoftLabels, budget_bytes: int, ctx: Context, *, domain: str = "logits", temperature: float = 1.0
) -> bytes:
    """Mean row, basis and codebooks, as large as lowers the expected error of the whole set.

    Args:
        labels: logits [n, K, C] of some images of the set.
        budget_bytes: for the whole set, what is returned included.
        ctx: seeds k-means.
        domain, temperature: as of `encode`.

    Returns:
        bytes; none at all where no codebooks fit besides the codes of all images.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
    """
    values = domains.entered(common.checked_logits(labels), domain, temperature)
    n, k, c = values.shape
    images = images_of(labels)
    shards = -(-images // n)
    besides = sharedpart.REFERENCE | _COUNT | domains.blob_specs(domain)

    def size(plan: Plan) -> int:
        blob = packed_size(CODEC, (n, k, c), besides | plan.code_specs(n, n * k))
        own = packed_size(CODEC, (n, k, c), plan.specs(c, rows_fitted(n, k)) | domains.shared_specs(domain))
        return own + shards * (blob + _SPARE)

    books, _ = _fitted(values, size, budget_bytes, ctx)
    return b"" if books is None else pack(CODEC, (n, k, c), books.sections() | domains.told(domain, temperature))


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    domain: str = "logits",
    temperature: float = 1.0,
    shared: bytes = b"",
) -> bytes:
    """One code for each group of components of each row.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: seeds k-means where there is nothing shared.
        domain: "logits", or "probabilities" at the temperature (see `methods/_codec/domain.py`).
        temperature: T of the probabilities.
        shared: from `fit`; without it the blob holds codebooks of its own.

    Raises:
        ValueError: a value that is not finite, an argument out of its range; `shared` is of another number of classes,
            or of another domain.
        InfeasibleError: one code for each row does not fit.
    """
    logits = common.checked_logits(labels)
    domains.check(domain, temperature)
    if shared:
        domains.require(sharedpart.opened(CODEC, shared, logits.shape[2]), domain, temperature)

    def plain(values: np.ndarray, budget: int) -> bytes:
        return _encode(values, budget, ctx, shared)

    return _stored(shared).encode(logits, budget_bytes, domain, temperature, plain)


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
    return _stored(shared).decode(blob, rows)


def invalid(blob: bytes) -> tuple[int, int]:
    """(negative values, rows whose sum was not one) of approximated probabilities, see `methods/_codec/domain.py`."""
    return _stored(b"").invalid(blob)


def _encode(values: np.ndarray, budget_bytes: int, ctx: Context, shared: bytes) -> bytes:
    n, k, c = values.shape
    if shared:
        books = Codebooks.read(sharedpart.opened(CODEC, shared, c).sections)
        head = sharedpart.reference(shared)

        def size(count: int) -> int:
            return packed_size(CODEC, (n, k, c), sharedpart.REFERENCE | _COUNT | books.specs(n, n * k, count))

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


def _stored(shared: bytes) -> domains.Stored:
    return domains.Stored(CODEC, partial(_restored, shared=shared))


def _restored(container: Container, rows: np.ndarray, shared: bytes) -> torch.Tensor:
    n, k, _ = container.shape
    groups = int(container.sections["n"][0])
    found = Codebooks.read(sharedpart.sections(CODEC, container, shared)).rows(container.sections, n, k, groups, rows)
    return torch.from_numpy(found.astype(np.float32))
