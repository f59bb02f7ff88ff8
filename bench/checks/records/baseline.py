"""Drift: which numbers moved against earlier records of the same trials, in which direction, and by how much."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from bench import machine
from bench.checks.records.board import Cell, Line, row
from bench.checks.records.rules import Findings
from bench.records.schema import COUNTED_AS
from bench.records.used_origins import used_origins
from bench.stats.drift import Drift, drift
from bench.stats.intervals import paired, pooled_std, resolvable

COMPETING = ("method", "compressor")  # digests whose change is meant to move a number
Pair = tuple[Line, Line]  # of one trial: baseline, present
Row = str  # cell and row, as messages call it


def check_drift(present: Sequence[Cell], baseline: Sequence[Cell], out: Findings) -> None:
    """All rules of this module. Records are paired by trial; what has no partner is told, not judged."""
    now, before = _results(present), _results(baseline)
    if not now.keys() & before.keys():
        out.add("no-overlap", "baseline", "records and baseline have no trial in common: there is nothing to compare")
        return
    if gone := [line for name, (_, line) in before.items() if name not in now]:
        out.add("vanished", gone, f"trials of the baseline that have no result here: {len(gone)}")
    if added := [line for name, (_, line) in now.items() if name not in before]:
        out.add("new-trials", added, f"trials that the baseline has no result of: {len(added)}")
    rows: dict[Row, list[Pair]] = defaultdict(list)
    for name, (where, line) in now.items():
        if name in before:
            rows[where].append((before[name][1], line))
    pairs = [pair for members in rows.values() for pair in members]
    _digests(pairs, out)
    _bits(pairs, out)
    _moved(rows, out)


def _results(board: Sequence[Cell]) -> dict[str, tuple[Row, Line]]:
    """Trial -> its row and its result."""
    return {
        line.record.id: (f"{cell}, {row(name)}", line)
        for cell in board
        for name, lines in cell.entries.items()
        for line in lines
        if line.record.status == "ok"
    }


def _digests(pairs: Sequence[Pair], out: Findings) -> None:
    """What the two boards were made from, where it differs: told before any number."""
    changes: Counter[tuple[str, str | None, str | None]] = Counter()
    for before, now in pairs:
        origins = used_origins([before.record, now.record])
        for part in origins[0].keys() | origins[1].keys():
            was, is_ = (each.get(part) for each in origins)
            if was != is_:
                changes[part, was, is_] += 1
    for (part, was, is_), count in sorted(changes.items(), key=str):
        difference = f"{(was or '(none)')[:8]} in the baseline, {(is_ or '(none)')[:8]} here"
        out.add("digests-changed", part, f"{difference}, for {count} of {len(pairs)} trials")


def _bits(pairs: Sequence[Pair], out: Findings) -> None:
    """The same digests on kinds of machine that must agree: the same bits. Elsewhere `_moved` judges, and why it is
    elsewhere is told once for each reason."""
    elsewhere: Counter[str] = Counter()
    for before, now in pairs:
        a, b = before.record, now.record
        origins = used_origins([a, b])
        if origins[0] != origins[1]:
            continue
        if why := machine.difference(a.environment, b.environment):
            elsewhere[why] += 1
            continue
        names = ["accuracy", "test_loss", "train_loss", "curve", "bytes_labels"]
        if a.provenance.get(COUNTED_AS) == b.provenance.get(COUNTED_AS):
            names.append("bytes_images")
        if different := [name for name in names if getattr(a, name) != getattr(b, name)]:
            out.add(
                "not-bitwise",
                now,
                f"{now.trial}: {', '.join(different)} differ from {before.where}, by the same code on machines that "
                f"must agree to the bit (accuracy {a.accuracy}, here {b.accuracy})",
            )
    for why, count in elsewhere.items():
        out.add(
            "other-machine",
            "baseline",
            f"{why}: bits may differ, so {count} of {len(pairs)} trials are compared by statistics alone",
        )


def _moved(rows: Mapping[Row, Sequence[Pair]], out: Findings) -> None:
    """Accuracies of a row against the baseline's, paired by replicate; Holm's correction over all rows."""
    before = {name: {pair[0].trial.replicate: pair[0].record.accuracy or 0.0 for pair in p} for name, p in rows.items()}
    now = {name: {pair[1].trial.replicate: pair[1].record.accuracy or 0.0 for pair in p} for name, p in rows.items()}
    results = drift(before, now)
    for each in results:
        if each.verdict == "moved":
            edited = [part for part in COMPETING if _changed(rows[each.cell], part)]
            out.add("moved", each.cell, _movement(each, edited, len(results)), "warning" if edited else None)
    if untested := [each.cell for each in results if each.verdict == "unknown"]:
        out.unchecked("moved", untested, "fewer than two replicates in common")
    spreads = [(paired(now[each.cell], before[each.cell]).std, each.n) for each in results if each.n > 1]
    if spreads:
        n = round(median(n for _, n in spreads))
        spread = pooled_std(spreads)
        least = resolvable(spread, n)
        if least > 0:  # False for nan
            out.add(
                "resolution",
                f"{len(spreads)} rows",
                f"differences between the boards have a standard deviation of {100 * spread:.2f} points; with {n} "
                f"replicates one row by itself shows a movement of {100 * least:.2f} points with 80 % probability, and "
                "more is needed among many rows (bench/stats/drift.py)",
            )


def _changed(pairs: Sequence[Pair], part: str) -> bool:
    return any(before.record.made_by.get(part) != now.record.made_by.get(part) for before, now in pairs)


def _movement(each: Drift[Row], edited: Sequence[str], rows: int) -> str:
    why = f"; its {' and '.join(edited)} was edited" if edited else ""
    interval = f"95 % interval {100 * each.low:+.2f} to {100 * each.high:+.2f}"
    return (
        f"{100 * each.difference:+.2f} points ({interval}) over {each.n} replicates, p = {each.p_holm:.2g} after "
        f"Holm's correction for {rows} rows{why}"
    )
