"""`condensebench accept FILE`: a stranger's archive, held to all rules, run again in part, and added to a leaderboard.

The order is that of cost and of risk. Nothing of the stranger runs before what can be read was read; and nothing is
written before everything was found in order.
"""

from __future__ import annotations

import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.checks.plugins.check_plugins import check_all
from bench.checks.records.board import Line, cells
from bench.checks.records.check_records import RULE_OF, check_lines
from bench.checks.records.rules import Findings, together
from bench.checks.verify.verification import Progress, drawn, silent, verify
from bench.confinement.plugin_limits import Limits
from bench.driver.running_stages import Naming, nothing_named
from bench.errors import UserError
from bench.finding import Finding, exit_code
from bench.foreign.plain_zip import UnsafeArchive
from bench.plugins.registry import NameTaken, Plugin, Registry, add_file, discover, files_named_by
from bench.protocol import definition
from bench.records.files import load, locked
from bench.submission import archive_contents
from bench.submission.admission import RULES
from bench.submission.archive_contents import Refused, Submission, open_submission
from bench.submission.plan_of_records import plan_differences
from bench.submission.shared_board import SharedBoard, Sorted, sort_by_identity

CONFINED = ("method", "compressor")  # kinds of plugins whose code never runs in a process of the harness
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
        return _refused([_finding("unsafe-archive", archive.name, str(error))], archive.name)
    except Refused as error:
        return _refused([_finding(error.rule, archive.name, str(error))], archive.name)
    with tempfile.TemporaryDirectory(prefix="condensebench-accept-") as folder:
        return _Judge(submission, options, Path(folder).resolve()).ruling()


