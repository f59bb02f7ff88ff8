"""`condensebench verify ID|DIR...`: runs records again here, from nothing, and says what came out otherwise.

Where the kind of machine must give the same bits (bench.machine), every bit must agree. Elsewhere a training takes
another path, so a claim is held to what rounding alone can do (bench/checks/verify/rounding.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import machine
from bench.checks.records.board import Cell, Line, cells
from bench.checks.records.check_records import read_lines
from bench.checks.records.contents import check_contents
from bench.checks.records.fairness import check_code
from bench.checks.records.prescribed import Prescribed
from bench.checks.records.rules import Findings
from bench.checks.records.watched import check_conduct
from bench.checks.verify.diagnosis import made_otherwise, other_content, other_curve, other_result
from bench.checks.verify.elsewhere import judged_by_statistics
from bench.checks.verify.rerun import Reruns
from bench.checks.verify.rounding import result
from bench.confinement.plugin_limits import Limits
from bench.driver.defaults import default_store
from bench.driver.outcome import ignore
from bench.errors import UserError
from bench.lock.before_run import guard
from bench.places import absolute_path
from bench.plugins.registry import Registry
from bench.records.files import Record, load
from bench.seeds import numpy_generator

# Called with the records to run, and the folder where it stands which stages run; gives what is told each that ended.
Progress = Callable[[Sequence[Line], Path], AbstractContextManager[Callable[[Record], None]]]


def silent(lines: Sequence[Line], folder: Path) -> AbstractContextManager[Callable[[Record], None]]:  # noqa: ARG001
    """No progress."""
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
        lines, _ = read_lines(folder, out, load)
        everything += lines
        chosen |= {line.record.id: line for line in lines}
    if ids and not results.exists():
        raise UserError(
            f"'{ids[0]}' is neither a folder nor a file, and no record has it as its id: there is no folder {results}. "
            "Name the folder with --results DIR."
        )
    known = {line.record.id: line for line in read_lines(results, out, load)[0]} if ids else {}
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


def drawn(lines: Sequence[Line], count: int, *lot: str) -> list[Line]:
    """So many of the records, from every cell as evenly as can be.

    Which ones follows from the records' own digests: the same for everybody, and others as soon as any line changes.
    Whoever made the records can foresee them; with a `lot` that was drawn afterwards, nobody can.
    """
    rng = numpy_generator("verify", *lot, *sorted(line.whole.digest for line in lines))
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
    limits: Limits | None = None,
    guarded: Path | None = None,
    progress: Progress = silent,
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
        limits: of the processes of plugins; None: the default ones.
        guarded: a folder in which plugins have nothing to write; None: none.
        progress: what surrounds the runs, and shows how far they are.
    """
    place = store or default_store()
    prescribed = Prescribed(registry, place)
    guard(registry, prescribed.in_force({line.trial.protocol for line in lines}), absolute_path(place))
    ready = [line for line in lines if _can_run(line, prescribed, out)]
    if not ready:
        return f"0 of {len(lines)} records run again"
    exact = 0
    with TemporaryDirectory(prefix="condensebench-progress-") as told, progress(ready, Path(told)) as ended:
        for arithmetic, group in _by_arithmetic(ready).items():
            run_again = partial(
                Reruns, registry, store=store, jobs=jobs, limits=limits, guarded=guarded, progress=Path(told)
            )
            with run_again(arithmetic=arithmetic, on_record=ended) as reruns:
                elsewhere = []
                for line, record in _again(group, reruns):
                    claim = line.whole
                    _look_at_plugins(Line(record, line.where), out)
                    diagnosis = made_otherwise(claim, record)
                    if diagnosis is None and machine.must_agree(claim.environment, record.environment):
                        diagnosis = other_content(claim, record)
                        if diagnosis is None and result(claim) != result(record):
                            diagnosis = other_result(claim, line.trial, reruns)
                        diagnosis = diagnosis or other_curve(claim, record)
                        exact += diagnosis is None
                    elif diagnosis is None:
                        elsewhere.append(line)
                    if diagnosis is not None:
                        out.add(diagnosis.rule, line, f"{line.trial}: {diagnosis.message}")
                if elsewhere:
                    with run_again(arithmetic=_other(arithmetic)) as others:
                        for line, diagnosis in judged_by_statistics(elsewhere, board, reruns, others):
                            out.add(diagnosis.rule, line, f"{line.trial}: {diagnosis.message}")
    return f"{len(ready)} of {len(lines)} records run again, {exact} as claimed to the bit"


def _look_at_plugins(rerun: Line, out: Findings) -> None:
    """Add what the plugins of a record did as it ran here, and what is in its condensed set: a claim may deny it."""
    seen = Findings()
    check_conduct([rerun], seen)
    check_contents(cells([rerun]), seen)
    for finding in seen:
        if finding.severity == "error":
            out.add(finding.rule, rerun, f"run again here: {finding.message}")


def _by_arithmetic(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """The lines by the arithmetic in which they run again: the one they claim, where this machine has it."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        claimed = line.record.environment.get("arithmetic", machine.NATIVE)
        groups.setdefault(claimed if machine.usable() else machine.NATIVE, []).append(line)
    return groups


def _other(arithmetic: str) -> str:
    """Another arithmetic of this machine; the same where it has only one, and then no spread can be measured."""
    return machine.PORTABLE if arithmetic == machine.NATIVE and machine.usable() else machine.NATIVE


def _again(lines: Sequence[Line], reruns: Reruns) -> Iterator[tuple[Line, Record]]:
    records = reruns.run(line.trial for line in lines)
    return ((line, records[line.trial]) for line in lines)


def _can_run(line: Line, prescribed: Prescribed, out: Findings) -> bool:
    """Whether this installation can judge the record: it has its code, and there is a result."""
    if line.record.status == "failed":
        out.unchecked("not-reproduced", line, "a failed trial claims nothing")
        return False
    if unknown := prescribed.unknown_names(line.trial):
        out.add("unknown-name", line, f"{unknown[0].partition(chr(10))[0]} Name its file with --plugin FILE.")
        return False
    return check_code(line, prescribed, out)
