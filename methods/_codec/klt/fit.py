"""Fitting what all images share: shares by lambda, the KLT basis, its size and precision for a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from methods._codec.klt.basis import KNOTS, Basis, identity
from methods._codec.klt.side import Side
from methods._codec.klt.spectrum import Moment, best_axes, best_size, lost_beyond, lost_unseen, spectrum, stored_bytes
from methods._codec.klt.tables import UNITS

_RIDGE = 0.5  # a mean seen in rows of little weight is drawn to the mean of all
_PARTS = 3  # of a sample
_ROUNDS = 2  # shares and means are fitted in turns
_AT_A_TIME = 1 << 20  # values of rows that are worked on together
_ROWS_A_MEAN = 2  # that an image's mean counts for, where it tells in which directions rows vary


def means(values: np.ndarray, side: Side, basis: Basis) -> np.ndarray:
    """float32 [n, C]: each image's own mean by least squares, given what each row shows of it and of its partner.

    Args:
        values: float32 [n, K, C], relative to the mean of all.
        side: partners and lambdas.
        basis: gives the shares.
    """
    n, _k, _ = values.shape
    own, other = basis.shares(side.lam), _others(side, basis)
    target = np.empty((n, values.shape[2]))
    for some, rows in _blocks(values, side, other):
        target[some] = np.matmul(own[some, None, :].astype(np.float32), rows)[:, 0]
    normal = np.diag((own**2).sum(1) + _RIDGE)
    image, view = np.nonzero((side.partner >= 0) & (side.partner < n))
    partner, share = side.partner[image, view], other[image, view]
    np.add.at(normal, (partner, partner), share**2)
    cross = own[image, view] * share
    np.add.at(normal, (image, partner), cross)
    np.add.at(normal, (partner, image), cross)
    for some, rows in _blocks(values, side, other):
        mine = slice(*np.searchsorted(image, (some.start, some.stop)))
        np.add.at(target, partner[mine], share[mine, None] * rows[image[mine] - some.start, view[mine]])
    return np.linalg.solve(normal, target).astype(np.float32)


def predict(table: np.ndarray, side: Side, basis: Basis, image: int) -> np.ndarray:
    """[K, D]: what the means in `table` [n + outside, D] say of an image's rows."""
    row = basis.shares(side.lam[image])[:, None] * table[image]
    known = side.partner[image] >= 0
    other = np.where(known, basis.shares(1 - side.lam[image]), 0.0)[:, None]
    return row + other * table[np.where(known, side.partner[image], 0)]


def _others(side: Side, basis: Basis) -> np.ndarray:
    return np.where(side.partner >= 0, basis.shares(1 - side.lam), 0.0)


