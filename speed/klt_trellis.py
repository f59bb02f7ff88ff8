"""What levels of the trellis cost and mean, counted: `python -m speed.klt_trellis` writes `trellis_data` of `klt`.

Rows of normal coefficients are drawn, in falling order of scale, from louder than any table to quieter than what is
coded; each scale is uncertain, and each row is louder or softer by as much as rows of an image differ. They are
quantised with tables that formulas give, then with what was counted, and so on. Formulas take scales for somewhat less
certain (`SPREAD`): they only start the counting, say what is too rare to count, and how scores fall off.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from methods._codec.klt import trellis
from methods._codec.klt.tables import (
    BUCKETS,
    FRACTION,
    LARGEST,
    LOWEST,
    PER_OCTAVE,
    STEP,
    TOP,
    UNITS,
    normal_mixture,
)
from methods._codec.klt.trellis import HALF, SCORE_PARTS, WHOLE

_WIDTH = 400
_SPREAD = 0.15  # nats: how uncertain a scale is
_ROW_SPREAD = 4.5  # units: how much rows differ
_STEEPEST = 4.0  # slopes
_COUNTED = 0.999  # up to here edges of cells follow from frequencies
_SURE = 20  # so many counts does a formula stand for
_TABLE = Path(trellis.__file__).with_name("trellis_data.py")
_HEAD = '''"""What levels of the trellis cost and mean: made by `python -m speed.klt_trellis`, see there and `trellis`.

A line for each bucket and quantiser. Frequencies of magnitudes from zero on, of 2^16; those not shown are 1. By how
much points are nearer to zero than the quantiser has them, 1/FRACTION steps, from magnitude zero on; not shown: zero.
By how much logarithms of frequencies grow for each unit that a scale does, 1/SCORE_PARTS.
"""

from __future__ import annotations

import numpy as np

from methods._codec.klt.tables import BUCKETS, LARGEST

'''
_FOOT = """

def _table(lines: str, rest: int) -> np.ndarray:
    table = np.full((2 * BUCKETS, LARGEST + 1), rest)
    for row, line in enumerate(lines.strip().split("\\n")):
        told = [int(number) for number in line.split()]
        table[row, : len(told)] = told
    return table.reshape(BUCKETS, 2, LARGEST + 1)


FREQUENCIES = _table(_FREQUENCIES, 1)  # int64 [BUCKETS, 2, LARGEST + 1]
NEARER = _table(_NEARER, 0)  # int64, the same shape
SCORES = _table(_SCORES, 0)  # int64, the same shape
"""


def by_formula() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and points (steps) [BUCKETS, 2, LARGEST + 1] of quantisers that round to the nearest."""
    points = trellis.grid() / FRACTION
    p = np.zeros(points.shape)
    for bucket in range(BUCKETS):
        for quantiser in (0, 1):
            edges = points[bucket, quantiser, :-1] + HALF / FRACTION
            inside = normal_mixture(edges, 2.0 ** ((LOWEST + STEP * bucket) / UNITS))
            p[bucket, quantiser] = np.maximum(np.diff(np.concatenate([[0.0], inside, [1.0]])), 2.0**-18)
    return p / p.sum(2, keepdims=True), points


