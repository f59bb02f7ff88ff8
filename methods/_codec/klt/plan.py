"""Choosing and fitting the low-rank part of an image (see `rank`): the encoder's side of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from methods._codec.klt import bands, prices, rank
from methods._codec.klt.basis import Basis
from methods._codec.klt.prices import price
from methods._codec.klt.rank import Ranked
from methods._codec.klt.tables import STEP, UNITS

MOST_FREE = 40


@dataclass(frozen=True)
class Plan:
    """For one image."""

    along: bool  # whether rows are also told along their partners' means
    rights: np.ndarray  # float32 [f, D]: right factors of the low-rank part with all its energy
    left: np.ndarray  # float64 [D]: mean squares of what it leaves, about as it will be decoded
    lead: float  # bits of left and right factors, about
    bits: np.ndarray  # float64 [K]: of each row's coefficients, about, see `_bits`

    def counts(self, views: np.ndarray) -> np.ndarray:
        """float64 [v]: how many rows each of these views (int64) stands for, where they tell what all K take.

        As many each, but for what is known of all (regression estimator; as weights: Deville and Saerndal 1992): so
        counted, what `bits` says of these is what it says of all. A row can count for less than nothing.
        """
        some = self.bits[views] - self.bits[views].mean()
        squares, missing = float(some @ some), float(self.bits.mean() - self.bits[views].mean())
        # Some that are all unlike the others cannot tell what these take.
        slope = missing / squares if squares > len(views) * missing**2 else 0.0
        return len(self.bits) * (1 / len(views) + slope * some)


def make(rest: np.ndarray, partners: np.ndarray, basis: Basis, step: float) -> Plan:
    """The rank with the fewest bits, squared error counted in bits too.

    Args:
        rest: float32 [K, D]: rows less what means predict.
        partners: float32 [K, D]: unit vectors along partners' means, or zero.
        basis: gives the usual scales.
        step: of coefficients.
    """
    rest = rest / np.float32(step)
    numbers = np.einsum("kd,kd->k", rest, partners)
    without = rest - numbers[:, None] * partners
    toward = np.square(partners).mean(0)
    counts = toward @ prices.worth(np.square(without).mean(0)) / max(float(toward.sum()), 1e-30)
    told = len(rest) * float(price(np.square(numbers).mean() * counts))
    along = _price(without) + told < _price(rest)
    usual = np.exp2(2.0 / UNITS * basis.rows)
    rest = without if along else rest
    usual /= usual.sum()
    norms, unit, left = _free(rest, usual)
    rights = (norms[:, None] * unit).astype(np.float32)
    lead = _lead(len(rest), np.square(norms), np.square(unit), left, usual)
    return Plan(along, rights * np.float32(step), left * step**2, lead, _bits(rest - (rest @ unit.T) @ unit))


def _bits(rest: np.ndarray) -> np.ndarray:
    """float64 [K]: bits of coefficients [K, D], in steps, about: of numbers of that variance, if errors were one square
    step. Rows vary by a quarter and more, this and what they take together: their squared correlation is .97."""
    return 0.5 / np.log(2) * np.log(1 + np.square(rest)).sum(1, dtype=np.float64)


def _free(rest: np.ndarray, usual: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[f]: norms of the leading components that pay; float32 [f, D]: their right factors, of norm one; float64 [D]:
    mean squares of what they leave."""
    views, size = rest.shape
    most = min(MOST_FREE, views - 1, size)
    variance = np.square(rest, dtype=np.float64).mean(0)
    if most < 1:
        return np.zeros(0), np.zeros((0, size), np.float32), variance
    if size < views:
        unit = _leading(rest.T @ rest, most)[1].T
        energy = np.linalg.norm(rest @ unit.T, axis=0)
    else:
        found = _leading(rest @ rest.T, most)[1].T @ rest
        energy = np.linalg.norm(found, axis=1)
        unit = found / np.maximum(energy, 1e-30)[:, None]
    count, left = _best(views, variance, np.square(energy), np.square(unit), usual)
    return energy[:count], unit[:count], left


