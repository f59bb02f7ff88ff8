"""A against B, cell by cell, paired by replicate: two results folders, or two entries of one.

Pairs are only made where everything that the protocol fixes is the same (data set, teacher, protocol, engine and
network by digest, and the label regime); every cell that is left out is listed with the reason.
bench/reports/comparison_text.py prints what is built here.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.errors import UserError
from bench.records.files import Record
from bench.records.schema import FIXED
from bench.reports.leaderboard.entries import Entry, entries_of, entry_order
from bench.reports.quantities import METHOD_WIDTH, interval, p_value, percent
from bench.reports.table import Column, by_key, typed
from bench.stats import intervals
from bench.stats.significance import Test, holm, paired_t, sign_flip, sign_test

# In the order of CSV and JSON, and of tables for people as far as they have a heading. The keys are stable: programs
# read them. Accuracies and differences as fractions. The columns up to compressor_b say which cell a row is.
COLUMNS = by_key(
    (
        Column("dataset", "str", "dataset", left=True, width=22),
        Column("protocol", "str", "protocol", left=True, width=20),
        Column("labels", "str", "labels", left=True, width=20),  # the label regime
        Column("ipc", "int64", "ipc"),
        Column("student", "str", "student", left=True, width=20),
        Column("method_a", "str", "method A", left=True, width=METHOD_WIDTH),
        # COMPRESSOR or COMPRESSOR@BUDGET; None under hard labels.
        Column("compressor_a", heading="compressor A", left=True, width=20),
        Column("method_b", "str", "method B", left=True, width=METHOD_WIDTH),
        Column("compressor_b", heading="compressor B", left=True, width=20),
        Column("n", "int64", "n"),  # pairs of replicates
        Column("mean_a", "float64", "A", percent, unit="%"),  # over these pairs
        Column("mean_b", "float64", "B", percent, unit="%"),
        # Mean of A - B, and half of its 95 % t interval.
        Column("difference", "float64", "A - B", show_row=lambda row: interval(row["difference"], row["ci95"], "+")),
        Column("ci95", "float64"),
        # win, tie or loss of A: whether the interval lies above, about or below 0
        Column("result", "str", "A", left=True),
        Column("p_t", "float64", "p (t)", p_value),  # paired t test, two-sided
        Column("p_t_holm", "float64", "Holm", p_value),  # Holm-adjusted over the cells
        Column("p_flip", "float64", "p (flip)", p_value),  # sign-flip permutation test, two-sided
        Column("p_flip_smallest", "float64", "at least", p_value),  # that so many pairs could have given
        Column("fixed_digest", "str"),  # of data set, teacher, protocol, engine and network
    )
)


@dataclass(frozen=True)
class Comparison:
    """What comparing A with B gave."""

    a: str  # how A is called
    b: str
    cells: pd.DataFrame  # with the columns of `COLUMNS`, one row a pair of entries
    unpaired: list[tuple[str, str]]  # (cell, reason) of what was left out
    wins: int  # cells in which A is better, see `result`
    ties: int
    losses: int
    difference: float  # mean over the cells of A - B; nan without any
    sign: Test  # of the cells' differences against a fair coin


def compare(a: Iterable[Record], b: Iterable[Record], names: tuple[str, str] = ("A", "B")) -> Comparison:
    """A and B are two sets of records; the same trials are paired. `names`: how to call them.

    Entries pair where data set, protocol, label regime, ipc, student, method, compressor and budget agree. The methods
    may be of different versions.
    """

    def key(entry: Entry) -> Hashable:
        return (*entry.names, *(entry.trial[part] for part in ("method", "compressor", "budget")))

    return _compare(entries_of(a), entries_of(b), key, names)


def compare_entries(records: Iterable[Record], a: str, b: str) -> Comparison:
    """A and B are entries of the same records: METHOD, METHOD/COMPRESSOR or METHOD/COMPRESSOR@BUDGET.

    Cells are paired by data set, protocol, label regime, ipc and student, and by compressor and budget as far as
    neither side names them; a side that names no compressor takes that of the other. Raises UserError for an entry that
    the records do not hold.
    """
    entries = entries_of(records)
    first, second = _chosen(entries, a), _chosen(entries, b)
    if first.compressor is None or second.compressor is None:
        named = first if second.compressor is None else second
        first, second = (_Choice(each.method, named.compressor, named.budget) for each in (first, second))
    free = [
        *(["compressor"] if first.compressor is None else []),
        *(["budget"] if first.budget is None and second.budget is None else []),
    ]

    def key(entry: Entry) -> Hashable:
        return (*entry.names, *(entry.trial[part] for part in free))

    return _compare(
        [entry for entry in entries if first.holds(entry)],
        [entry for entry in entries if second.holds(entry)],
        key,
        (a, b),
    )


@dataclass(frozen=True)
class _Choice:
    """Which entries a name stands for; None: any."""

    method: str
    compressor: str | None = None
    budget: str | None = None

    def holds(self, entry: Entry) -> bool:
        trial = entry.trial
        return (
            trial["method"] == self.method
            and self.compressor in (None, trial["compressor"])
            and self.budget in (None, trial["budget"])
        )


def _chosen(entries: Sequence[Entry], text: str) -> _Choice:
    names: dict[str, _Choice] = {}
    for entry in entries:
        method, compressor, budget = (entry.trial[part] for part in ("method", "compressor", "budget"))
        names[method] = _Choice(method)
        if compressor is not None:
            names[f"{method}/{compressor}"] = _Choice(method, compressor)
        if budget is not None:
            names[f"{method}/{compressor}@{budget}"] = _Choice(method, compressor, budget)
    if text in names:
        return names[text]
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    methods = ", ".join(sorted({entry.trial["method"] for entry in entries})) or "none"
    raise UserError(
        f"the records have no entry '{text}'.{hint}\nTheir methods: {methods}. "
        "Type METHOD, or METHOD/COMPRESSOR@BUDGET such as random/svd@10x."
    )


def _compare(
    a: Sequence[Entry], b: Sequence[Entry], key: Callable[[Entry], Hashable], names: tuple[str, str]
) -> Comparison:
    sides: dict[Hashable, tuple[list[Entry], list[Entry]]] = defaultdict(lambda: ([], []))
    for side, entries in enumerate((a, b)):
        for entry in sorted(entries, key=entry_order):
            sides[key(entry)][side].append(entry)
    rows, unpaired = [], []
    for ours, theirs in sides.values():
        pairs = [(entry, other) for entry in ours for other in theirs if entry.comparable(other)]
        common = [(entry, other) for entry, other in pairs if entry.accuracies.keys() & other.accuracies.keys()]
        rows += [_row(entry, other) for entry, other in common]
        if not common:
            unpaired.append((_described((ours or theirs)[0]), _reason(ours, theirs, names)))
    for row, p in zip(rows, holm([row["p_t"] for row in rows]), strict=True):
        row["p_t_holm"] = float(p)
    cells = typed(COLUMNS, rows)
    results = [row["result"] for row in rows]
    return Comparison(
        *names,
        cells=cells,
        unpaired=unpaired,
        wins=results.count("win"),
        ties=results.count("tie"),
        losses=results.count("loss"),
        difference=intervals.summary(cells["difference"]).mean,
        sign=sign_test(cells["difference"]),
    )


def _row(a: Entry, b: Entry) -> dict[str, Any]:
    both = sorted(a.accuracies.keys() & b.accuracies.keys())
    # Equal counts of images are equal, whatever the rounding of the ratios.
    differences = [round(each, 9) for each in intervals.differences(a.accuracies, b.accuracies)]
    difference, flip = intervals.summary(differences), sign_flip(differences, a.name, b.name)
    return {
        **{part: a.trial[part] for part in ("dataset", "protocol", "ipc", "student")},
        "labels": a.labels,
        "method_a": a.trial["method"],
        "compressor_a": _compressor(a),
        "method_b": b.trial["method"],
        "compressor_b": _compressor(b),
        "n": difference.n,
        "mean_a": intervals.summary(a.accuracies[r] for r in both).mean,
        "mean_b": intervals.summary(b.accuracies[r] for r in both).mean,
        "difference": difference.mean,
        "ci95": difference.half,
        "result": "tie" if difference.includes_zero else "win" if difference.mean > 0 else "loss",
        "p_t": paired_t(differences).p,
        "p_flip": flip.p,
        "p_flip_smallest": flip.smallest_p,
        "fixed_digest": b.fixed if a.lacks else a.fixed,
    }


def _compressor(entry: Entry) -> str | None:
    compressor, budget = entry.trial["compressor"], entry.trial["budget"]
    return f"{compressor}@{budget}" if budget else compressor


def _described(entry: Entry) -> str:
    dataset, protocol, ipc, student, labels = entry.names
    row = " ".join([entry.trial["method"], *filter(None, [_compressor(entry)])])
    return f"{dataset}, {protocol}, {labels} labels, ipc {ipc}, student {student}, {row}"


def _reason(ours: Sequence[Entry], theirs: Sequence[Entry], names: tuple[str, str]) -> str:
    if not ours or not theirs:
        return f"only {names[0] if ours else names[1]} has it"
    for entry in ours:
        for other in theirs:
            if entry.comparable(other):
                return "they have no replicate with a result in common"
    differing = [part for part in FIXED if ours[-1].digest(part) != theirs[-1].digest(part)]
    return f"never paired, made under other digests of: {', '.join(differing)}"