def counted(rows: int, rounds: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int64 frequencies, points and scores [BUCKETS, 2, LARGEST + 1] after so many rounds of counting."""
    rng = np.random.default_rng(seed)
    p, points = first_p, first_points = by_formula()
    loudest = LOWEST + STEP * TOP + STEP * 2
    start = rng.integers(LOWEST, loudest, rows)
    fall = np.linspace(0, 1, _WIDTH)
    base = np.rint(start[:, None] + (LOWEST - 2 * STEP - start[:, None]) * fall).astype(np.int32)
    true = base + rng.normal(0, _ROW_SPREAD, (rows, 1))
    uncertain = np.exp(_SPREAD * rng.normal(size=true.shape) - _SPREAD**2)
    values = (2.0 ** (true / UNITS) * uncertain * rng.normal(size=true.shape)).astype(np.float32)
    for _ in range(rounds):
        coder = trellis.Coder(trellis.model_of(*rounded(p, points)))
        counts, totals = np.zeros(p.size), np.zeros(p.size)
        for row in range(rows):
            found = coder.rows(values[row : row + 1], base[row])
            told = (found.cells >= 0) & (found.cells < 2 * BUCKETS)
            size = np.abs(found.levels[told])
            place = found.cells[told].astype(np.int64) * (LARGEST + 1) + np.minimum(size, LARGEST)
            counts += np.bincount(place, minlength=p.size)
            totals += np.bincount(place, np.abs(values[row : row + 1][told]), minlength=p.size)
        count, total = counts.reshape(p.shape), totals.reshape(p.shape)
        p = count + _SURE * first_p
        p /= p.sum(2, keepdims=True)
        points = (total + _SURE * first_points) / (count + _SURE)
        points[..., 0] = 0
    return rounded(p, points)


def rounded(p: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies, points and scores in integers, as for `trellis.model_of`."""
    frequencies = whole(p)
    scores = np.rint(SCORE_PARTS * slopes(frequencies / WHOLE))
    return frequencies, np.rint(FRACTION * points).astype(np.int64), scores.astype(np.int64)


def slopes(p: np.ndarray) -> np.ndarray:
    """[BUCKETS, 2, LARGEST + 1]: by how much the logarithm of a probability grows for each unit that a scale does.

    The cells are taken for intervals, so that the entropy model gives them these probabilities; far out, where nothing
    was counted, edges are in the middle between points.
    """
    result = np.empty(p.shape)
    points = trellis.grid() / FRACTION
    for bucket in range(BUCKETS):
        scale = 2.0 ** ((LOWEST + STEP * bucket) / UNITS)
        x = np.linspace(0, 10 * scale, 4001)
        below = normal_mixture(x, scale)
        for quantiser in (0, 1):
            middle = (points[bucket, quantiser, 1:] + points[bucket, quantiser, :-1]) / 2
            cumulative = p[bucket, quantiser].cumsum()[:-1]
            edges = np.where(cumulative < _COUNTED, np.interp(cumulative, below, x), middle)
            edges = np.maximum.accumulate(np.maximum(edges, middle * (cumulative >= _COUNTED)))
            louder, softer = (_mass(edges, scale * 2.0 ** (side * 0.5 / PER_OCTAVE)) for side in (1, -1))
            result[bucket, quantiser] = np.log(louder / softer) / STEP
    return np.clip(result, -_STEEPEST, _STEEPEST)


def _mass(edges: np.ndarray, scale: float) -> np.ndarray:
    return np.maximum(np.diff(np.concatenate([[0.0], normal_mixture(edges, scale), [1.0]])), 1e-12)


def whole(p: np.ndarray) -> np.ndarray:
    """int64 frequencies, at least one, that sum to WHOLE in each row."""
    frequencies = np.maximum(np.rint(p * WHOLE).astype(np.int64), 1)
    np.put_along_axis(
        frequencies,
        p.argmax(2)[..., None],
        np.take_along_axis(frequencies, p.argmax(2)[..., None], 2) + WHOLE - frequencies.sum(2, keepdims=True),
        2,
    )
    return frequencies


def source(frequencies: np.ndarray, points: np.ndarray, scores: np.ndarray) -> str:
    """The module's text."""
    parts = []
    tables = (("_FREQUENCIES", frequencies, 1), ("_NEARER", trellis.grid() - points, 0), ("_SCORES", scores, 0))
    for name, table, rest in tables:
        lines = []
        for row in table.reshape(2 * BUCKETS, -1):
            told = np.flatnonzero(row != rest)
            lines.append(" ".join(str(number) for number in row[: told[-1] + 1 if len(told) else 1]))
        parts.append(f'{name} = """\n' + "\n".join(lines) + '\n"""\n')
    return _HEAD + "\n".join(parts) + _FOOT


def main() -> None:
    """Count and write."""
    parser = argparse.ArgumentParser(prog="python -m speed.klt_trellis", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=40000)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--out", type=Path, default=_TABLE)
    options = parser.parse_args()
    options.out.write_text(source(*counted(options.rows, options.rounds)), encoding="utf-8")


if __name__ == "__main__":
    main()