def _leading(gram: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues, falling, and their vectors in columns."""
    n = len(gram)
    try:
        values, vectors = eigh(gram, subset_by_index=[n - count, n - 1], check_finite=False)
    except np.linalg.LinAlgError:  # some matrices of rank one, in single precision
        values, vectors = (
            part[..., n - count :].astype(gram.dtype) for part in np.linalg.eigh(gram.astype(np.float64))
        )
    return values[::-1], vectors[:, ::-1]


def _best(
    views: int, variance: np.ndarray, energy: np.ndarray, right: np.ndarray, usual: np.ndarray
) -> tuple[int, np.ndarray]:
    """How many components to take, and mean squares of what they leave.

    Args:
        views: how many rows there are.
        variance: mean squares of rows [D].
        energy: of components [r].
        right: squares of their right factors, which have norm one [r, D].
        usual: how the energy of such factors is spread [D]; the sum is one.
    """
    left = np.maximum(variance - np.cumsum(energy[:, None] * right, 0) / views, 0)
    counts = prices.worth(left)
    # [component, how many are taken]: all of them are told the more finely the less is left.
    of_lefts = right @ counts.T
    lefts = views * price(energy[:, None] / views * of_lefts)
    edges = np.array([band.start for band in bands.split(len(usual))])
    widths = np.diff(edges, append=len(usual))
    inside = np.add.reduceat(usual * counts, edges, axis=1) / widths
    rights = price(energy[:, None, None] * inside) @ widths
    total = views * price(left).sum(1) + np.triu(lefts + rights).sum(0)
    best = int(total.argmin())
    if total[best] >= views * price(variance).sum():
        return 0, variance
    # Lefts and rights are rounded, or lost where they are too quiet: coefficients will have to tell that too.
    some, taken = slice(best + 1), energy[: best + 1] / views
    lost = np.minimum(prices.ERROR / of_lefts[some, best], taken) @ right[some]
    lost += np.minimum((best + 1) * prices.ERROR / counts[best] / views, taken @ right[some])
    return best + 1, left[best] + lost


def _lead(views: int, energy: np.ndarray, right: np.ndarray, left: np.ndarray, usual: np.ndarray) -> float:
    """`Plan.lead` of components with these energies [f] and squared right factors [f, D]; see `_best`."""
    counts = prices.worth(left)
    lefts, rights = energy / views * (right @ counts), energy[:, None] * (usual * counts)
    return float(views * prices.bits(lefts).sum() + prices.bits(rights).sum())


def _price(rest: np.ndarray) -> float:
    return len(rest) * float(price(np.square(rest).mean(0)).sum())


def right_factors(plan: Plan, scales: np.ndarray, basis: Basis, step: float, step_units: int) -> Ranked:
    """Right factors at this step; `scales`: of coefficients, see `rank.quantised`."""
    if not len(plan.rights):
        return rank.nothing(basis.size)
    scaled = plan.rights / np.float32(step)
    usual = np.exp2(2.0 / UNITS * (basis.rows - step_units)).sum()
    loud = np.square(scaled, dtype=np.float64).sum(1) / usual
    gains = bands.clipped(np.rint(0.5 * UNITS / STEP * np.log2(np.maximum(loud, 2.0**-40))), 120).astype(np.int32)
    return rank.quantised(scaled, gains, scales, basis, step_units)


def left_factors(rest: np.ndarray, ranked: Ranked, step: float) -> np.ndarray:
    """float32 [K, f]: least-squares left factors for the right factors as decoded, in their steps."""
    unit = (ranked.rights / rank.norms_of(ranked.rights)[:, None]).astype(np.float32)
    gram = unit @ unit.T + 1e-4 * np.eye(len(unit), dtype=np.float32)
    found: np.ndarray = (
        (rest @ unit.T) @ np.linalg.inv(gram) / (step * prices.size_of(ranked.coarser)).astype(np.float32)
    )
    return found
