"""The columns of a leaderboard, each declared once: its value from an entry, its key and type for programs, its heading
and cells for people. A new column is one line of `COLUMNS`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from bench.records.files import ReadRecord
from bench.reports.leaderboard.entries import REFERENCE_METHOD, Entry, is_reference
from bench.reports.quantities import (
    COMPRESSOR_WIDTH,
    METHOD_WIDTH,
    MISSING,
    duration,
    interval,
    p_value,
    percent,
    size,
)
from bench.reports.table import Column, Row, Shown, by_key
from bench.stats import intervals


@dataclass(frozen=True)
class Standing:
    """An entry in its table, with what only the whole table tells."""

    entry: Entry
    reference: Entry | None  # of the same compressor and budget
    official: bool
    best: bool
    rank: str | None
    open_ranks: tuple[int | None, int | None]
    p: float  # paired t test of the differences
    p_holm: float

    @cached_property
    def results(self) -> list[ReadRecord]:
        """The records that have a result."""
        return [record for record in self.entry.records if record.status == "ok"]

    @cached_property
    def accuracy(self) -> intervals.Summary:
        """Of the replicates."""
        return intervals.summary(self.entry.accuracies.values())

    @cached_property
    def delta(self) -> intervals.Summary:
        """Of the paired differences to the reference."""
        return intervals.summary(differences(self.entry, self.reference))

    @property
    def bytes_images(self) -> int | None:
        """The mean over the replicates."""
        return _mean_bytes(record.bytes_images for record in self.results)

    @property
    def bytes_labels(self) -> int | None:
        """The mean over the replicates."""
        return _mean_bytes(record.bytes_labels.total if record.bytes_labels else None for record in self.results)

    @property
    def bits_per_class(self) -> float:
        """Of all that is stored, images and labels; nan without a result."""
        images, classes = self.bytes_images, self.results[0].num_classes if self.results else None
        return math.nan if images is None or not classes else 8 * (images + (self.bytes_labels or 0)) / classes

    @cached_property
    def curve(self) -> list[float] | None:
        """Of each student that a trial trains, the mean accuracy over the replicates; None where it trains one."""
        curves = [[point.accuracy for point in record.curve] for record in self.results if record.curve]
        if not curves or len({len(each) for each in curves}) > 1:
            return None
        return [intervals.summary(accuracies).mean for accuracies in zip(*curves, strict=True)]

    @cached_property
    def per_class(self) -> tuple[int, int, int] | None:
        """Over the replicates: images of the class with fewest and of the one with most, and the most classes without
        any; None under protocols that give every class as many."""
        seen = [record.condensed for record in self.results if record.condensed]
        if not self.entry.unbalanced or not seen:
            return None
        least, most = zip(*(each.per_class for each in seen), strict=True)
        return min(least), max(most), max(each.empty_classes or 0 for each in seen)

    @property
    def peak_bytes(self) -> int | None:
        """Of the student's training, the least over the replicates that tell it: the first one of a process also loads
        libraries."""
        peaks = ((record.peak_bytes or {}).get("train") for record in self.results)
        return min((peak for peak in peaks if peak is not None), default=None)

    def invalid(self, what: str) -> float:
        """Of the labels' "values" or "rows", the mean share that were no probabilities."""
        counted = (record for record in self.results if record.invalid_labels)
        return intervals.summary(_invalid_share(record, what) for record in counted).mean


@dataclass(frozen=True, kw_only=True)
class LeaderboardColumn(Column):
    """A column with the way to its raw value."""

    value: Callable[[Standing], Any]
    place: float = math.inf  # from the left in tables for people; of equal places the first declared comes first
    needs: tuple[str, ...] = ()  # the keys of columns of which one must hold a value in a table for this one to stand
    on_wish: bool = False  # only in tables of whoever asks for it by its key


def differences(entry: Entry, reference: Entry | None) -> list[float]:
    """To the reference, replicate by replicate; none of the reference itself."""
    other = {} if reference is None or reference is entry else reference.accuracies
    return intervals.differences(entry.accuracies, other)


def stored_as(row: Row) -> str:
    """COMPRESSOR@BUDGET, or the compressor alone where there is no budget."""
    return f"{row['compressor']}@{row['budget']}" if row["budget"] else row["compressor"] or MISSING


