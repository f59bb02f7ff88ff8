"""What any other quantiser could win for `klt`: `python -m speed.klt_bound FOLDER` (as for speed.rate_distortion).

`klt` rounds each coefficient by itself. Given the variances that it works with, no way of rounding, however many
coefficients at once, does better than the rate-distortion function of those variances. It is computed here by the
algorithm of Blahut and Arimoto (1972) for the distribution that the entropy model has for each scale, and set beside
the bits and squared errors of the scalar quantiser, in the numbers in which scales really occur in coded images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from methods._codec.klt import bands, tables
from methods._codec.klt.basis import Basis
from methods._codec.klt.codec import Coded
from methods._codec.klt.steps import OFFSETS_KEPT, step_of
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
    """Bits and squared error (squared steps) of a coefficient as `klt` codes it."""
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


def uncoded_error(coded: Coded, values: np.ndarray, basis: Basis) -> float:
    """Squared error, in squared steps, of the coefficients of an image's `values` [K, C] that are certainly zero."""
    centred = values - basis.mean.astype(np.float32)
    if coded.index < OFFSETS_KEPT:
        centred -= centred.mean(1, keepdims=True)
    images, levels = np.zeros(len(values), np.int64), coded.lead[0].values
    predicted = coded.rebuilder.predicted(images, coded.views, levels[:, 0]).astype(np.float64)
    if levels.shape[1] > 1:
        predicted += coded.rebuilder.led(levels[:, 1:], images)
    rest = basis.project(centred) / step_of(coded.index) - predicted / tables.FRACTION
    return float(np.square(rest[coded.rows[0].buckets < 0]).sum())


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
            buckets = coded.rows[0].buckets
            count = np.bincount(np.minimum(buckets[buckets >= 0], tables.TOP), minlength=tables.BUCKETS)
            (bits, error), (least_bits, least_error) = count @ own, count @ best
            zero = uncoded_error(coded, photos.values[image], shared.basis)
            # At as many bits as the scalar quantiser takes, along the tangent.
            there = least_error - tables.LAMBDA * (bits - least_bits)
            ratios.append([bits / 8, bands.bits(coded.rows[0]) / 8, (there + zero) / (error + zero)])
        rows.append([budget, *np.mean(ratios, 0)])
    heads = ["budget", "bytes of rows, by the model", "as coded", "least squared error at these bytes, share"]
    print(tabulate(rows, heads, tablefmt="github", floatfmt=("", ".0f", ".0f", ".3f")))


if __name__ == "__main__":
    main()
