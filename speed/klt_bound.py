"""What any other quantiser could win for `klt`: `python -m speed.klt_bound FOLDER` (as for speed.rate_distortion).

Given the variances that `klt` works with, no way of rounding, however many coefficients at once, does better than the
rate-distortion function of those variances. It is computed here by the algorithm of Blahut and Arimoto (1972) for the
distribution that the entropy model has for each scale, and so are the bits and squared errors of a scalar quantiser;
both are set beside what coded images really have, for scales in the numbers in which they occur.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from methods._codec.klt import tables
from methods._codec.klt.basis import Basis
from methods._codec.klt.codec import Coded
from methods._codec.klt.steps import OFFSETS_KEPT, step_of
from methods._codec.klt.trellis import CODER
from speed.rate_distortion import Shared, load_all

_POINTS = 501
_ROUNDS = 2000
_CLOSE = 1e-7  # bits between the algorithm's bounds on distortion + slope * rate
_SCALES = 7.0  # standard deviations that the grid reaches to


def density(scale: float, x: np.ndarray, spread: float = tables.SPREAD) -> np.ndarray:
    """Of the entropy model at `x`: normal, its logarithmic scale uncertain by `spread`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    scales = scale * np.exp(spread * nodes - spread**2)
    return (np.exp(-0.5 * (x[:, None] / scales) ** 2) / (scales * np.sqrt(2 * np.pi))) @ (weights / weights.sum())


def bound(scale: float, slope: float, spread: float = tables.SPREAD) -> tuple[float, float]:
    """Bits and squared error of a coefficient where squared error + slope * bits is least for any code."""
    x = np.linspace(-_SCALES * scale, _SCALES * scale, _POINTS)
    p = density(scale, x, spread)
    p /= p.sum()
    error = np.square(x[:, None] - x[None, :])
    near = np.exp(-np.log(2) / slope * error)
    q = np.full(_POINTS, 1 / _POINTS)
    for _ in range(_ROUNDS):
        grow = (p / (near @ q)) @ near
        q = q * grow
        if np.log2(grow.max()) - q @ np.log2(np.maximum(grow, 1e-300)) < _CLOSE:
            break
    joint = p[:, None] * near * q / (near @ q)[:, None]
    ratio = joint / np.maximum(p[:, None] * q, 1e-300)
    bits = float((joint * np.log2(np.where(joint > 0, ratio, 1.0))).sum())
    return bits, float((joint * error).sum())


def scalar(bucket: int) -> tuple[float, float]:
    """Bits and squared error (squared steps) of a coefficient that is rounded by itself, as prices take it."""
    scale = scale_of(bucket)
    size = np.linspace(0, 8 * scale, 8001)
    p = density(scale, size)
    p /= p.sum()
    first, low = (bucket + 1) * tables.STRIDE, np.floor(size).astype(np.int64)
    level = low + (size - low > tables.THRESHOLDS[first + np.minimum(low, tables.LARGEST)])
    cell = first + np.minimum(level, tables.LARGEST)
    return float(p @ tables.BITS[cell]), float(p @ np.square(size - tables.CENTRES[cell] / tables.FRACTION))


def scale_of(bucket: int) -> float:
    """Standard deviation, in steps."""
    return float(2.0 ** ((tables.LOWEST + tables.STEP * bucket) / tables.UNITS))


def squared_errors(coded: Coded, values: np.ndarray, basis: Basis) -> tuple[float, float]:
    """In squared steps: of the coefficients of an image's `values` [K, C] that are coded, and of those that are not."""
    centred = values - basis.mean.astype(np.float32)
    if coded.index < OFFSETS_KEPT:
        centred -= centred.mean(1, keepdims=True)
    whole = coded.rebuilder.led_by(np.zeros(len(values), np.int64), coded.views, coded.lead[0].points)
    CODER.restore(coded.rows[0], whole)
    error = np.square(basis.project(centred) / step_of(coded.index) - whole / tables.FRACTION)
    there = coded.rows[0].cells >= 0
    return float(error[there].sum()), float(error[~there].sum())


def main() -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(prog="python -m speed.klt_bound", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budgets", type=int, nargs="+", default=(40000, 20250, 6000), help="bytes per image")
    parser.add_argument("--photos", type=int, default=6, help="how many (default: 6)")
    options = parser.parse_args()
    photos, pool, means = load_all(options.folder, "dev")
    own = np.array([scalar(bucket) for bucket in range(tables.BUCKETS)])
    best = np.array([bound(scale_of(bucket), tables.LAMBDA) for bucket in range(tables.BUCKETS)])
    rows = []
    for budget in options.budgets:
        shared, ratios = Shared(photos, pool, means, budget, 10000, free=False), []
        for image in np.linspace(0, len(photos.logits) - 1, options.photos).astype(int):
            _, coded = shared.encode(image)
            cells = coded.rows[0].cells
            count = np.bincount(np.minimum(cells[cells >= 0] >> 1, tables.TOP), minlength=tables.BUCKETS)
            bits = float(coded.rows[0].bits.sum())
            error, zero = squared_errors(coded, photos.values[image], shared.basis)
            # At as many bits as are taken, along the tangents.
            others = [(found[1] - tables.LAMBDA * (bits - found[0]) + zero) for found in (count @ own, count @ best)]
            ratios.append([bits / 8, *(other / (error + zero) for other in others)])
        rows.append([budget, *np.mean(ratios, 0)])
    heads = ["budget", "bytes of coefficients", "scalar quantiser", "least of any quantiser"]
    print("squared error at equal bytes, of that of klt:")
    print(tabulate(rows, heads, tablefmt="github", floatfmt=("", ".0f", ".3f", ".3f")))


if __name__ == "__main__":
    main()