def _accuracy(row: Row) -> Shown:
    if row["status"] == "infeasible":
        return Shown(f"infeasible, ≥ {size(row['smallest_bytes'], 'B')}")
    if row["status"] == "failed":
        return Shown("failed")
    before = "(partial) " if row["status"] == "partial" else ""
    return Shown(interval(row["mean"], row["ci95"]), row["best"], before)


def _against_reference(row: Row) -> str:
    return (
        "reference"
        if is_reference(row["method"], row["labels"])
        else interval(row["delta_random"], row["delta_random_ci95"], "+")
    )


def _by_student(curve: list[float]) -> str:
    return " ".join(f"{100 * accuracy:.1f}" for accuracy in curve)


def _per_class(row: Row) -> str:
    if pd.isna(row["per_class_least"]):
        return MISSING
    empty = f", {row['empty_classes']} empty" if row["empty_classes"] else ""
    return f"{row['per_class_least']}-{row['per_class_most']}{empty}"


def _rank(row: Row) -> str:
    return f"{row['rank']} [{row['rank_low']}-{row['rank_high']}]" if row["rank"] else MISSING


def _invalid_share(record: ReadRecord, what: str) -> float:
    sizes = [record.num_images, record.num_views, *([record.num_classes] if what == "values" else [])]
    if record.invalid_labels is None or not all(sizes):
        return math.nan
    return float(getattr(record.invalid_labels, what) / math.prod(size or 0 for size in sizes))


def _mean_bytes(sizes: Iterable[int | None]) -> int | None:
    """Replicates of a method that draws at random hold different images, and PNGs of them different bytes."""
    known = [size for size in sizes if size is not None]
    return round(sum(known) / len(known)) if known else None


def _of_trial(key: str, kind: str, **shown: Any) -> LeaderboardColumn:
    return LeaderboardColumn(key, kind, value=lambda standing: standing.entry.trial[key], **shown)


