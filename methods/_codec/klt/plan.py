"""Choosing and fitting the low-rank part of an image (see `rank`): the encoder's side of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from methods._codec.klt import bands, rank
from methods._codec.klt.basis import Basis
from methods._codec.klt.rank import Ranked
from methods._codec.klt.tables import STEP, UNITS, price

MOST_FREE = 40


@dataclass(frozen=True)
class Plan:
    """For one image."""

    along: bool  # whether rows are also told along their partners' means
    rights: np.ndarray  # float32 [f, D]: right factors of the low-rank part with all its energy
    loud: np.ndarray  # float64 [K]: squared norms of rows less what means predict, squared steps


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
    told = len(rest) * float(price(np.square(numbers).mean()))
    along = _price(without) + told < _price(rest)
    usual = np.exp2(2.0 / UNITS * basis.rows)
    loud = np.einsum("kd,kd->k", rest, rest).astype(np.float64)
    return Plan(along, _free(without if along else rest, usual) * np.float32(step), loud)


def _free(rest: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """float32 [f, D]: the leading right factors that pay."""
    views, size = rest.shape
    most = min(MOST_FREE, views - 1, size)
    if most < 1:
        return np.zeros((0, size), np.float32)
    if size < views:
        unit = _leading(rest.T @ rest, most)[1].T
        energy = np.linalg.norm(rest @ unit.T, axis=0)
    else:
        values, left = _leading(rest @ rest.T, most)
        energy = np.sqrt(np.maximum(values, 0))
        unit = (left.T @ rest) / np.maximum(energy, 1e-30)[:, None]
    return (energy[:, None] * unit)[: _best(rest, energy, unit, usual)].astype(np.float32)


def _leading(gram: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues, falling, and their vectors in columns."""
    n = len(gram)
    values, vectors = eigh(gram, subset_by_index=[n - count, n - 1], overwrite_a=True, check_finite=False)
    return values[::-1], vectors[:, ::-1]


def _best(rest: np.ndarray, energy: np.ndarray, right: np.ndarray, usual: np.ndarray) -> int:
    """How many of the components (`energy` [r], unit `right` [r, D]) to take."""
    views = len(rest)
    variance = np.square(rest).mean(0)
    left_over = np.maximum(variance - np.cumsum(np.square(energy[:, None] * right), 0) / views, 0)
    rights = price(np.square(energy)[:, None] * (usual / usual.sum())).sum(1)
    total = views * price(left_over).sum(1) + np.cumsum(rights + views * price(np.square(energy) / views))
    best = int(total.argmin())
    return best + 1 if total[best] < views * price(variance).sum() else 0


def _price(rest: np.ndarray) -> float:
    return len(rest) * float(price(np.square(rest).mean(0)).sum())


def right_factors(plan: Plan, basis: Basis, step: float, step_units: int) -> Ranked:
    """Right factors at this step."""
    if not len(plan.rights):
        return rank.nothing(basis.size)
    scaled = plan.rights / np.float32(step)
    usual = np.exp2(2.0 / UNITS * (basis.rows - step_units)).sum()
    loud = np.square(scaled, dtype=np.float64).sum(1) / usual
    gains = bands.clipped(np.rint(0.5 * UNITS / STEP * np.log2(np.maximum(loud, 2.0**-40))), 80).astype(np.int32)
    return rank.quantised(scaled, gains, basis, step_units)


def left_factors(rest: np.ndarray, ranked: Ranked, step: float) -> np.ndarray:
    """float32 [K, f]: least-squares left factors for the right factors as decoded, in steps."""
    unit = (ranked.rights / rank.norms_of(ranked.rights)[:, None]).astype(np.float32)
    gram = unit @ unit.T + 1e-4 * np.eye(len(unit), dtype=np.float32)
    return (rest @ unit.T) @ np.linalg.inv(gram) / np.float32(step)
