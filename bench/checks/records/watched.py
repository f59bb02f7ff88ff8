"""What records tell of plugins that did something beside their task, as an audit hook of the run saw it.

The hook does not see everything (SECURITY.md): a record without a note is no proof. What it names was done.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.checks.records.board import Line
from bench.checks.records.rules import Findings
from bench.confinement.watch import LEFT, PROGRAM, SEARCH, WRITE

NOT_WATCHED = "records before schema 5 do not tell what plugins did beside their task"
RULE_OF = {WRITE: "stray-write", PROGRAM: "stray-process", LEFT: "stray-process"}  # of a note's kind; else: test-reach


def check_conduct(lines: Sequence[Line], out: Findings) -> None:
    """All rules of this module."""
    for line in lines:
        if line.record.status != "ok":
            continue
        if line.record.conduct is None:
            out.unchecked(("test-reach", "stray-write", "stray-process"), line, NOT_WATCHED)
            continue
        for kind, notes in line.record.conduct.items():
            name = line.trial.method if kind == "method" else line.trial.compressor
            for note in notes:
                what, _, text = note.partition(": ")
                did = f"{kind} {name}, on {line.trial.dataset}: it {'left ' if what == LEFT else ''}{text}"
                out.add(RULE_OF.get(what, "test-reach"), line, did, "warning" if what == SEARCH else None)
