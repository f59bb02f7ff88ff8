"""Claims from another kind of machine: held to what rounding alone can do, before a cheat is looked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench import machine
from bench.checks.records.board import Cell, Line, short
from bench.checks.verify.diagnosis import Diagnosis, other_result
from bench.checks.verify.rerun import Reruns
from bench.checks.verify.rounding import Spread, measured, result, spread_of
from bench.records.files import Record
from bench.trials.trial import Trial

CODE_LENGTH = 0.01  # by which another machine's rounding may move the length of an entropy-coded label file


def judged_by_statistics(
    lines: Sequence[Line], board: Sequence[Cell], reruns: Reruns, others: Reruns
) -> Iterator[tuple[Line, Diagnosis]]:
    """Records of another kind of machine, each with what it turned out to be.

    The replicates of each record's row run here in two kinds of arithmetic. How far these lie apart, and what was
    measured of the protocol and the data set before, says what rounding alone can do. A claim within that is no
    cheat's; only then is one looked for.

    Args:
        lines: the records, which have run in `reruns`.
        board: cells of all records at hand, for the replicates of rows.
        reruns: runs trials in the arithmetic of the claims.
        others: runs trials in another one.
    """
    spreads: dict[tuple[str, str], Spread] = {}
    rows = {line.trial: _replicates(line, board) for line in lines}
    native, portable = (each.run(trial for row in rows.values() for trial in row) for each in (reruns, others))
    for line in lines:
        key = line.trial.protocol, line.trial.dataset
        pairs = ((result(native[trial]), result(portable[trial])) for trial in rows[line.trial])
        spreads[key] = spreads.get(key, measured(*key)) + spread_of(pairs)
    for line in lines:
        spread = spreads[line.trial.protocol, line.trial.dataset]
        claim, rerun = line.record, native[line.trial]
        why = machine.difference(claim.environment, rerun.environment)
        yield line, _elsewhere(line, rerun, portable[line.trial], spread, len(lines), reruns, str(why))


def _replicates(line: Line, board: Sequence[Cell]) -> list[Trial]:
    """The trials of the record's row: the same but for the replicate."""
    row = [
        each.trial
        for cell in board
        for each in cell.lines
        if replace(each.trial, replicate=line.trial.replicate) == line.trial and each.record.status == "ok"
    ]
    return list(dict.fromkeys([line.trial, *row]))


def _elsewhere(
    line: Line, rerun: Record, other: Record, spread: Spread, tests: int, reruns: Reruns, why: str
) -> Diagnosis:
    claim = line.whole
    if diagnosis := _other_content_elsewhere(claim, rerun, other):
        return diagnosis
    if claim.accuracy is None or rerun.accuracy is None:
        return Diagnosis("moved-within-noise", f"no accuracy, here as there; {why}")
    if result(claim) == result(rerun):
        return Diagnosis("moved-within-noise", f"the same accuracy and losses to the last bit; {why}")
    if not spread.pairs or not any(spread.squares):
        return Diagnosis("not-checked", f"{why}; what rounding does to such trials was never measured")
    limits = spread.limits(tests, claim.num_test)
    if limits.distance(result(claim), result(rerun)) > 1:
        return other_result(claim, line.trial, reruns, limits)
    moved = 100 * (rerun.accuracy - claim.accuracy)
    return Diagnosis(
        "moved-within-noise",
        f"{moved:+.2f} points; {why}: bits may differ, so this is compared by statistics. By rounding alone results "
        f"differ by up to {100 * limits.accuracy:.2f} points ({spread.pairs} pairs of one seed)",
    )


def _other_content_elsewhere(claim: Record, rerun: Record, other: Record) -> Diagnosis | None:
    """Images that rounding does not move here, and are others in the claim; labels of another size."""
    digests = [record.condensed.digest for record in (claim, rerun, other) if record.condensed is not None]
    if len(digests) == 3 and digests[0] not in digests[1:] and digests[1] == digests[2]:
        return Diagnosis(
            "other-images",
            f"the set is {short(digests[0])}; here the method makes {short(digests[1])}, in either arithmetic",
        )
    sizes = [record.bytes_labels.total for record in (claim, rerun, other) if record.bytes_labels is not None]
    if len(sizes) == 3:
        allowed = max(CODE_LENGTH * sizes[1], abs(sizes[1] - sizes[2]))
        if abs(sizes[0] - sizes[1]) > allowed:
            return Diagnosis(
                "other-bytes", f"the labels are claimed to take {sizes[0]} bytes; here they take {sizes[1]}"
            )
    return None
