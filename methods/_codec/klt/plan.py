"""Choosing and fitting the low-rank parts of an image (see `rank`): the encoder's side of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from methods._codec.klt import bands, rank
from methods._codec.klt.basis import Basis
from methods._codec.klt.rank import FINER, Ranked
from methods._codec.klt.steps import root_of_two
from methods._codec.klt.tables import FRACTION, STEP, UNITS, price

MOST_FREE = 40
MOST_SEEN = 6
_MIX_LARGEST = 127


@dataclass(frozen=True)
class Plan:
    """For one image: weights of the regions, and the right factors of the free part with all its energy."""

    along: bool  # whether rows are also told along their partners' means
    mix: np.ndarray  # int32 [F, s]
    shifts: np.ndarray  # int32 [s]
    rights: np.ndarray  # float32 [f, D]


def make(rest: np.ndarray, partners: np.ndarray, features: np.ndarray, basis: Basis, step: float) -> Plan:
    """The ranks with the fewest bits, squared error counted in bits too.

    Args:
        rest: float32 [K, D]: rows less what means predict.
        partners: float32 [K, D]: unit vectors along partners' means, or zero.
        features: int [K, F].
        basis: gives the usual scales.
        step: of coefficients.
    """
    usual = np.exp2(2.0 / UNITS * basis.rows)
    rest = rest / np.float32(step)
    views = len(rest)
    numbers = np.einsum("kd,kd->k", rest, partners)
    without = rest - numbers[:, None] * partners
    told = views * float(price(np.square(numbers).mean()))
    along = _price(without) + told < _price(rest)
    if along:
        rest = without
    mix = _mix(rest, features, usual)
    shifts = rank.shifts_of(mix, features)
    lefts = rank.seen_lefts(mix, shifts, features) * 2.0**-rank.UNIT_BITS
    rest = rest - lefts.astype(np.float32) @ _least_squares(lefts, rest)
    return Plan(along, mix, shifts, _free(rest, usual) * np.float32(step))


def _mix(rest: np.ndarray, features: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """int32 [F, s]: the combinations of features that explain most."""
    if not features.shape[1]:
        return np.zeros((0, 0), np.int32)
    q, r = np.linalg.qr(features.astype(np.float64))
    sound = np.abs(np.diag(r)) > 1e-6 * np.abs(np.diag(r)).max(initial=1e-300)
    left, energy, right = np.linalg.svd(q[:, sound].T @ rest, full_matrices=False)
    most = min(MOST_SEEN, len(energy))
    chosen = _best(rest, energy[:most], right[:most], usual, np.full(most, 8.0 * features.shape[1]))
    weights = np.linalg.lstsq(features.astype(np.float64), q[:, sound] @ left[:, :chosen], rcond=1e-9)[0]
    largest = np.abs(weights).max(0, initial=0)
    return np.rint(_MIX_LARGEST * weights / np.where(largest > 0, largest, 1)).astype(np.int32)


def _free(rest: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """float32 [f, D]: the leading right factors that pay."""
    views, size = rest.shape
    most = min(MOST_FREE, views - 1, size)
    if size < views:
        vectors = np.linalg.eigh(rest.T @ rest)[1][:, ::-1].T[:most]
        energy = np.linalg.norm(rest @ vectors.T, axis=0)
        right = energy[:, None] * vectors
    else:
        values, left = np.linalg.eigh(rest @ rest.T)
        energy, right = np.sqrt(np.maximum(values[::-1][:most], 0)), left[:, ::-1][:, :most].T @ rest
    unit = right / np.maximum(energy, 1e-30)[:, None]
    return right[: _best(rest, energy, unit, usual, views * price(np.square(energy) / views))].astype(np.float32)


def _best(rest: np.ndarray, energy: np.ndarray, right: np.ndarray, usual: np.ndarray, lefts: np.ndarray) -> int:
    """How many of the components (`energy` [r], unit `right` [r, D], price of left factors [r]) to take."""
    if not len(energy):
        return 0
    variance = np.square(rest).mean(0)
    left_over = np.maximum(variance - np.cumsum(np.square(energy[:, None] * right), 0) / len(rest), 0)
    rights = price(np.square(energy)[:, None] * (usual / usual.sum())).sum(1)
    total = len(rest) * price(left_over).sum(1) + np.cumsum(rights + lefts)
    best = int(total.argmin())
    return best + 1 if total[best] < len(rest) * price(variance).sum() else 0


def _price(rest: np.ndarray) -> float:
    return len(rest) * float(price(np.square(rest).mean(0)).sum())


def right_factors(
    rest: np.ndarray, plan: Plan, features: np.ndarray, basis: Basis, step: float, step_units: int
) -> Ranked:
    """Right factors at this step. `rest`: float32 [K, D], less what is told along partners."""
    lefts = rank.seen_lefts(plan.mix, plan.shifts, features) * 2.0**-rank.UNIT_BITS
    rights = np.concatenate([_least_squares(lefts, rest), plan.rights])
    if not len(rights):
        return rank.nothing(features.shape[1], basis.size)
    scaled = rights / np.float32(step * root_of_two(-FINER, UNITS))
    usual = np.exp2(2.0 / UNITS * (basis.rows - step_units + FINER)).sum()
    loud = np.square(scaled, dtype=np.float64).sum(1) / usual
    gains = np.clip(np.rint(0.5 * UNITS / STEP * np.log2(np.maximum(loud, 2.0**-40))), -80, 80).astype(np.int32)
    levels, buckets = bands.run(
        rank.base(basis, gains, step_units), len(rights), lambda band, b: bands.quantise(scaled[:, band], b)
    )
    return Ranked(plan.mix, plan.shifts, gains, levels, buckets)


def free_lefts(rest: np.ndarray, ranked: Ranked, step: float) -> np.ndarray:
    """float32 [K, f]: least-squares left factors for the right factors as decoded, in steps."""
    rights = ranked.rights()[ranked.seen :]
    unit = (rights / rank.norms_of(rights)[:, None]).astype(np.float32)
    gram = unit @ unit.T + 1e-4 * np.eye(len(unit), dtype=np.float32)
    return (rest @ unit.T) @ np.linalg.inv(gram) / np.float32(step)


def decoded(lefts: np.ndarray, rights: np.ndarray, step: float) -> np.ndarray:
    """float32 [K, D]: what integer lefts and scaled rights mean."""
    return (rank.product(lefts, rights) * (step / FRACTION)).astype(np.float32)


def _least_squares(lefts: np.ndarray, rest: np.ndarray) -> np.ndarray:
    gram = lefts.T @ lefts + 1e-6 * np.eye(lefts.shape[1])
    return np.linalg.solve(gram, lefts.T @ rest).astype(np.float32)
