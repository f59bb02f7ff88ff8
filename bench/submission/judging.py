"""`condensebench accept FILE`: a stranger's archive, held to all rules, run again in part, and added to a leaderboard.

The order is that of cost and of risk. Nothing of the stranger runs before what can be read was read; and nothing is
written before everything was found in order.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.checks.plugins.check_plugins import check_all
from bench.checks.records.board import Line, cells
from bench.checks.records.rules import Findings
from bench.checks.verify.verification import Progress, drawn, silent, verify
from bench.confinement.plugin_limits import Limits
from bench.driver.running_stages import Naming, nothing_named
from bench.finding import Finding, exit_code
from bench.foreign.plain_zip import UnsafeArchive
from bench.plugins.registry import Registry, discover
from bench.records.files import locked
from bench.submission import archive_contents
from bench.submission.admission import finding
from bench.submission.archive_contents import Refused, Submission, open_submission
from bench.submission.shared_board import SharedBoard, Sorted, sort_by_identity
from bench.submission.submission_reader import CONFINED, SubmissionReader

LOT_BYTES = 8  # of what decides which records run again


@dataclass(frozen=True)
class JudgingOptions:
    """How a submission is judged.

    Args:
        into: the folder of the leaderboard, which need not be there yet.
        plugins: files that the acceptor trusts, beside those of the leaderboard.
        sample: how many of the new records run again.
        lot: decides which; None: drawn now, so that no sender could foresee it.
        dry_run: read and hold to the rules, run nothing and write nothing.
        store: where data sets and teachers were opened before; what runs again does not read it.
        jobs: trials at once; None: one a core.
        limits: of the processes of plugins.
        progress: as of `verify`.
        named_stages: shows how far the checks of plugins are; gives what names them.
    """

    into: Path
    store: Path
    plugins: Sequence[str | Path] = ()
    sample: int = 5
    lot: str | None = None
    dry_run: bool = False
    jobs: int | None = None
    limits: Limits | None = None
    progress: Progress = silent
    named_stages: Callable[[], AbstractContextManager[Naming]] = nothing_named


@dataclass(frozen=True)
class Ruling:
    """What was found; `accepted`: whether everything is in order. `added`: records that the leaderboard has now."""

    findings: tuple[Finding, ...]
    accepted: bool
    added: int
    summary: str


def accept(archive: Path, options: JudgingOptions) -> Ruling:
    """Judge a submission and, unless it is refused or this is a dry run, add it to the leaderboard.

    Raises:
        UserError: there is no such file, or the leaderboard's folder cannot be one.
        LockError: a released protocol is not what it was when it was released.
    """
    try:
        submission = open_submission(archive)
    except UnsafeArchive as error:
        return _refused([finding("unsafe-archive", archive.name, str(error))], archive.name)
    except Refused as error:
        return _refused([finding(error.rule, archive.name, str(error))], archive.name)
    with tempfile.TemporaryDirectory(prefix="condensebench-accept-") as folder:
        return _Judge(submission, options, Path(folder).resolve()).ruling()


class _Judge:
    """One submission before one leaderboard. `folder` takes the submission's files while it is judged."""

    def __init__(self, submission: Submission, options: JudgingOptions, folder: Path) -> None:
        self._submission, self._options = submission, options
        self._board = SharedBoard(options.into)
        self._name = f"{submission.name} ({submission.id})"
        self._reader = SubmissionReader(submission, self._board, folder, options.plugins, options.store)

    def ruling(self) -> Ruling:
        if self._board.has(self._submission):
            return Ruling((), True, 0, f"{self._name}: it was accepted before; nothing was added")
        trusted = self._reader.trusted_files()
        registry = discover(trusted)
        findings = [*self._reader.senders_findings(), *self._reader.register_plugins(registry, trusted)]
        out = Findings()
        lines = self._reader.lines(out)
        findings += out
        if exit_code(findings):
            return self._refusal(findings)
        findings += self._reader.against_the_rules(lines, registry)
        order = sort_by_identity(lines, self._board.lines())
        if exit_code(findings) or self._options.dry_run:
            return self._refusal(findings) if exit_code(findings) else self._dry(findings, order)
        findings += self._check_plugins(registry)
        summary, again = "nothing new to run again", list[Finding]()
        if order.new and not exit_code(findings):
            summary, again = self._run_again(lines, order.new, registry)
        findings += again
        return self._refusal(findings) if exit_code(findings) else self._add(lines, registry, findings, summary)

    def _check_plugins(self, registry: Registry) -> list[Finding]:
        """`check plugins` of the submission's own, each in a process with limits."""
        with self._options.named_stages() as naming:
            return check_all(registry, [plugin for plugin in self._reader.plugins if plugin.kind in CONFINED], naming)

    def _run_again(self, lines: Sequence[Line], new: Sequence[Line], registry: Registry) -> tuple[str, list[Finding]]:
        """`verify` of a sample of what is new. No artifact is trusted, and the leaderboard is watched."""
        lot = self._options.lot or secrets.token_hex(LOT_BYTES)
        sample, out = drawn(new, self._options.sample, lot), Findings()
        options = self._options
        summary = verify(
            sample, cells(lines), registry, out,
            jobs=options.jobs, limits=options.limits, guarded=options.into.resolve(), progress=options.progress,
        )  # fmt: skip
        findings, places = list(out), {line.where for line in sample}
        unchecked = {where for where, several in out.by_place.items() if any(f.rule == "not-checked" for f in several)}
        if places <= unchecked:
            why = "no record of the sample can be compared here; what is not checked stands above."
            findings.append(finding("nothing-run-again", archive_contents.RECORDS, why))
        return f"{summary} (lot {lot})", findings

    def _add(self, lines: Sequence[Line], registry: Registry, findings: list[Finding], summary: str) -> Ruling:
        """Write it, unless the leaderboard has changed meanwhile in a way that refuses it."""
        with locked(self._board.folder):
            self._board.sweep()
            if self._board.has(self._submission):
                return Ruling((), True, 0, f"{self._name}: it was accepted before; nothing was added")
            for path in self._board.plugins():
                there = self._submission.plugins.get(path.name)
                if there is not None and there != path.read_bytes():
                    taken = f"the leaderboard has another {path.name} by now: give the plugin a name of its own."
                    return self._refusal([finding("name-taken", f"{archive_contents.PLUGINS}/{path.name}", taken)])
            meanwhile = self._reader.against_the_rules(lines, registry)
            if exit_code(meanwhile):
                return self._refusal(meanwhile)
            order = sort_by_identity(lines, self._board.lines())
            kept = self._reader.cleaned(findings)
            verdict = {"summary": summary, "findings": [asdict(each) for each in kept]}
            self._board.put(self._submission, [line.whole for line in order.new], verdict)
        others = f", {len(lines) - len(order.new)} were there" if len(order.new) < len(lines) else ""
        text = f"{self._name}: accepted into {self._board.folder}: {len(order.new)} records added{others}; {summary}"
        return Ruling(kept, True, len(order.new), text)

    def _dry(self, findings: list[Finding], order: Sorted) -> Ruling:
        plugins = ", ".join(f"{plugin.kind} '{plugin.name}'" for plugin in self._reader.plugins) or "none"
        text = (
            f"{self._name}: it keeps the rules that can be read; {len(order.new)} records would be added. Its plugins: "
            f"{plugins}. Nothing was run, and nothing was written"
        )
        return Ruling(self._reader.cleaned(findings), True, 0, text)

    def _refusal(self, findings: Sequence[Finding]) -> Ruling:
        return _refused(self._reader.cleaned(findings), self._name)


def _refused(findings: Sequence[Finding], name: str) -> Ruling:
    return Ruling(tuple(findings), False, 0, f"{name}: refused, nothing was added")
