"""The scores of DD-Ranking, in fractions: how much of a result is due to the images, not to the recipe.

Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation" (2025), github.com/NUS-HPC-AI-Lab/DD-Ranking:

    HLR   = acc(full data, hard labels) - acc(condensed, hard labels)                   lower is better
    IOR   = acc(condensed) - acc(random images), same ipc and recipe                     higher is better
    alpha = w IOR - (1 - w) HLR,                          w = .5
    LRS   = (e^alpha - e^-1) / (e - e^-1)                 0 to 1, label-robust score
    beta  = g IOR(with augmentation) + (1 - g) IOR(without augmentation),   g = .5
    ARS   = (e^beta - e^-1) / (e - e^-1)                  0 to 1, augmentation-robust score

The formulas suppose accuracies in [0, 1]. The package (0.2.0) puts in percent: alpha = +10 then gives a score near
9,400, and every clearly negative alpha the same -.157. Here percent is refused. Two more differences: the package picks
epoch and learning rate on the test split, for which there is no place here; its "any" recipe of IOR is whatever
protocol a record was made under.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from bench.errors import UserError
from bench.records.files import ReadRecord
from bench.reports.leaderboard.columns import stored_as
from bench.reports.leaderboard.entries import REFERENCE_METHOD, Entry, entries_of, entry_order
from bench.reports.printers import printed
from bench.reports.quantities import MISSING, interval, marked, unofficial_notes
from bench.reports.table import Column, Page, Table, by_key, rows_of, typed
from bench.stats import intervals

WEIGHT = 0.5  # w and g
# In the order of CSV and JSON. Fractions, in tables for people points.
COLUMNS = by_key(
    (
        Column("dataset", "str"),
        Column("protocol", "str"),
        Column("ipc", "int64"),
        Column("method", "str", "method", left=True),
        # None under hard labels.
        Column("compressor", heading="compressor", show_row=stored_as, left=True),
        Column("budget"),  # None where there is none
        Column("student", "str"),
        Column("labels", "str"),
        Column("n", "int64", "n"),  # replicates that IOR is the mean of
        Column("ior", "float64", "IOR", lambda value: interval(value, math.nan, "+")),
        Column("hlr", "float64", "HLR", lambda value: interval(value, math.nan, "+")),
        Column("lrs", "float64", "LRS", "{:.3f}".format),
        Column("ars", "float64", "ARS", "{:.3f}".format),
        Column("hard_protocol", heading="HLR under", left=True),  # under which HLR was measured
        # The recipe without augmentation that ARS was measured with.
        Column("plain_protocol", heading="ARS with", left=True),
        Column("official", "bool"),  # see bench.reports.leaderboard.entries.Entry.official
        Column("default_recipe", "bool"),  # whether the protocol has no entry for the data set
        Column("why", "str"),  # what is lacking where a score is nan
    )
)
_NOTES = (
    "HLR: accuracy of the full data minus that of the condensed set, both under hard labels (lower is better). IOR: "
    "improvement over random images under the same recipe. Both in points.",
    "LRS, ARS: DD-Ranking's label-robust and augmentation-robust scores, fractions in [0, 1] (w = g = .5); 0.269 "
    "stands for no difference at all. The package feeds percent into the same formulas: its figures do not compare.",
)


def hlr(real_hard: float, condensed_hard: float) -> float:
    """Hard-label recovery: what the condensed set loses against the full data, both with hard labels. Fractions; nan
    where one is. Raises UserError for accuracies outside [0, 1]."""
    return _accuracy("real_hard", real_hard) - _accuracy("condensed_hard", condensed_hard)


def ior(condensed: float, random: float) -> float:
    """Improvement over random images of the same number under the same recipe. Fractions; nan where one is. Raises
    UserError for accuracies outside [0, 1]."""
    return _accuracy("condensed", condensed) - _accuracy("random", random)


def lrs(hlr: float, ior: float, w: float = WEIGHT) -> float:
    """Label-robust score in [0, 1] of HLR and IOR in [-1, 1]. Raises UserError outside, and for w outside [0, 1]."""
    _accuracy("w", w)
    return _score(w * _difference("ior", ior) - (1 - w) * _difference("hlr", hlr))


def ars(ior_augmented: float, ior_plain: float, g: float = WEIGHT) -> float:
    """Augmentation-robust score in [0, 1] of IOR with and without augmentation, in [-1, 1]. Raises UserError outside,
    and for g outside [0, 1]."""
    _accuracy("g", g)
    return _score(g * _difference("ior_augmented", ior_augmented) + (1 - g) * _difference("ior_plain", ior_plain))


def _score(weighted: float) -> float:
    return (math.exp(weighted) - math.exp(-1)) / (math.e - math.exp(-1))


def _accuracy(name: str, value: float) -> float:
    return _within(name, value, 0, 1)


def _difference(name: str, value: float) -> float:
    return _within(name, value, -1, 1)


def _within(name: str, value: float, low: int, high: int) -> float:
    if math.isnan(value) or low <= value <= high:
        return value
    hint = f" It looks like percent; type {value / 100:g}." if low <= value / 100 <= high else ""
    raise UserError(f"DD-Ranking: {name} = {value:g} is not a fraction in [{low}, {high}].{hint}")


def scores(
    records: Iterable[ReadRecord],
    full_data: Iterable[ReadRecord] = (),
    plain: Mapping[str, str] | None = None,
    released: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """The scores that records allow, with the columns of `COLUMNS`, as fractions.

    IOR: of every entry but random, paired by replicate with random under the same compressor and budget.
    HLR: the same method and ipc under hard labels, and a record among `full_data` (hard labels, all training images)
    of the same data set, protocol and student; the digests of data set, protocol, engine and network must agree.
    LRS: of this HLR, and of IOR under the entry's own recipe; an entry has a row for each hard protocol that gives HLR.
    ARS: IOR of the same entry under `plain[protocol]`, the id of the protocol without augmentation.

    `released`, protocol id -> digest of what was released, is for the column `official`.
    What cannot be computed is nan, and `why` says what is lacking.
    """
    entries = entries_of(records)
    real = {_recipe(entry): _mean(entry) for entry in entries_of(full_data) if entry.labels == "hard"}
    random = {_cell(entry): entry for entry in entries if entry.trial["method"] == REFERENCE_METHOD}
    differences = {
        entry.name: intervals.paired(entry.accuracies, random[_cell(entry)].accuracies)
        for entry in entries
        if _cell(entry) in random
    }
    hard = defaultdict(list)  # HLR by what is trained on
    improvements = {}
    for entry in entries:
        trial = entry.trial
        reference = real.get(_recipe(entry))
        if entry.labels == "hard" and reference is not None and entry.accuracies:
            hard[_set(entry)].append((trial["protocol"], hlr(reference, _mean(entry))))
        if entry.name in differences:
            improvements[trial["protocol"], _set(entry), trial["compressor"], trial["budget"]] = differences[entry.name]
    rows: list[dict[str, Any]] = []
    for entry in sorted(entries, key=entry_order):
        trial = entry.trial
        if trial["method"] == REFERENCE_METHOD:
            continue
        improvement = differences.get(entry.name, intervals.summary([]))
        other = (plain or {}).get(trial["protocol"])
        bare = improvements.get((other, _set(entry), trial["compressor"], trial["budget"]), intervals.summary([]))
        for protocol, loss in hard[_set(entry)] or [(None, math.nan)]:
            lacking = [
                "ior: no result of random (or of this entry) under the same recipe"
                if math.isnan(improvement.mean)
                else "",
                "hlr: no full-data accuracy and result of this method under the same hard labels"
                if protocol is None
                else "",
                "ars: no protocol without augmentation was named"
                if other is None
                else f"ars: no IOR under {other}"
                if math.isnan(bare.mean)
                else "",
            ]
            rows.append(
                {
                    **{key: value for key, value in trial.items() if key in COLUMNS},
                    "labels": entry.labels,
                    "n": improvement.n,
                    "ior": improvement.mean,
                    "hlr": loss,
                    "lrs": lrs(loss, improvement.mean),
                    "ars": ars(improvement.mean, bare.mean),
                    "hard_protocol": protocol,
                    "plain_protocol": None if math.isnan(bare.mean) else other,
                    "official": entry.official(released),
                    "default_recipe": entry.default_recipe,
                    "why": "; ".join(filter(None, lacking)),
                }
            )
    return typed(COLUMNS, rows)


def render_scores(frame: pd.DataFrame, format: str = "text") -> str:
    """`scores(...)` in a format of bench.reports.printers; CSV and JSON hold every column, unrounded."""
    return printed(scores_page(frame), format)


def scores_page(frame: pd.DataFrame) -> Page:
    """The tables of `scores(...)`."""
    if frame.empty:
        nothing = "No records of a method other than random yet. Make some with: condensebench run --results DIR"
        return Page([], frame, nothing=nothing)
    tables = []
    for (dataset, protocol, labels, official, default, ipc, student), table in frame.groupby(
        ["dataset", "protocol", "labels", "official", "default_recipe", "ipc", "student"], sort=False
    ):
        heading = f"DD-Ranking, {dataset}, {protocol}, {labels} labels, ipc {ipc}, student {student}"
        shown = [column for column in COLUMNS.values() if column.heading is not None]
        tables.append(Table(shown, [rows_of(table)], title=marked(heading, bool(official), bool(default))))
    lacking = {reason for why in frame["why"] for reason in why.split("; ") if reason}
    notes = [*_NOTES, *(f"{MISSING} in {reason}" for reason in sorted(lacking))]
    return Page(tables, frame, notes=[*notes, *unofficial_notes(frame)])


def _mean(entry: Entry) -> float:
    return intervals.summary(entry.accuracies.values()).mean


def _recipe(entry: Entry) -> tuple[Hashable, ...]:
    """All that makes two results under hard labels comparable; a teacher has no part in them."""
    digests = (entry.digest(part) for part in ("dataset", "protocol", "engine", "network"))
    return (entry.trial["dataset"], entry.trial["protocol"], entry.trial["student"], *digests)


def _set(entry: Entry) -> tuple[Hashable, ...]:
    """The condensed set and its student, whatever the labels."""
    trial = entry.trial
    digests = (entry.digest("dataset"), entry.digest("network"), entry.made_by.get("method"))
    return (trial["dataset"], trial["ipc"], trial["method"], trial["student"], *digests)


def _cell(entry: Entry) -> tuple[Hashable, ...]:
    return (entry.names, entry.fixed, entry.trial["compressor"], entry.trial["budget"])
