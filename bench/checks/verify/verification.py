"""`condensebench verify ID|DIR...`: runs records again here, from nothing, and says what came out otherwise.

On the same kind of machine (processor, versions, threads) every bit must agree. Elsewhere a training takes another
path, so a claim is held to a tolerance that follows from the spread of the replicates at hand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from scipy import stats

from bench.checks.records.baseline import same_machine
from bench.checks.records.board import Cell, Line, cells
from bench.checks.records.check_records import read_lines
from bench.checks.records.fairness import check_code
from bench.checks.records.prescribed import Prescribed
from bench.checks.records.rules import Findings
from bench.checks.verify.diagnosis import Diagnosis, made_otherwise, other_content, other_result, result
from bench.checks.verify.rerun import Reruns
from bench.driver.defaults import default_store
from bench.driver.outcome import ignore
from bench.errors import UserError
from bench.lock.before_run import guard
from bench.plugins.registry import Registry
from bench.records.files import Record
from bench.seeds import numpy_generator
from bench.stats.intervals import pooled_std, summary

FALSE_ALARMS = 0.05  # over all records that were run again on another kind of machine
CODE_LENGTH = 0.01  # by which another machine's rounding may move the length of an entropy-coded label file
Progress = Callable[[Sequence[Line]], AbstractContextManager[Callable[[Record], None]]]


def _silent(lines: Sequence[Line]) -> AbstractContextManager[Callable[[Record], None]]:  # noqa: ARG001
    return nullcontext(ignore)


def select(targets: Sequence[str], results: Path, out: Findings) -> tuple[list[Line], list[Line]]:
    """(all records of the folders that are looked at, the last record of each trial that is asked for).

    Raises UserError for a target that is neither a path nor the id of a record.
    """
    folders = [target for target in targets if Path(target).exists()]
    ids = [target for target in targets if target not in folders]
    everything: list[Line] = []
    chosen: dict[str, Line] = {}
    for folder in folders:
        lines, _ = read_lines(folder, out)
        everything += lines
        chosen |= {line.record.id: line for line in lines}
    known = {line.record.id: line for line in read_lines(results, out)[0]} if ids else {}
    everything += known.values()
    for given in ids:
        matches = [
            line for name, line in known.items() if re.fullmatch("[0-9a-f]{4,16}", given) and name.startswith(given)
        ]
        if len(matches) != 1:
            raise UserError(
                f"'{given}' is neither a folder nor a file, and {len(matches) or 'no'} records of {results} have this "
                f"id. Ids are 16 hex digits, of which 4 or more are enough; name the folder with --results DIR."
            )
        chosen[matches[0].record.id] = matches[0]
    return everything, list(chosen.values())


def drawn(lines: Sequence[Line], count: int) -> list[Line]:
    """So many of the records, from every cell as evenly as can be. Which ones follows from the records' own digests:
    the same for everybody, and others as soon as any line changes."""
    rng = numpy_generator("verify", *sorted(line.record.digest for line in lines))
    piles = [[cell.lines[i] for i in rng.permutation(len(cell.lines))] for cell in cells(lines)]
    piles = [piles[i] for i in rng.permutation(len(piles))]
    order = [pile[depth] for depth in range(max(map(len, piles), default=0)) for pile in piles if depth < len(pile)]
    return order[:count]


def verify(
    lines: Sequence[Line],
    board: Sequence[Cell],
    registry: Registry,
    out: Findings,
    *,
    store: Path | None = None,
    jobs: int | None = None,
    progress: Progress = _silent,
) -> str:
    """Run the records again and add what differs to `out`. Returns the summary.

    Raises LockError where a released protocol that they name is not what protocols/lock.json holds.

    Args:
        lines: the records to run.
        board: cells of all records at hand, for the spread of replicates.
        registry: plugins and protocols that the records name.
        out: takes the findings.
        store: artifacts to trust and reuse; None: everything is made anew.
        jobs: trials at once; None: one a core.
        progress: what surrounds the runs: called with the records to run, it gives what is told each that ended.
    """
    place = store or default_store()
    prescribed = Prescribed(registry, place)
    guard(registry, prescribed.in_force({line.trial.protocol for line in lines}), place.resolve())
    ready = [line for line in lines if _can_run(line, prescribed, out)]
    if not ready:
        return f"0 of {len(lines)} records run again"
    exact = 0
    with (
        progress(ready) as ended,
        Reruns(registry, store=store, jobs=jobs, on_record=ended) as reruns,
    ):
        again = reruns.run(line.trial for line in ready)
        for line in ready:
            claim, record = line.record, again[line.trial]
            diagnosis = made_otherwise(claim, record)
            if diagnosis is None and same_machine(claim.environment, record.environment):
                diagnosis = other_content(claim, record)
                if diagnosis is None and result(claim) != result(record):
                    diagnosis = other_result(claim, line.trial, reruns)
                exact += diagnosis is None
            elif diagnosis is None:
                diagnosis = elsewhere(claim, record, tolerance(line, board, len(ready)))
            if diagnosis is not None:
                out.add(diagnosis.rule, line, f"{line.trial}: {diagnosis.message}")
    return f"{len(ready)} of {len(lines)} records run again, {exact} as claimed to the bit"


def tolerance(line: Line, board: Sequence[Cell], runs: int) -> float:
    """By how much the accuracy of a record may differ on another kind of machine; nan where no spread is known.

    There the training is another draw, so the difference has sqrt(2) times the standard deviation of the replicates
    (pooled over the rows of the cell). The t quantile keeps false alarms over `runs` records together below
    `FALSE_ALARMS`; one test image is added for the accuracy's own steps.
    """
    cell = next(cell for cell in board if any(each.record.id == line.record.id for each in cell.lines))
    values = [
        [each.record.accuracy or 0.0 for each in row if each.record.status == "ok"] for row in cell.entries.values()
    ]
    rows = [row for row in map(summary, values) if row.n > 1]
    if not rows:
        return math.nan
    spread = pooled_std((row.std, row.n) for row in rows)
    quantile = float(stats.t.ppf(1 - FALSE_ALARMS / (2 * runs), sum(row.n - 1 for row in rows)))
    return quantile * math.sqrt(2) * spread + 1 / (line.record.num_test or math.inf)


def elsewhere(claim: Record, rerun: Record, allowed: float) -> Diagnosis:
    """The same trial on another kind of machine: within `allowed` of the claimed accuracy, at the same bytes."""
    label_bytes = [each.bytes_labels.total for each in (claim, rerun) if each.bytes_labels is not None]
    if len(label_bytes) == 2 and abs(label_bytes[0] - label_bytes[1]) > CODE_LENGTH * label_bytes[1]:
        return Diagnosis(
            "other-bytes", f"the labels are claimed to take {label_bytes[0]} bytes; here they take {label_bytes[1]}"
        )
    if claim.accuracy is None or rerun.accuracy is None:
        return Diagnosis("moved-within-noise", "no accuracy, here as there")
    moved = 100 * (rerun.accuracy - claim.accuracy)
    movement = f"{moved:+.2f} points on another kind of machine"
    if math.isnan(allowed):
        return Diagnosis("not-checked", f"{movement}; without replicates there is no saying what that is worth")
    within = f"{100 * allowed:.2f} points are within the spread of the replicates"
    return Diagnosis("moved-within-noise" if abs(moved) <= 100 * allowed else "not-reproduced", f"{movement}; {within}")


def _can_run(line: Line, prescribed: Prescribed, out: Findings) -> bool:
    """Whether this installation can judge the record: it has its code, and there is a result."""
    if line.record.status == "failed":
        out.unchecked("not-reproduced", line, "a failed trial claims nothing")
        return False
    if unknown := prescribed.unknown_names(line.trial):
        out.add("unknown-name", line, f"{unknown[0].partition(chr(10))[0]} Name its file with --plugin FILE.")
        return False
    return check_code(line, prescribed, out)
