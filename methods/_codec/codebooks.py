"""Product quantisation in a basis that all rows share: what it takes, how it is fitted, coded and decoded.

A row is a centre plus basis times coefficients; the centre is the mean row of all images, or that of its own image, of
which the coefficients are kept in int8. Coefficients are cut into groups, each coded by the nearest of 2^b centroids
(Jegou, Douze and Schmid 2011). Basis and groups are those of reverse water-filling: bits are given to the principal
components by their variances, and cut where they add up to b (eigenvalue allocation; Ge, He, Ke and Sun 2013, Optimized
product quantization, parametric).

Decoding is exact: mean and basis are float16, centroids and centres are rounded to 2^-20 and rows were scaled below
norm one, so every partial sum of products is a multiple of 2^-44 below 2^6, which float64 holds. A row has the same
bits whichever rows are asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.cluster import KMeans

from methods._codec import bits as packing
from methods._codec.container import Specs

# Bits of a code, and the error of k-means at equal rate as a multiple of that with 8 bits: the fewer components share a
# code, the less well centroids pack space. Logits of 1,000 classes: 1.1 to 1.2 for 4 bits; the others by extrapolation.
CODE_BITS = {8: 1.0, 4: 1.15, 2: 1.3, 1: 1.4}
_ROUNDS = 12  # of k-means: after them the error falls by less than a percent
_GRID = 2.0**20  # of coefficients
_ROWS_PACKED = 4096  # at once; a multiple of eight, so that each piece ends on a byte


@dataclass(frozen=True)
class Spectrum:
    """Principal components of scaled rows, largest first."""

    mean: np.ndarray  # float64 [C]
    centred: bool  # rows are told from their own image's mean
    directions: np.ndarray  # float64 [C, C]
    variances: np.ndarray  # float64 [C]: of what is coded row by row
    between: np.ndarray  # float64 [C]: of the images' means; zeros unless centred


@dataclass(frozen=True)
class Plan:
    """How many bits a code has and which components share one."""

    spectrum: Spectrum
    bits: int
    groups: np.ndarray  # int64 [M]: components in each group, largest variance first
    error: float  # expected, as mean squared norm

    @property
    def components(self) -> int:
        """d, of the basis."""
        return int(self.groups.sum())

    def specs(self, classes: int, rows: int) -> Specs:
        """Sections of `Codebooks.sections` when fitted on this many rows."""
        return {
            "b": ("u1", 2),
            "g": ("<u2", len(self.groups)),
            "e": ("<i2", 1),
            "m": ("<f2", classes),
            "B": ("<f2", classes * self.components),
            "c": ("<f2", min(2**self.bits, rows) * self.components),
        }

    def code_specs(self, images: int, rows: int) -> Specs:
        """Sections of `Codebooks.code_sections` for this many images and rows."""
        return code_specs(images, rows, len(self.groups), self.bits, self.components if self.spectrum.centred else 0)


def code_specs(images: int, rows: int, groups: int, bits: int, centre: int) -> Specs:
    """Sections of the codes: u centres (`centre` components each) with a scale v, q codes."""
    return {
        "u": ("i1", images * centre),
        "v": ("<f2", images if centre else 0),
        "q": ("u1", (rows * groups * bits + 7) // 8),
    }


def spectra(rows: np.ndarray) -> list[Spectrum]:
    """The two ways to tell rows [n, K, C] (scaled): from the mean of all, and from their own image's mean."""
    n, k, c = rows.shape
    mean = rows.mean((0, 1))
    own = rows.mean(1) - mean
    within = (rows - mean - own[:, None]).reshape(-1, c)
    covariance, between = within.T @ within / (n * k), own.T @ own / n
    found = []
    for centred in (False, True) if k > 1 else (False,):
        values, vectors = np.linalg.eigh(covariance if centred else covariance + between)
        spread = ((between @ vectors) * vectors).sum(0) if centred else np.zeros(c)
        found.append(Spectrum(mean, centred, vectors[:, ::-1], values[::-1].clip(0), spread[::-1]))
    return found


