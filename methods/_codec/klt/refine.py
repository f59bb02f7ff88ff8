"""Classes that the decoder knows to be likely are told more exactly.

At a coarse step the squared error is spread evenly over classes, while a softmax at T = 1 hears the few largest alone.
The decoder sees from the coarse logits which those are; they get a second level, with a step that falls with the square
root of the probability. What stays unknown of the others adds to their probability on average (the exponential is
convex), so they are raised by one number for each image.

Which classes are likely is decided in integers: powers of two from a table, sums, comparisons.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from methods._codec.klt import bands, steps
from methods._codec.klt.steps import root_of_two
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import EVEN, FRACTION, UNITS

GRADES = 4  # of likelihood: from 2^-8, 2^-6, 2^-4 and 2^-2 on
NOTHING = GRADES + 1  # the least grade that is refined, where none is
NUMBERS = 2 * GRADES + 1  # that an image has
_FINER = 9  # units: the step of the lowest grade is so much smaller than that of the coefficients, ...
_FINER_LEAST = 5  # ... and at least so much where that itself is fine
_PER_OCTAVE = 64
_OCTAVES = 24
_WEIGHT_BITS = 28  # of the largest logit's weight
_PART = 32  # what an image is raised by is a multiple of 1/32
_MOST = 1 << 10
_LOG2_E = 1.4426950408889634
_NUMBER_BUCKET = EVEN + 4
_QUIETEST = -64  # 1/8 octave: no step is so coarse that anything of it were coded


def _weights() -> np.ndarray:
    """int32: 2^(_WEIGHT_BITS - d / 64) for d = 0, 1, ...; the last is zero."""
    inside = np.array([root_of_two(-part, _PER_OCTAVE) for part in range(_PER_OCTAVE)])
    octaves = np.ldexp(1.0, _WEIGHT_BITS - np.arange(_OCTAVES))
    return np.append(np.rint(octaves[:, None] * inside).astype(np.int32).ravel(), np.int32(0))


_WEIGHTS = _weights()


class Step(NamedTuple):
    """Of likely classes of the lowest grade; it is halved from grade to grade."""

    size: float  # natural unit
    finer: int  # units by which it is smaller than that of the coefficients


def step_of(index: int, exponent: int) -> Step:
    """At the step of coefficients with this index, relative to 2^exponent.

    Where that is below one logit, likely classes are known well already: theirs is a quarter octave coarser.
    """
    finer = min(max(_FINER + natural_units(index, exponent) // 2, _FINER_LEAST), _FINER)
    return Step(float(np.ldexp(steps.step_of(index), exponent)) * root_of_two(-finer, UNITS), finer)


def natural_units(index: int, exponent: int) -> int:
    """log2 of the step of coefficients in logits, units."""
    return steps.step_units(index) + UNITS * exponent


class Likely(NamedTuple):
    """The likely classes of rows, by row and then by class; [m] each."""

    row: np.ndarray  # int64
    column: np.ndarray  # int64
    grade: np.ndarray  # int8: up to GRADES, likely and more likely


def likely(logits: np.ndarray, least: int = 1) -> Likely:
    """Which classes are.

    Args:
        logits: float64 [rows, C], natural unit.
        least: the least grade that counts, 1 to GRADES.
    """
    place = logits.max(1, keepdims=True) - logits
    place *= _PER_OCTAVE * _LOG2_E
    np.minimum(place, float(len(_WEIGHTS) - 1), out=place)
    weight = _WEIGHTS.take(place.astype(np.int32))
    bar = (weight.sum(1, dtype=np.int64) >> 2 * (NOTHING - least)).astype(np.int32)
    row, column = np.divmod(np.flatnonzero(weight >= bar[:, None]), logits.shape[1])
    weight, bar = weight[row, column], bar[row]
    grade = np.full(len(row), least, np.int8)
    for step in range(1, NOTHING - least):
        grade += weight >> (2 * step) >= bar
    return Likely(row, column, grade)


def spliced(
    likely: Likely, errors: np.ndarray, rows: np.ndarray, others: Likely, theirs: np.ndarray
) -> tuple[Likely, np.ndarray]:
    """Likely classes and their errors [m] with those of some rows (int64, ascending) replaced by `others`, whose rows
    count from zero, and `theirs`."""
    replaced = np.zeros(max(likely.row.max(initial=-1), rows.max(initial=-1)) + 1, bool)
    replaced[rows] = True
    kept = np.flatnonzero(~replaced[likely.row])
    row = np.concatenate([likely.row[kept], rows[others.row]])
    order = np.argsort(row, kind="stable")

    def merged(mine: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.concatenate([mine[kept], new])[order]

    places = Likely(row[order], merged(likely.column, others.column), merged(likely.grade, others.grade))
    return places, merged(errors, theirs)


def write_numbers(numbers: np.ndarray, least: int, writer: Writer) -> None:
    """Code what `look` and `best_raise` gave, int32 [n, NUMBERS], of the grades that count."""
    told = numbers[:, _told(least)]
    writer.write(np.full(told.size, _NUMBER_BUCKET, np.int16), told.ravel())


def numbers_bits(numbers: np.ndarray, least: int) -> float:
    """What `write_numbers` takes."""
    return bands.plain_bits(_NUMBER_BUCKET, numbers[:, _told(least)].ravel())


def read_numbers(n: int, least: int, reader: Reader) -> np.ndarray:
    """int32 [n, NUMBERS]; zero for grades that do not count."""
    numbers = np.zeros((n, NUMBERS), np.int32)
    told = _told(least)
    numbers[:, told] = reader.read(np.full(n * len(told), _NUMBER_BUCKET, np.int16)).reshape(n, -1)
    return numbers


def _told(least: int) -> np.ndarray:
    """Columns of the grades that count, and of the raise."""
    grades = np.arange(least - 1, GRADES)
    return np.concatenate([grades, GRADES + grades, [NUMBERS - 1]])


def look(error: np.ndarray, grade: np.ndarray, natural: int) -> np.ndarray:
    """int32 [NUMBERS] for an image with this error [m] of its likely classes after the coarse code: for each grade its
    scale relative to the step of coefficients (`natural`: natural_units), 1/8 octave, and its mean, 1/_PART; last the
    raise of the unlikely, zero here."""
    numbers = np.zeros(NUMBERS, np.int32)
    for one in range(GRADES):
        some = error[grade == one + 1]
        mean = min(max(round(_PART * float(some.mean())), -_MOST), _MOST) if some.size else 0
        spread = float(np.square(some - mean / _PART).mean()) if some.size else 0.0
        scale = 0.5 * UNITS * np.log2(max(spread, 2.0**-300)) - natural
        numbers[one] = min(max(round(scale / 2), _QUIETEST), -_QUIETEST)
        numbers[GRADES + one] = mean
    return numbers


def units(grade: np.ndarray, numbers: np.ndarray, step: Step) -> np.ndarray:
    """int32 [m]: log-scale of each likely class, its grade [m] in 1..GRADES and its image's numbers [m, NUMBERS]."""
    scale = 2 * np.take_along_axis(numbers, grade[:, None].astype(np.int64) - 1, 1)[:, 0]
    return scale + step.finer + UNITS * (grade.astype(np.int32) - 1)


