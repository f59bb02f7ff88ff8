"""All images of a set from a few views of each: their means, how precisely it pays to keep these, and in which
directions rows vary about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array, eye_array
from scipy.sparse.linalg import LinearOperator, cg

from bench.augment import View
from bench.errors import InfeasibleError
from methods._codec import labels as common
from methods._codec.container import unpack
from methods._codec.klt import blob as blobs
from methods._codec.klt import fit as fitting
from methods._codec.klt import setmeans
from methods._codec.klt import side as sides
from methods._codec.klt.basis import Basis
from methods._codec.klt.codec import Coded, Source
from methods._codec.klt.search import finest
from methods._codec.klt.side import Side
from methods._codec.klt.spectrum import Moment
from methods._codec.klt.steps import PER_OCTAVE

if TYPE_CHECKING:
    from bench.api import Survey

_SHARE = 12  # one view in so many is asked for, ...
_FEWEST = 16  # ... at least so many: with s views, noise is 1.5 / s of what an image's rows vary by
_RIDGE = 0.5  # as in `fit.means`
_CLOSE = 1e-3  # relative to the right side: noise is more
_MOST = 100  # iterations; about ten are used
_IMAGES = 8  # that the table is tried on, at least, ...
_VALUES = 1 << 22  # ... and so many that they have about so many values
_OCTAVES = (0, 1, 2, 3, 4)  # by which its step is finer than that of rows: those that are tried


class LeastSquares:
    """Collects rows of a set; a row is taken for lambda of its image's mean and the rest of its partner's."""

    def __init__(self, images: int, classes: int) -> None:
        self._normal = csr_array((images, images))
        self._target = np.zeros((images, classes), np.float32)
        self._squares, self._rows = np.zeros((classes, classes)), 0

    def add(self, values: np.ndarray, side: Side, images: np.ndarray) -> None:
        """Some views of some images.

        Args:
            values: float32 [n, s, C], relative to the mean of all.
            side: lambda of these rows; `partner` indexes the set, -1 where there is none.
            images: int64 [n], their indices in the set.
        """
        n, s, c = values.shape
        rows, own = np.arange(n * s), np.repeat(images, s)
        lam, partner = side.lam.ravel(), side.partner.ravel()
        mixed = partner >= 0
        shown = np.concatenate([lam, 1 - lam[mixed]])
        seen, column = np.unique(np.concatenate([own, partner[mixed]]), return_inverse=True)
        shares = coo_array((shown, (np.concatenate([rows, rows[mixed]]), column)), shape=(n * s, len(seen))).tocsr()
        flat = values.reshape(n * s, c)
        self._target[seen] += shares.T @ flat
        self._squares += flat.T @ flat
        self._rows += n * s
        among = (shares.T @ shares).tocoo()
        places = seen[among.row], seen[among.col]
        self._normal = self._normal + coo_array((among.data, places), shape=self._normal.shape).tocsr()

    def means(self) -> np.ndarray:
        """float32 [N, C]: the same system for all classes, by conjugate gradients."""
        shape, size = self._target.shape, self._target.size
        matrix = (self._normal + _RIDGE * eye_array(shape[0])).tocsr().astype(np.float32)
        operator = LinearOperator((size, size), lambda x: (matrix @ x.reshape(shape)).ravel(), dtype=np.float32)
        found, _ = cg(operator, self._target.ravel(), rtol=_CLOSE, maxiter=_MOST)
        return found.reshape(shape)

    def residuals(self, means: np.ndarray) -> Moment:
        """Of the rows less what `means`, float32 [N, C], say of them; any means, not only those that fit best."""
        told = means.T @ self._target
        return Moment(self._squares - told - told.T + means.T @ (self._normal.astype(np.float32) @ means), self._rows)


def means_and_residuals(
    survey: Survey, images: int, views: int, exponent: int, centre: np.ndarray, sample: np.ndarray
) -> tuple[np.ndarray, Moment]:
    """What some of the K views say of all images.

    Args:
        survey: of the set.
        images, views: how many the set has.
        exponent: results are relative to 2^exponent, moments to its square.
        centre: float32 [C], the mean of all rows.
        sample: int64, images whose rows the moment is not to have.

    Returns:
        float32 [images, C], the images' means less `centre`, and the moment of rows less what means say of them.
    """
    collected, inside = (LeastSquares(images, len(centre)) for _ in range(2))
    for part in survey(asked_of(views)):
        assert part.images is not None
        try:
            logits = common.checked_logits(part)
        except ValueError as error:
            first, last = part.images[[0, -1]]
            raise ValueError(f"of images {first} to {last}, some views of a survey: {error}") from None
        values = logits.astype(np.float32)
        fitting.centred(np.ldexp(values, -exponent, out=values), centre)
        lam, partner = sides.mixtures(part.views, part.images)
        collected.add(values, Side(lam, partner), part.images)
        ours = np.isin(part.images, sample)
        inside.add(values[ours], Side(lam[ours], partner[ours]), part.images[ours])
    means = collected.means()
    return means, collected.residuals(means).less(inside.residuals(means))


def asked_of(views: int) -> list[int]:
    """Which of K views a survey asks for."""
    count = min(views, max(_FEWEST, views // _SHARE))
    return np.unique(np.linspace(0, views - 1, count).astype(int)).tolist()


def with_means(
    without: Basis,
    basis: Basis,
    surveyed: np.ndarray,
    values: np.ndarray,
    views: Sequence[View],
    numbers: np.ndarray,
    room: int,
) -> Basis:
    """`basis` with the means of all images, as precise as pays best; `without` them, if none pays.

    Args:
        without, basis: of the set, fitted without and with what the survey says of partners.
        surveyed: float32 [N, C], from `means_and_residuals`.
        values: float32 [n, K, C], rows of some images, relative to 2^exponent; they are overwritten.
        views: of the set.
        numbers: int64 [n], indices of these images in the set.
        room: bytes for the set, what all images share included.
    """
    without, basis = without.rounded(), basis.rounded()
    n, k, c = values.shape
    known = basis.project(surveyed)
    lam, mixed_in = sides.mixtures(views, numbers)
    some = np.unique(np.linspace(0, n - 1, min(n, max(_IMAGES, _VALUES // (k * c)))).astype(int))
    tried_on = values[some]
    assert np.array_equal(without.mean, basis.mean)  # both were fitted on these rows
    rows = fitting.centred(values, basis.mean.astype(np.float32)).reshape(n * k, c)

    def exact_in(one: Basis, means_of: Callable[[np.ndarray], np.ndarray] | None) -> np.ndarray:
        side = sides.from_mixtures(lam, mixed_in, numbers, means_of)
        return fitting.means(one.project(rows).reshape(n, k, -1), side, one)

    exact = exact_in(basis, known.__getitem__)
    # What the survey says of a coefficient is drawn to zero as far as it is noise.
    agreed = fitting.smooth(np.maximum((known[numbers] * exact).mean(0), 0))
    trust = agreed / np.maximum(fitting.smooth(np.square(known[numbers]).mean(0)), 1e-30)
    known = known * np.minimum(trust, 1).astype(np.float32)
    here = {int(number): place for place, number in enumerate(numbers)}

    def tried(one: Basis, exact: np.ndarray) -> tuple[float, int]:
        """With the partners that a shard knows by itself, those of the n images, as exactly as it does."""
        table = one.everyone

        def means_of(images: np.ndarray) -> np.ndarray:
            found = np.zeros((len(images), one.size), np.float32) if table is None else table.of(images, one.exponent)
            inside = np.isin(images, numbers) & ~np.isin(images, numbers[some])
            found[inside] = exact[[here[int(image)] for image in images[inside]]]
            return found

        mixed = mixed_in[some] if table is not None else np.where(np.isin(mixed_in[some], numbers), mixed_in[some], -1)
        left = (room - len(one.to_bytes())) * len(some) / len(surveyed)
        return _tried(tried_on, sides.from_mixtures(lam[some], mixed, numbers[some], means_of), one, int(left))

    best, index = tried(without, exact_in(without, None))
    chosen, scales = without, fitting.scales_of(known)
    for octaves in _OCTAVES:
        everyone = setmeans.code(known, scales, max(0, index + octaves * PER_OCTAVE), basis.exponent)
        left = fitting.scales_of(exact - everyone.values[numbers])
        candidate = replace(basis, everyone=everyone, means=left)
        error, _ = tried(candidate, exact)
        if error < best:
            best, chosen = error, candidate
        elif chosen is not without:
            break  # a finer table costs more than it helps
    return chosen


def _tried(values: np.ndarray, side: Side, basis: Basis, room: int) -> tuple[float, int]:
    """Squared error of these images coded in `room` bytes, and the step's index; infinity where they do not fit."""
    source = Source(values, side, basis, blobs.views_per_stream(room, values.shape))
    steps = []

    def blob(coded: Coded) -> bytes:
        steps.append(coded.index)
        return blobs.to_bytes(coded, source, {})

    try:
        data = finest(source, blob, room, blobs.overhead(source, {}))
    except InfeasibleError:
        return np.inf, 0
    found = blobs.read(
        unpack(data, blobs.CODEC), lambda _: basis, lambda at, _: side.at(at), np.arange(values.shape[1])
    )
    error = np.ldexp(found, -basis.exponent) - values
    error -= error.mean(2, keepdims=True)
    return float(np.square(error, dtype=np.float64).sum()), steps[-1]