def best_plan(
    found: list[Spectrum], rows: int, size: Callable[[Plan], int], budget_bytes: int
) -> tuple[Plan | None, int]:
    """The plan with the least expected error that the budget allows, or None; and the least size that is possible.

    For each width of a code, and bases of 1, 2, 4, ... components, as many codes as fit.

    Args:
        found: from `spectra`.
        rows: on which centroids will be fitted. As many centroids as rows leave no error to these.
        size: bytes that a plan takes; grows with the number of codes.
        budget_bytes: for all that `size` counts.
    """
    best, smallest = None, None
    for spectrum in found:
        useful = max(1, int((spectrum.variances > 1e-14 * max(spectrum.variances.sum(), 1e-300)).sum()))
        for bits in CODE_BITS:
            for largest in sorted({min(1 << power, useful) for power in range(useful.bit_length() + 1)}):
                plan = _plan(spectrum, bits, largest, 1, rows)
                taken = size(plan)
                smallest = taken if smallest is None else min(smallest, taken)
                if taken > budget_bytes:
                    break  # more components take more
                low, high = 1, largest
                while low < high:
                    middle = (low + high + 1) // 2
                    other = _plan(spectrum, bits, largest, middle, rows)
                    low, high, plan = (middle, high, other) if size(other) <= budget_bytes else (low, middle - 1, plan)
                if best is None or plan.error < best.error:
                    best = plan
    assert smallest is not None
    return best, smallest


def _plan(spectrum: Spectrum, bits: int, largest: int, codes: int, rows: int) -> Plan:
    variances = spectrum.variances[:largest]
    exact = 2**bits >= rows
    given = np.full(largest, bits / largest) if exact and codes == 1 else _water_filling(variances, bits, codes)
    kept = int((given > 0).sum())
    place = np.floor((np.cumsum(given) - given / 2) / bits + 1e-9)[:kept].astype(np.int64)
    groups = np.unique(place, return_counts=True)[1]
    outside = spectrum.variances[kept:].sum() + spectrum.between[kept:].sum()
    inside = 0.0 if exact else CODE_BITS[bits] * (variances[:kept] * 4.0 ** -given[:kept]).sum()
    return Plan(spectrum, bits, groups, float(outside + inside))


def _water_filling(variances: np.ndarray, most: int, codes: int) -> np.ndarray:
    """Bits of each component, none above `most`, that add up to codes * most."""
    logs = 0.5 * np.log2(np.maximum(variances, 1e-300))
    low, high = logs.min() - most - 1, logs.max()
    for _ in range(40):
        level = (low + high) / 2
        low, high = (level, high) if (logs - level).clip(0, most).sum() > codes * most else (low, level)
    return np.asarray((logs - low).clip(0, most))