def biases(grade: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """float64 [m]: the mean error that the numbers [m, NUMBERS] of an image name for each grade."""
    return np.take_along_axis(numbers, GRADES - 1 + grade[:, None].astype(np.int64), 1)[:, 0] * (1 / _PART)


def corrections(points: np.ndarray, grade: np.ndarray, numbers: np.ndarray, step: Step) -> np.ndarray:
    """float64 [m]: what is added to likely logits whose levels stand for `points`, 1/FRACTION steps."""
    return points * (steps_of(grade, step) / FRACTION) + biases(grade, numbers)


def correct(logits: np.ndarray, likely: Likely, points: np.ndarray, numbers: np.ndarray, step: Step) -> None:
    """Add what is known of likely and of unlikely classes, in place.

    Args:
        logits: float64 [rows, C], natural unit, as coded coarsely.
        likely: of these rows.
        points: float64 [m], what their levels stand for, 1/FRACTION steps.
        numbers: int32 [rows, NUMBERS]: of the image of each row.
        step: from `step_of`.
    """
    at = likely.row, likely.column
    corrected = logits[at] + corrections(points, likely.grade, numbers[likely.row], step)
    logits += raised_by(numbers)[:, None]
    logits[at] = corrected


def steps_of(grade: np.ndarray, step: Step) -> np.ndarray:
    """float64 [m]: the step of each likely class, natural unit."""
    return np.ldexp(step.size, 1 - grade.astype(np.int32))


def raised_by(numbers: np.ndarray) -> np.ndarray:
    """float64 [m]: what the unlikely classes of rows with these numbers [m, NUMBERS] are raised by."""
    return numbers[:, -1] * (1 / _PART)


def best_raise(logits: np.ndarray, decoded: np.ndarray, likely: Likely) -> int:
    """The raise of the unlikely, 1/_PART, with the least KL divergence at T = 1 over the rows of an image.

    Args:
        logits, decoded: [rows, C], natural unit.
        likely: of these rows.
    """
    at = likely.row, likely.column
    top = logits.max(1, keepdims=True)
    true, found = (np.exp(np.minimum(x - top, 80).astype(np.float32)) for x in (logits, decoded))
    true_sum, found_sum = true.sum(1, dtype=np.float64), found.sum(1, dtype=np.float64)
    true_common, common = (np.bincount(likely.row, x[at], len(logits)) for x in (true, found))
    share, rare = 1 - true_common / true_sum, np.maximum(found_sum - common, 0)
    value = 0.0
    for _ in range(12):  # Newton's method on a convex function of one variable
        p = rare * np.exp(value) / np.maximum(rare * np.exp(value) + common, 1e-300)
        value -= float((p - share).mean()) / max(float((p * (1 - p)).mean()), 1e-3)
        value = min(max(value, -2.0), 2.0)
    return round(_PART * value)
