"""A submission as it can be read: what is wrong with it before anything of it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.checks.records.board import Line
from bench.checks.records.check_records import RULE_OF, check_lines
from bench.checks.records.rules import Findings, together
from bench.errors import UserError
from bench.finding import Finding
from bench.plugins.registry import NameTaken, Plugin, Registry, add_file, files_named_by
from bench.protocol import definition
from bench.records.files import load
from bench.submission import archive_contents
from bench.submission.admission import finding
from bench.submission.archive_contents import Refused, Submission
from bench.submission.plan_of_records import plan_differences
from bench.submission.shared_board import SharedBoard, sort_by_identity

CONFINED = ("method", "compressor")  # kinds of plugins whose code never runs in a process of the harness


class SubmissionReader:
    """One submission beside one leaderboard. None of its code runs.

    Args:
        submission: what was in the archive.
        board: the leaderboard.
        folder: takes the submission's files while it is judged.
        trusted: files of plugins that the acceptor trusts, beside those of the leaderboard.
        store: where data sets and teachers were opened before.
    """

    def __init__(
        self, submission: Submission, board: SharedBoard, folder: Path, trusted: Sequence[str | Path], store: Path
    ) -> None:
        self._submission, self._board, self._folder = submission, board, folder
        self._trusted, self._store = trusted, store
        self.plugins: list[Plugin] = []  # of the submission alone, once they are registered
        for name in (archive_contents.RECORDS, archive_contents.PLAN):
            (folder / name).write_bytes(submission.files[name])

    def senders_findings(self) -> Iterator[Finding]:
        """The sender's own checks have to have ended well."""
        for name in (archive_contents.CHECKED, archive_contents.VERIFIED):
            try:
                report = self._submission.report(name)
            except Refused as error:
                yield finding(error.rule, name, str(error))
                continue
            for each in report.findings:
                if each.severity == "error":
                    message = f"the sender's own check found [{each.rule}]: {each.message}"
                    yield finding("own-findings", name, message)

    def trusted_files(self) -> list[Path]:
        """The acceptor's plugins and the leaderboard's; a file that is among both is named once."""
        local = [path for given in self._trusted for path in files_named_by(given)]
        known = {(path.name, path.read_bytes()) for path in local}
        return [*local, *(path for path in self._board.plugins() if (path.name, path.read_bytes()) not in known)]

    def register_plugins(self, registry: Registry, trusted: Sequence[Path]) -> Iterator[Finding]:
        """Register the plugins of the submission; none of their code runs. Yields what is wrong with them."""
        known = {path.name: path for path in trusted}
        before = {(plugin.kind, plugin.name) for plugin in _plugins_of(registry)}
        protocols = {*registry.protocol_names()}
        for name, source in sorted(self._submission.plugins.items()):
            where, same = f"{archive_contents.PLUGINS}/{name}", known.get(name)
            if same is not None and same.read_bytes() == source:
                continue
            if same is not None:
                yield finding(
                    "name-taken", where, f"the leaderboard has another {name}: give the plugin a name of its own."
                )
                continue
            path = self._folder / archive_contents.PLUGINS / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(source)
            try:
                add_file(registry, path)
            except NameTaken as error:
                yield finding("name-taken", where, str(error))
            except UserError as error:
                yield finding("bad-plugin", where, str(error))
        for name in sorted({*registry.protocol_names()} - protocols):
            try:
                definition.load(registry, name)
            except UserError as error:
                yield finding("bad-plugin", f"{archive_contents.PLUGINS}/{name}.toml", str(error))
        self.plugins = [plugin for plugin in _plugins_of(registry) if (plugin.kind, plugin.name) not in before]
        for plugin in self.plugins:
            if plugin.kind not in CONFINED:
                yield finding(
                    "unconfined-plugin",
                    f"{archive_contents.PLUGINS}/{plugin.path.name}",
                    f"the harness runs the code of a {plugin.kind} itself, without limits. Read the file; if you trust "
                    "it, keep a copy and name that with --plugin FILE.",
                )

    def lines(self, out: Findings) -> list[Line]:
        """The records; every line that is none is a finding."""
        path = self._folder / archive_contents.RECORDS
        try:
            loaded = load(path)
        except UserError as error:
            out.add("torn-line", archive_contents.RECORDS, self.shown(str(error)), "error")
            return []
        for problem in loaded.problems:
            out.add(RULE_OF[problem.kind], self.shown(problem.place), problem.text, "error")
        lines = [Line(record, self.shown(where)) for record, where in zip(loaded.records, loaded.places, strict=True)]
        if not lines and not loaded.problems:
            out.add("no-records", archive_contents.RECORDS, "there is no record in it")
        return lines

    def against_the_rules(self, lines: Sequence[Line], registry: Registry) -> list[Finding]:
        """The rules for records, over the leaderboard as it would be; what it breaks without the submission is left
        out."""
        findings = list(self._alone(lines, registry))
        present = self._board.lines()
        order = sort_by_identity(lines, present)
        before, after = Findings(), Findings()
        check_lines(present, registry=registry, store=self._store, out=before)
        check_lines([*present, *order.new], registry=registry, store=self._store, out=after)
        old = set(before)
        findings += [each for each in after if each not in old]
        for line, text in order.contradicting:
            findings.append(finding("contradiction", line.where, f"{line.trial}: {text.partition(';')[0]}"))
        for line, text in order.other_machine:
            findings.append(finding("already-there", line.where, f"{line.trial}: {text.partition(';')[0]}"))
        return findings

    def _alone(self, lines: Sequence[Line], registry: Registry) -> Iterator[Finding]:
        """What the submission says of itself: a record a trial, a plan of just these trials, no plugin for nothing."""
        trials = [line.trial for line in lines]
        for trial, times in Counter(trials).items():
            if times > 1:
                places = together([line.where for line in lines if line.trial == trial])
                yield finding("repeated-trial", places, f"{trial} has {times} records; one counts.")
        plan = self._folder / archive_contents.PLAN
        try:
            for message in plan_differences(plan, trials, registry):
                yield finding("other-plan", archive_contents.PLAN, self.shown(message))
        except UserError as error:
            yield finding("other-plan", archive_contents.PLAN, self.shown(str(error)))
        named = {spec.partition(":")[0] for trial in trials for spec in (trial.method, trial.compressor or "")}
        for plugin in self.plugins:
            if plugin.kind in CONFINED and plugin.name not in named:
                where = f"{archive_contents.PLUGINS}/{plugin.path.name}"
                yield finding("unused-plugin", where, f"no record names the {plugin.kind} '{plugin.name}'.")

    def cleaned(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """The findings without the folder of this machine in which the files were looked at."""
        return tuple(replace(each, where=self.shown(each.where), message=self.shown(each.message)) for each in findings)

    def shown(self, text: str) -> str:
        """The text with files of the archive as the archive calls them."""
        return text.replace(f"{self._folder}/", "")


def _plugins_of(registry: Registry) -> list[Plugin]:
    return [plugin for kind in ("dataset", "method", "compressor", "network") for plugin in registry.all(kind)]