@dataclass(frozen=True)
class Codebooks:
    """A fitted product quantiser for rows scaled by 2^-exponent."""

    bits: int
    centred: bool  # each image has a centre
    groups: np.ndarray  # int64 [M]
    exponent: int
    mean: np.ndarray  # float16 [C]
    basis: np.ndarray  # float16 [C, d]
    centroids: np.ndarray  # float16 [m, d]: centroid i of all groups side by side

    @cached_property
    def _cuts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.groups)])

    def sections(self) -> dict[str, np.ndarray]:
        """As `Plan.specs` announces."""
        return {
            "b": np.array([self.bits, self.centred], np.uint8),
            "g": self.groups.astype(np.uint16),
            "e": np.array([self.exponent], np.int16),
            "m": self.mean,
            "B": self.basis.ravel(),
            "c": self.centroids.ravel(),
        }

    @classmethod
    def read(cls, stored: Mapping[str, np.ndarray]) -> Codebooks:
        """The inverse of `sections`."""
        groups = stored["g"].astype(np.int64)
        d = int(groups.sum())
        bits, centred = (int(v) for v in stored["b"])
        basis, centroids = stored["B"].reshape(-1, d), stored["c"].reshape(-1, d)
        return cls(bits, bool(centred), groups, int(stored["e"][0]), stored["m"], basis, centroids)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """float64 [..., C]: labels in the unit of the codebooks."""
        return np.ldexp(values.astype(np.float64), -self.exponent)

    def specs(self, images: int, rows: int, groups: int) -> Specs:
        """Sections of `code_sections` with this many of the groups."""
        return code_specs(images, rows, groups, self.bits, int(self._cuts[groups]) if self.centred else 0)

    def code(self, values: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centres int8 [n, d], their scales float16 [n], and the nearest centroids of the first groups uint8
        [n, K, groups], of scaled labels [n, K, C]."""
        points, centres, scales = project(values, self.mean, self.basis[:, : self._cuts[groups]], self.centred)
        codes = np.empty((*points.shape[:2], groups), np.uint8)
        for group in range(groups):
            at = slice(self._cuts[group], self._cuts[group + 1])
            centroids = self.centroids[:, at].astype(np.float64)
            distance = (centroids**2).sum(1) - 2 * points[:, :, at] @ centroids.T
            codes[:, :, group] = distance.argmin(2)
        return centres, scales, codes

    def code_sections(self, centres: np.ndarray, scales: np.ndarray, codes: np.ndarray) -> dict[str, np.ndarray]:
        """As `specs` announces, from what `code` gave."""
        packed = pack_codes(codes.reshape(-1, codes.shape[2]), self.bits)
        return {"u": centres.ravel(), "v": scales if self.centred else scales[:0], "q": packed}

    def rows(self, stored: Mapping[str, np.ndarray], n: int, k: int, groups: int, views: np.ndarray) -> np.ndarray:
        """float64 [n, len(views), C]: these views of every image, in the labels' own scale."""
        d = int(self._cuts[groups])
        asked = np.arange(n)[:, None] * k + views
        codes = unpack_codes(stored["q"], groups, self.bits, asked.ravel()).reshape(*asked.shape, groups)
        group_of = np.repeat(np.arange(groups), self.groups[:groups])
        points = _rounded(self.centroids)[codes[:, :, group_of], np.arange(d)]
        if self.centred:
            points += restored_centres(stored["u"].reshape(n, d), stored["v"])[:, None]
        exact = points @ self.basis[:, :d].astype(np.float64).T + self.mean.astype(np.float64)
        return np.ldexp(exact, self.exponent)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(values.astype(np.float64) * _GRID) / _GRID


def restored_centres(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """float64 [n, d]."""
    return _rounded(codes.astype(np.float64) * scales.astype(np.float64)[:, None])


def project(
    values: np.ndarray, mean: np.ndarray, basis: np.ndarray, centred: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients [n, K, d] of scaled labels [n, K, C], from the centres as they will be decoded; centres int8 [n, d]
    ([n, 0] unless centred) and their scales float16 [n]."""
    points = (values - mean.astype(np.float64)) @ basis.astype(np.float64)
    if not centred:
        return points, np.zeros((len(points), 0), np.int8), np.zeros(len(points), np.float16)
    own = points.mean(1)
    scales = (np.abs(own).max(1) / 127).astype(np.float16)
    wide = scales.astype(np.float64)[:, None]
    centres = np.divide(own, wide, out=np.zeros_like(own), where=wide > 0)
    centres = np.rint(centres).clip(-127, 127).astype(np.int8)
    return points - restored_centres(centres, scales)[:, None], centres, scales


def scale_of(rows: np.ndarray) -> int:
    """The least e with every row's norm below 2^e; 0 for zeros."""
    return int(np.frexp(np.sqrt((rows.astype(np.float64) ** 2).sum(-1).max()))[1])


def fit(values: np.ndarray, plan: Plan, exponent: int, seed: int) -> Codebooks:
    """k-means in each group.

    Args:
        values: float64 [n, K, C], scaled by 2^-exponent.
        plan: from `best_plan`.
        exponent: see `scale_of`.
        seed: of k-means.
    """
    mean = plan.spectrum.mean.astype(np.float16)
    basis = plan.spectrum.directions[:, : plan.components].astype(np.float16)
    points = project(values, mean, basis, plan.spectrum.centred)[0].reshape(-1, plan.components)
    cuts = np.concatenate([[0], np.cumsum(plan.groups)])
    count = min(2**plan.bits, len(points))
    parts = [centres(points[:, start:end], count, seed) for start, end in itertools.pairwise(cuts)]
    centroids = np.concatenate(parts, axis=1).astype(np.float16)
    return Codebooks(plan.bits, plan.spectrum.centred, plan.groups, exponent, mean, basis, centroids)


def centres(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    """k-means of points [R, d]: float64 [count, d]; the points themselves, repeated, where no more are distinct."""
    distinct = np.unique(points, axis=0)
    if len(distinct) <= count:
        return np.concatenate([distinct, np.repeat(distinct[-1:], count - len(distinct), axis=0)])
    return np.asarray(KMeans(count, n_init=1, max_iter=_ROUNDS, random_state=seed).fit(points).cluster_centers_)


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8 section of codes [R, M]."""
    if bits == 8:
        return codes.ravel()
    pieces = [packing.pack(codes[at : at + _ROWS_PACKED].ravel(), bits) for at in range(0, len(codes), _ROWS_PACKED)]
    return np.concatenate(pieces)


def unpack_codes(section: np.ndarray, groups: int, bits: int, rows: np.ndarray) -> np.ndarray:
    """uint8 [len(rows), groups]: the codes of these rows."""
    at = (rows[:, None] * groups + np.arange(groups)) * bits
    return packing.take(section, at.ravel(), bits).reshape(at.shape).astype(np.uint8)
