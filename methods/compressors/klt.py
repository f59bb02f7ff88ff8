"""Variable-rate transform coding of the logits in a basis that all images share, trellis-quantised, range coded."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.augment import View, Views
from bench.errors import InfeasibleError
from methods._codec import labels as common
from methods._codec.container import CorruptBlobError, unpack
from methods._codec.klt import basis as bases
from methods._codec.klt import blob as blobs
from methods._codec.klt import fit as fitting
from methods._codec.klt import side as sides
from methods._codec.klt import survey as surveys
from methods._codec.klt.basis import Basis
from methods._codec.klt.codec import Coded, Scaled, Source
from methods._codec.klt.search import finest
from methods._codec.klt.side import Side
from methods._codec.wholeset import images_of

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels, Survey

CITATION = "transform coding: Goyal 2001; entropy-coded trellis-coded quantisation: Fischer and Wang 1992"
_SHARED_MOST = 0.5  # of the budget: a basis that takes more leaves labels nothing
_SHARED_LITTLE = 0.02  # of the budget: a basis that takes less is not put to the test
_TRIED_ON = 1 << 22  # values of a set that is small enough to be coded twice
_FITTED_ON = 1 << 25  # values that a basis is fitted on at most


def fit(labels: SoftLabels, budget_bytes: int, ctx: Context, *, survey: Survey | None = None) -> bytes:
    """The mean label, a basis as large and as precise as pays for the whole set, and the views, if they can be redrawn;
    of a set that is coded in several shards, the means of all images too, so that every partner is predicted.

    Args:
        labels: logits [n, K, C] of some images of the set.
        budget_bytes: for the whole set, what is returned included.
        ctx: not used.
        survey: see bench.api.Survey. A few views of all images are asked for where views mix images: they tell means
            of images, and in which directions rows vary.

    Returns:
        bytes; none at all where a basis would take more than half of the budget, or does not pay.

    Raises:
        ValueError: a value that is not finite.
    """
    values = common.checked_logits(labels)
    n, k, c = values.shape
    images = images_of(labels)
    some = np.unique(np.linspace(0, n - 1, min(n, max(1, _FITTED_ON // (k * c)))).astype(int))
    exponent = _exponent(values)
    numbers = np.arange(n) if labels.images is None else labels.images
    side = sides.plain(len(some), k)
    if len(labels.views):
        side = sides.from_views(labels.views, numbers[some])
    known, residuals = None, None
    if survey is not None and len(labels.views) and _mixes(labels.views, surveys.asked_of(k)):
        centre = fitting.centre_of(_scaled(values, exponent, some))
        known, residuals = surveys.means_and_residuals(survey, images, k, exponent, centre, numbers[some])
    basis = fitting.fit(_scaled(values, exponent, some), side, exponent, budget_bytes, images * k, residuals)
    views = labels.views.to_bytes() if isinstance(labels.views, Views) else b""
    shared = basis.to_bytes(views)
    if len(shared) > _SHARED_MOST * budget_bytes:
        return b""
    if known is not None:
        side = sides.from_views(labels.views, numbers[some], known.__getitem__)
        other = fitting.fit(_scaled(values, exponent, some), side, exponent, budget_bytes, images * k, residuals)
        room, sample = budget_bytes - len(views), _scaled(values, exponent, some)
        chosen = surveys.with_means(basis, other, known, sample, labels.views, numbers[some], room)
        shared = chosen.to_bytes(views)
    # The rate-distortion function knows nothing of an image's own low-rank part, which needs no basis: where a basis is
    # a good share of the budget, both are tried.
    tried = n == images and len(shared) > _SHARED_LITTLE * budget_bytes and n * k * c <= _TRIED_ON
    return b"" if tried and not _pays(labels, budget_bytes, ctx, shared) else shared


def _mixes(views: Sequence[View], some: Sequence[int]) -> bool:
    return any(views[k].partner is not None for k in some)


def _pays(labels: SoftLabels, budget_bytes: int, ctx: Context, shared: bytes) -> bool:
    """Whether the whole set comes back closer with `shared`, its bytes taken off the budget, than without."""
    errors = []
    for basis in (shared, b""):
        try:
            blob = encode(labels, budget_bytes - len(basis), ctx, shared=basis)
        except InfeasibleError:
            errors.append(np.inf)
            continue
        back = decode(blob, shared=basis, views=labels.views).numpy()
        errors.append(float(np.square(back - labels.logits.numpy().astype(np.float64)).sum()))
    return errors[0] <= errors[1]


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context, *, shared: bytes = b"") -> bytes:
    """All images with one step, about the finest that the budget allows: that is reverse water-filling over images,
    rows and components.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: not used.
        shared: from `fit`; without it classes are coded as they are, and no view's partner is predicted.

    Raises:
        ValueError: a value that is not finite; `shared` is of another number of classes.
        InfeasibleError: the coarsest step does not fit.
    """
    values = common.checked_logits(labels)
    n, k, c = values.shape
    exponent = _exponent(values)
    basis = _basis(shared, c, exponent)
    side = sides.plain(n, k)
    extra: dict[str, np.ndarray] = {"c": _checksum(shared)} if shared else {}
    if shared and len(labels.views):
        numbers = np.arange(n) if labels.images is None else np.asarray(labels.images, np.int64)
        side = sides.from_views(labels.views, numbers, basis.means_of)
        extra["n"] = (numbers if (np.diff(numbers) != 1).any() else numbers[:1]).astype(np.uint32)
    group = blobs.views_per_stream(budget_bytes, values.shape)
    source = Source(Scaled(values, exponent), side, basis, group)

    def blob(coded: Coded) -> bytes:
        return blobs.to_bytes(coded, source, extra)

    return finest(source, blob, budget_bytes, blobs.overhead(source, extra))


def decode(
    blob: bytes,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    shared: bytes = b"",
    views: Sequence[View] | None = None,
) -> torch.Tensor:
    """float32 [n, len(rows), C].

    Args:
        blob: from `encode`.
        rows: view indices 0..K-1, None for all.
        shared: what `encode` was given.
        views: what `encode` was given in `labels`; read only where `shared` does not hold them.

    Raises:
        CorruptBlobError: a damaged blob, or one that was coded with another shared part.
        ValueError: a row out of range; views are needed and not given.
    """
    container = unpack(blob, blobs.CODEC)
    if not np.array_equal(container.sections.get("c", _checksum(b"")), _checksum(shared)):
        raise CorruptBlobError(
            "shared: the label blob was coded with another shared part; pass the one of its label file"
        )
    n, k, c = container.shape
    picked = common.checked_rows(rows, k)
    stored = container.sections.get("n")

    def side_of(some: np.ndarray, basis: Basis) -> Side:
        if stored is None:
            return sides.plain(n, len(some))
        given = views if views is not None else _views(basis.views)
        if len(given) != k:
            raise ValueError(
                f"views: the blob was coded with {k} views that it does not hold, {len(given)} are given; pass those "
                f"that `encode` was given"
            )
        numbers = stored.astype(np.int64) if len(stored) == n else stored.astype(np.int64)[0] + np.arange(n)
        return sides.from_views([given[view] for view in some], numbers, basis.means_of)

    decoded = blobs.read(container, lambda exponent: _basis(shared, c, exponent), side_of, picked)
    return torch.from_numpy(decoded)


def _checksum(shared: bytes) -> np.ndarray:
    return np.array([zlib.crc32(shared)], np.uint32)


def _basis(shared: bytes, classes: int, exponent: int) -> Basis:
    if not shared:
        return bases.identity(classes, exponent)
    basis = bases.from_bytes(shared)
    if basis.classes != classes:
        raise ValueError(f"shared: was fitted on {basis.classes} classes, the labels have {classes}")
    return basis.rescaled(exponent)


@lru_cache(maxsize=2)
def _views(stored: bytes) -> Sequence[View]:
    return Views.from_bytes(stored) if stored else ()


def _exponent(values: np.ndarray) -> int:
    """The least e with every magnitude below 2^e; 0 for zeros."""
    return int(np.frexp(max(float(values.max()), -float(values.min())))[1])


def _scaled(values: np.ndarray, exponent: int, images: np.ndarray) -> np.ndarray:
    """float32 [m, K, C]: these images, relative to 2^exponent."""
    scaled, found = Scaled(values, exponent), np.empty((len(images), *values.shape[1:]), np.float32)
    for place, image in enumerate(images):
        found[place] = scaled[image]
    return found