def _blocks(values: np.ndarray, side: Side, other: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Some images at a time, and their rows float32 [m, K, C] less what partners whose means are given contribute."""
    n, k, c = values.shape
    size = max(1, _AT_A_TIME // (k * c))
    for start in range(0, n, size):
        some = slice(start, min(start + size, n))
        if side.outside is None:
            yield some, values[some]
            continue
        partner = side.partner[some]
        there = partner >= n
        share = np.where(there, other[some], 0.0).astype(np.float32)
        theirs = side.outside[np.where(there, partner - n, 0)]
        theirs *= share[..., None]
        yield some, values[some] - theirs


def shares(values: np.ndarray, side: Side, table: np.ndarray, start: np.ndarray) -> np.ndarray:
    """float64 [KNOTS]: the shares that predict `values` [n, K, C] best from the means `table` [n + outside, C]."""
    n, _k, _ = values.shape
    normal, target = np.eye(KNOTS), start.copy()
    for image in range(n):
        known = side.partner[image] >= 0
        own = _hats(side.lam[image])
        other = _hats(1 - side.lam[image]) * known[:, None]
        partner = table[np.where(known, side.partner[image], 0)]
        mine = np.broadcast_to(table[image], partner.shape)
        for left, one in ((own, mine), (other, partner)):
            target += left.T @ np.einsum("kc,kc->k", values[image], one)
            for right, two in ((own, mine), (other, partner)):
                normal += (left * np.einsum("kc,kc->k", one, two)[:, None]).T @ right
    return np.linalg.solve(normal, target)


def _hats(lam: np.ndarray) -> np.ndarray:
    """[K, KNOTS]: weights of linear interpolation."""
    place = np.clip(lam.astype(np.float64), 0, 1) * (KNOTS - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(KNOTS)))


def fit(
    values: np.ndarray, side: Side, exponent: int, budget_bytes: int, rows: int, others: Moment | None = None
) -> Basis:
    """A basis for labels like these.

    Args:
        values: float32 [n, K, C], divided by 2^exponent; they are overwritten.
        side: partners and lambdas of these rows.
        exponent: of the scale.
        budget_bytes: for the whole label set, this basis included.
        rows: images x views of the whole label set.
        others: of rows of other images of the set, less what means say of them, in the square of the same unit. It may
            turn axes; the subspace is that of the sample.
    """
    c = values.shape[2]
    centre = centre_of(values)
    centred(values, centre)
    basis = replace(identity(c, exponent), mean=centre.astype(np.float64))
    for _ in range(_ROUNDS):
        table = means(values, side, basis)
        everyone = table if side.outside is None else np.concatenate([table, side.outside])
        basis = replace(basis, weights=shares(values, side, everyone, basis.weights))
    table = means(values, side, basis)
    everyone = table if side.outside is None else np.concatenate([table, side.outside])
    seen = float(np.mean(basis.shares(side.lam) ** 2) + np.mean(_others(side, basis) ** 2))
    n, k, _ = values.shape
    # The basis is cut where little is lost. What images lose that it was not fitted on is told by parts of the sample.
    parts = min(_PARTS, n) if rows > n * k else 1
    within, between = np.zeros((parts, c, c)), np.zeros((parts, c, c))
    for image in range(n):
        rest = values[image] - predict(everyone, side, basis, image).astype(np.float32)
        rest -= rest.mean(1, keepdims=True)
        within[image % parts] += rest.T @ rest
    within /= n * k
    for part in range(parts):
        some = everyone[part::parts]
        between[part] = seen * (some.T @ some).astype(np.float64) / len(everyone)
    covariance = within.sum(0)
    # Softmax does not see a constant added to a row, which rows here have lost: it is the last direction to be kept,
    # else it would be mixed into those in which nothing varies.
    whole = covariance + between.sum(0)
    energy, wide = spectrum(whole - np.trace(whole) / c)
    lost = lost_beyond(energy) if parts == 1 else lost_unseen(within + between)
    size, precision = best_size(spectrum(covariance)[0], lost, np.diag(covariance), budget_bytes, rows)
    if not size:
        spread = np.diag(covariance)
        return replace(basis, rows=_units(spread), means=scales_of(table))
    # The subspace holds what means and rows need; its axes are those in which rows are hardly correlated.
    wide = wide[:, :size]
    if rows > n * k:
        counts = [k * len(range(part, n, parts)) for part in range(parts)]
        sample = [Moment(n * k * one, count).along(wide) for one, count in zip(within, counts, strict=True)]
        mixes = [[], [Moment(between.sum(0), _ROWS_A_MEAN * len(everyone)).along(wide)]]
        if others is not None:
            mixes = [[], *([others.along(wide), *mix] for mix in mixes)]
        if parts == 1:  # nothing can be tried
            mixes = mixes[-2:-1]
        room = budget_bytes - stored_bytes(c, size, precision)
        variance, axes = best_axes(sample, mixes, 8 * room / rows)
    else:
        variance, axes = spectrum(wide.T @ covariance @ wide)
    vectors = wide @ axes
    return replace(
        basis,
        vectors=np.rint(vectors.T * 2.0**precision),
        precision=precision,
        rows=_units(variance),
        means=scales_of(everyone @ vectors),
    )


def centre_of(values: np.ndarray) -> np.ndarray:
    """float32 [C]: the mean of all rows of [n, K, C], each less its own mean, as a basis keeps it."""
    return (values - values.mean(2, keepdims=True)).mean((0, 1)).astype(np.float16).astype(np.float32)


def centred(values: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """float32 [n, K, C]: rows less their own means and that of all, in the place of `values`."""
    values -= values.mean(2, keepdims=True)
    values -= centre
    return values


def scales_of(means: np.ndarray) -> np.ndarray:
    """int32 [D]: log2 of the standard deviation of each column of [m, D], units; neighbours smoothed."""
    return _units(smooth(np.square(means).mean(0)))


def _units(variance: np.ndarray) -> np.ndarray:
    floor = max(float(variance.max(initial=0)) * 2.0**-40, 2.0**-100)
    return np.rint(0.5 * UNITS * np.log2(np.maximum(variance, floor))).astype(np.int32)


def smooth(variance: np.ndarray) -> np.ndarray:
    """Running means: few images say little of one coefficient."""
    total = np.concatenate([[0.0], np.cumsum(variance)])
    at = np.arange(len(variance))
    low, high = np.maximum(at - 2 - at // 8, 0), np.minimum(at + 3 + at // 8, len(variance))
    return (total[high] - total[low]) / (high - low)