# In the order of CSV and JSON. The keys are stable: programs read them. Accuracies and differences as fractions, sizes
# in bytes.
COLUMNS: dict[str, LeaderboardColumn] = by_key(
    (
        _of_trial("dataset", "str"),
        _of_trial("protocol", "str"),
        _of_trial("ipc", "int64"),
        _of_trial("method", "str", heading="method", left=True, width=METHOD_WIDTH, place=2),
        _of_trial(  # None under hard labels
            "compressor", "object", heading="compressor", show_row=stored_as, left=True, width=COMPRESSOR_WIDTH,
            place=1, needs=("compressor",),
        ),
        _of_trial("budget", "object"),  # None where there is none
        _of_trial("student", "str"),
        # Replicates that have a result.
        LeaderboardColumn("n", "int64", "n", value=lambda standing: standing.accuracy.n, place=5),
        LeaderboardColumn(
            "mean", "float64", "accuracy", unit="%", show_row=_accuracy, starred=True, place=3,
            value=lambda standing: standing.accuracy.mean,
        ),
        # Of protocols under which a trial trains several students: the mean over all of them, and each, the last being
        # the accuracy.
        LeaderboardColumn(
            "curve_mean", "float64", "average", percent, place=3.5, needs=("curve_mean",),
            value=lambda standing: intervals.summary(standing.curve or ()).mean,
        ),
        LeaderboardColumn(
            "curve", "object", "by student", _by_student, place=3.6, needs=("curve_mean",),
            value=lambda standing: standing.curve,
        ),
        # Sample standard deviation.
        LeaderboardColumn("std", "float64", "std", percent, value=lambda standing: standing.accuracy.std, place=4),
        # Half of the 95 % t interval of the mean.
        LeaderboardColumn("ci95", "float64", value=lambda standing: standing.accuracy.half),
        LeaderboardColumn(
            "bytes_images", "Int64", "images", lambda value: size(value, "B"), place=10,
            value=lambda standing: standing.bytes_images,
        ),
        LeaderboardColumn(
            "bytes_labels", "Int64", "labels", lambda value: size(value, "B"), place=9,
            needs=("compressor", "bytes_labels"),
            value=lambda standing: standing.bytes_labels,
        ),
        LeaderboardColumn(
            "bpc", "float64", "bits/class", lambda value: size(value, ""), place=11,
            value=lambda standing: standing.bits_per_class,
        ),
        LeaderboardColumn(  # mean paired difference to REFERENCE_METHOD
            "delta_random", "float64", f"vs {REFERENCE_METHOD}", show_row=_against_reference, place=6,
            value=lambda standing: standing.delta.mean,
        ),
        LeaderboardColumn("delta_random_ci95", "float64", value=lambda standing: standing.delta.half),
        LeaderboardColumn(  # among the methods with this compressor and budget, "1=" where tied
            "rank", "object", "rank", show_row=_rank, place=8, value=lambda standing: standing.rank
        ),
        # Best of all rows with this budget, or tied with the best.
        LeaderboardColumn("best", "bool", value=lambda standing: standing.best),
        LeaderboardColumn(  # mean wall time of a trial
            "seconds", "float64", "time", duration, place=12,
            value=lambda standing: intervals.summary(
                sum(record.seconds.values()) for record in standing.entry.records if record.seconds
            ).mean,
        ),
        # ok, partial (some replicates have no result), failed, infeasible
        LeaderboardColumn("status", "str", value=lambda standing: standing.entry.status),
        LeaderboardColumn(  # infeasible: what the compressor needs at the least
            "smallest_bytes", "Int64",
            value=lambda standing: max(
                (record.smallest_bytes for record in standing.entry.records if record.smallest_bytes is not None),
                default=None,
            ),
        ),
        LeaderboardColumn("protocol_digest", "object", value=lambda standing: standing.entry.digest("protocol")),
        # Of data set, teacher, protocol, engine and network.
        LeaderboardColumn("fixed_digest", "str", value=lambda standing: standing.entry.fixed),
        # The ranks that the replicates leave open (bench.stats.ranks), 1 the best.
        LeaderboardColumn("rank_low", "Int64", value=lambda standing: standing.open_ranks[0]),
        LeaderboardColumn("rank_high", "Int64", value=lambda standing: standing.open_ranks[1]),
        # Paired t test of delta_random, two-sided; Holm-adjusted over the rows of the table.
        LeaderboardColumn("p_random", "float64", value=lambda standing: standing.p),
        LeaderboardColumn("p_random_holm", "float64", "p", p_value, place=7, value=lambda standing: standing.p_holm),
        # The label regime: hard, stored, online or learned.
        LeaderboardColumn("labels", "str", value=lambda standing: standing.entry.labels),
        # Whether the protocol is a released one, unchanged, with an entry for the data set.
        LeaderboardColumn("official", "bool", value=lambda standing: standing.official),
        LeaderboardColumn("default_recipe", "bool", value=lambda standing: standing.entry.default_recipe),
        # Of protocols that let classes have different numbers of images: the fewest and most of a class, and how many
        # classes have none.
        LeaderboardColumn(
            "per_class_least", "Int64", "images/class", show_row=_per_class, place=10.5, needs=("per_class_least",),
            value=lambda standing: standing.per_class and standing.per_class[0],
        ),
        LeaderboardColumn("per_class_most", "Int64", value=lambda each: each.per_class and each.per_class[1]),
        LeaderboardColumn("empty_classes", "Int64", value=lambda each: each.per_class and each.per_class[2]),
        LeaderboardColumn("unbalanced", "bool", value=lambda standing: standing.entry.unbalanced),
        # Of the student's training, above where it began: of the GPU, or resident.
        LeaderboardColumn(
            "peak_train", "Int64", "peak", lambda value: size(value, "B"), place=12, on_wish=True,
            value=lambda standing: standing.peak_bytes,
        ),
        # The teachers that were used, and their accuracy on the test split.
        LeaderboardColumn("teachers", "object", value=lambda standing: standing.entry.teachers),
        # Shares of the labels' values that came out as negative probabilities, and of rows that did not sum to one.
        LeaderboardColumn("invalid_values", "float64", value=lambda standing: standing.invalid("values")),
        LeaderboardColumn("invalid_rows", "float64", value=lambda standing: standing.invalid("rows")),
    )
)  # fmt: skip