class _Judge:
    """One submission before one leaderboard. `folder` takes the submission's files while it is judged."""

    def __init__(self, submission: Submission, options: JudgingOptions, folder: Path) -> None:
        self._submission, self._options, self._folder = submission, options, folder
        self._board = SharedBoard(options.into)
        self._name = f"{submission.name} ({submission.id})"
        for name in (archive_contents.RECORDS, archive_contents.PLAN):
            (folder / name).write_bytes(submission.files[name])

    def ruling(self) -> Ruling:
        if self._board.has(self._submission):
            return Ruling((), True, 0, f"{self._name}: it was accepted before; nothing was added")
        trusted = self._trusted_files()
        registry = discover(trusted)
        findings = [*self._senders_findings(), *self._plugins(registry, trusted)]
        out = Findings()
        lines = self._lines(out)
        findings += out
        if exit_code(findings):
            return self._refusal(findings)
        findings += self._against_the_rules(lines, registry)
        order = sort_by_identity(lines, self._board.lines())
        if exit_code(findings) or self._options.dry_run:
            return self._refusal(findings) if exit_code(findings) else self._dry(findings, order)
        findings += self._check_plugins(registry)
        summary, again = "nothing new to run again", list[Finding]()
        if order.new and not exit_code(findings):
            summary, again = self._run_again(lines, order.new, registry)
        findings += again
        return self._refusal(findings) if exit_code(findings) else self._add(lines, registry, findings, summary)

    # --- what can be read ---------------------------------------------------------------------------------------------

    def _senders_findings(self) -> Iterator[Finding]:
        """The sender's own checks have to have ended well."""
        for name in (archive_contents.CHECKED, archive_contents.VERIFIED):
            try:
                report = self._submission.report(name)
            except Refused as error:
                yield self._finding(error.rule, name, str(error))
                continue
            for found in report.findings:
                if found.severity == "error":
                    message = f"the sender's own check found [{found.rule}]: {found.message}"
                    yield self._finding("own-findings", name, message)

    def _trusted_files(self) -> list[Path]:
        """The acceptor's plugins and the leaderboard's; a file that is among both is named once."""
        local = [path for given in self._options.plugins for path in files_named_by(given)]
        known = {(path.name, path.read_bytes()) for path in local}
        return [*local, *(path for path in self._board.plugins() if (path.name, path.read_bytes()) not in known)]

    def _plugins(self, registry: Registry, trusted: Sequence[Path]) -> Iterator[Finding]:
        """Register the plugins of the submission; none of their code runs. Yields what is wrong with them."""
        known = {path.name: path for path in trusted}
        self._own: list[Plugin] = []
        before = {(plugin.kind, plugin.name) for plugin in _plugins_of(registry)}
        protocols = {*registry.protocol_names()}
        for name, source in sorted(self._submission.plugins.items()):
            where, same = f"{archive_contents.PLUGINS}/{name}", known.get(name)
            if same is not None and same.read_bytes() == source:
                continue
            if same is not None:
                yield self._finding(
                    "name-taken", where, f"the leaderboard has another {name}: give the plugin a name of its own."
                )
                continue
            path = self._folder / archive_contents.PLUGINS / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(source)
            try:
                add_file(registry, path)
            except NameTaken as error:
                yield self._finding("name-taken", where, str(error))
            except UserError as error:
                yield self._finding("bad-plugin", where, str(error))
        for name in sorted({*registry.protocol_names()} - protocols):
            try:
                definition.load(registry, name)
            except UserError as error:
                yield self._finding("bad-plugin", f"{archive_contents.PLUGINS}/{name}.toml", str(error))
        self._own = [plugin for plugin in _plugins_of(registry) if (plugin.kind, plugin.name) not in before]
        for plugin in self._own:
            if plugin.kind not in CONFINED:
                yield self._finding(
                    "unconfined-plugin",
                    f"{archive_contents.PLUGINS}/{plugin.path.name}",
                    f"the harness runs the code of a {plugin.kind} itself, without limits. Read the file; if you trust "
                    "it, keep a copy and name that with --plugin FILE.",
                )

    def _lines(self, out: Findings) -> list[Line]:
        """The records; every line that is none is a finding."""
        path = self._folder / archive_contents.RECORDS
        try:
            loaded = load(path)
        except UserError as error:
            out.add("torn-line", archive_contents.RECORDS, self._shown(str(error)), "error")
            return []
        for problem in loaded.problems:
            out.add(RULE_OF[problem.kind], self._shown(problem.place), problem.text, "error")
        lines = [Line(record, self._shown(where)) for record, where in zip(loaded.records, loaded.places, strict=True)]
        if not lines and not loaded.problems:
            out.add("no-records", archive_contents.RECORDS, "there is no record in it")
        return lines

    def _against_the_rules(self, lines: Sequence[Line], registry: Registry) -> list[Finding]:
        """The rules for records, over the leaderboard as it would be; what it breaks without the submission is left
        out."""
        findings = list(self._alone(lines, registry))
        present = self._board.lines()
        order = sort_by_identity(lines, present)
        before, after = Findings(), Findings()
        check_lines(present, registry=registry, store=self._options.store, out=before)
        check_lines([*present, *order.new], registry=registry, store=self._options.store, out=after)
        old = set(before)
        findings += [finding for finding in after if finding not in old]
        for line, text in order.contradicting:
            findings.append(self._finding("contradiction", line.where, f"{line.trial}: {text.partition(';')[0]}"))
        for line, text in order.other_machine:
            findings.append(self._finding("already-there", line.where, f"{line.trial}: {text.partition(';')[0]}"))
        return findings

    def _alone(self, lines: Sequence[Line], registry: Registry) -> Iterator[Finding]:
        """What the submission says of itself: a record a trial, a plan of just these trials, no plugin for nothing."""
        trials = [line.trial for line in lines]
        for trial, times in Counter(trials).items():
            if times > 1:
                places = together([line.where for line in lines if line.trial == trial])
                yield self._finding("repeated-trial", places, f"{trial} has {times} records; one counts.")
        plan = self._folder / archive_contents.PLAN
        try:
            for message in plan_differences(plan, trials, registry):
                yield self._finding("other-plan", archive_contents.PLAN, self._shown(message))
        except UserError as error:
            yield self._finding("other-plan", archive_contents.PLAN, self._shown(str(error)))
        named = {spec.partition(":")[0] for trial in trials for spec in (trial.method, trial.compressor or "")}
        for plugin in self._own:
            if plugin.kind in CONFINED and plugin.name not in named:
                where = f"{archive_contents.PLUGINS}/{plugin.path.name}"
                yield self._finding("unused-plugin", where, f"no record names the {plugin.kind} '{plugin.name}'.")

    # --- what has to run ----------------------------------------------------------------------------------------------

    def _check_plugins(self, registry: Registry) -> list[Finding]:
        """`check plugins` of the submission's own, each in a process with limits."""
        with self._options.named_stages() as naming:
            return check_all(registry, [plugin for plugin in self._own if plugin.kind in CONFINED], naming)

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
            findings.append(self._finding("nothing-run-again", archive_contents.RECORDS, why))
        return f"{summary} (lot {lot})", findings

    # --- the end ------------------------------------------------------------------------------------------------------

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
                    return self._refusal(
                        [self._finding("name-taken", f"{archive_contents.PLUGINS}/{path.name}", taken)]
                    )
            meanwhile = self._against_the_rules(lines, registry)
            if exit_code(meanwhile):
                return self._refusal(meanwhile)
            order = sort_by_identity(lines, self._board.lines())
            kept = self._clean(findings)
            verdict = {"summary": summary, "findings": [asdict(finding) for finding in kept]}
            self._board.put(self._submission, [line.whole for line in order.new], verdict)
        others = f", {len(lines) - len(order.new)} were there" if len(order.new) < len(lines) else ""
        text = f"{self._name}: accepted into {self._board.folder}: {len(order.new)} records added{others}; {summary}"
        return Ruling(kept, True, len(order.new), text)

    def _dry(self, findings: list[Finding], order: Sorted) -> Ruling:
        plugins = ", ".join(f"{plugin.kind} '{plugin.name}'" for plugin in self._own) or "none"
        text = (
            f"{self._name}: it keeps the rules that can be read; {len(order.new)} records would be added. Its plugins: "
            f"{plugins}. Nothing was run, and nothing was written"
        )
        return Ruling(self._clean(findings), True, 0, text)

    def _refusal(self, findings: Sequence[Finding]) -> Ruling:
        return _refused(self._clean(findings), self._name)

    def _clean(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """The findings without the folder of this machine in which the files were looked at."""
        return tuple(
            replace(each, where=self._shown(each.where), message=self._shown(each.message)) for each in findings
        )

    def _finding(self, rule: str, where: str, message: str) -> Finding:
        return _finding(rule, where, message)

    def _shown(self, text: str) -> str:
        """The text with files of the archive as the archive calls them."""
        return text.replace(f"{self._folder}/", "")


def _plugins_of(registry: Registry) -> list[Plugin]:
    return [plugin for kind in ("dataset", "method", "compressor", "network") for plugin in registry.all(kind)]


def _finding(rule: str, where: str, message: str) -> Finding:
    return Finding(rule, where, message, RULES[rule][0])


def _refused(findings: Sequence[Finding], name: str) -> Ruling:
    return Ruling(tuple(findings), False, 0, f"{name}: refused, nothing was added")
