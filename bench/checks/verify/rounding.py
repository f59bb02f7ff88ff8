"""What rounding alone can do to a result: the same seed under other instruction sets.

A training whose additions round otherwise takes another path, so another kind of machine gives another result by the
same code. How far apart two such results lie was measured by running every trial of results/former-plan.toml in two
kinds of arithmetic (rounding.toml, made by `python -m speed.rounding`), and is measured again where a claim is
verified, on the replicates of its row. The spread is a root mean square over pairs of one seed; no mean is taken out,
since rounding has no direction.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy import stats

from bench.records.files import Record

Result = tuple[float | None, float | None, float | None]  # accuracy, test loss, training loss

TABLE = Path(__file__).with_name("rounding.toml")
FALSE_ALARMS = 0.05  # over all records that are verified together
METRICS = ("accuracy", "test_loss", "train_loss")


def result(record: Record) -> Result:
    """(accuracy, test loss, training loss): what two runs of one trial share to the last bit, and nothing else does."""
    return record.accuracy, record.test_loss, record.train_loss


@dataclass(frozen=True)
class Spread:
    """Squared differences of one seed's results, summed over pairs: of accuracies, and of logarithms of losses."""

    squares: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pairs: int = 0

    def __add__(self, other: Spread) -> Spread:
        sums = tuple(a + b for a, b in zip(self.squares, other.squares, strict=True))
        return Spread((sums[0], sums[1], sums[2]), self.pairs + other.pairs)

    def limits(self, tests: int, num_test: int | None) -> Limits:
        """How far apart two results of one seed may lie, with at most FALSE_ALARMS over `tests` records together.

        Each record is held to three limits (Bonferroni); the quantile is Student's t with as many degrees of freedom
        as pairs. One test image is added to the accuracy, for its own steps.
        """
        quantile = float(stats.t.ppf(1 - FALSE_ALARMS / (2 * len(METRICS) * tests), self.pairs))
        accuracy, test_loss, train_loss = (quantile * math.sqrt(each / self.pairs) for each in self.squares)
        return Limits(accuracy + 1 / (num_test or math.inf), test_loss, train_loss)


@dataclass(frozen=True)
class Limits:
    """How far apart two results of one seed may lie: accuracies, and the logarithms of losses. Zero: equal to the
    bit."""

    accuracy: float = 0.0
    test_loss: float = 0.0
    train_loss: float = 0.0

    def distance(self, first: Result, second: Result) -> float:
        """The largest of the three differences, as a share of its limit; at most 1 where the results agree."""
        return max(self.accuracies(first[0], second[0]), self.losses(first, second))

    def losses(self, first: Result, second: Result) -> float:
        """The larger difference of the two losses, as a share of its limit."""
        return max(self.test_losses(first[1], second[1]), self.training(first, second))

    def accuracies(self, first: float | None, second: float | None) -> float:
        """The difference of two accuracies, as a share of its limit."""
        if first == second:
            return 0.0
        return math.inf if first is None or second is None else _share(abs(first - second), self.accuracy)

    def test_losses(self, first: float | None, second: float | None) -> float:
        """The difference of two test losses, as a share of its limit."""
        return _share(_log_ratio(first, second), self.test_loss)

    def training(self, first: Result, second: Result) -> float:
        """The difference of two training losses, as a share of its limit."""
        return _share(_log_ratio(first[2], second[2]), self.train_loss)


EXACT = Limits()


def spread_of(pairs: Iterable[tuple[Result, Result]]) -> Spread:
    """The spread of pairs of results of one seed; a pair that lacks a value, or has a loss of zero, is left out."""
    squares, count = np.zeros(3), 0
    for first, second in pairs:
        accuracy = math.inf if first[0] is None or second[0] is None else first[0] - second[0]
        differences = np.array([accuracy, _log_ratio(first[1], second[1]), _log_ratio(first[2], second[2])])
        if np.isfinite(differences).all():
            squares, count = squares + differences**2, count + 1
    return Spread((float(squares[0]), float(squares[1]), float(squares[2])), count)


def _share(difference: float, limit: float) -> float:
    return 0.0 if difference == 0 else difference / limit if limit > 0 else math.inf


def _log_ratio(first: float | None, second: float | None) -> float:
    """The absolute logarithm of the ratio of two losses; infinite where one is none, or only one is zero."""
    if first == second and first is not None:
        return 0.0
    return math.inf if not first or not second or first * second < 0 else abs(math.log(first / second))


def measured(protocol: str, dataset: str) -> Spread:
    """The spread that was measured for a protocol and a data set (without its parameters); no pairs where none was."""
    entry = _table().get(protocol, {}).get(dataset.partition(":")[0])
    if entry is None:
        return Spread()
    squares = tuple(entry["pairs"] * entry[metric] ** 2 for metric in METRICS)
    return Spread((squares[0], squares[1], squares[2]), int(entry["pairs"]))


@cache
def _table() -> dict[str, dict[str, dict[str, float]]]:
    """Protocol -> data set -> pairs, and the root mean square of each of METRICS (of logarithms, for losses)."""
    table: dict[str, dict[str, dict[str, float]]] = tomllib.loads(TABLE.read_text(encoding="utf-8"))["spread"]
    return table
