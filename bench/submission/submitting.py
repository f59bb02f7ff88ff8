"""`condensebench submit DIR`: the records of a folder, checked and packed for somebody else's leaderboard."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from bench import machine
from bench.checks.records.board import Line, cells
from bench.checks.records.check_records import check_lines, read_lines
from bench.checks.records.rules import Findings
from bench.checks.verify.verification import Progress, drawn, silent, verify
from bench.errors import PluginError, UserError
from bench.finding import Finding, exit_code
from bench.foreign.plain_zip import is_plain_name
from bench.places import expanded
from bench.plugins.registry import Plugin, Registry, discover, files_named_by, read
from bench.plugins.spec import parse
from bench.records.files import load
from bench.stages.origins import OriginDigests
from bench.submission import archive_contents
from bench.submission.admission import RULES
from bench.submission.plan_of_records import plan_differences, plan_of
from bench.submission.private_texts import private_findings
from bench.trials.trial import Trial


@dataclass(frozen=True)
class Packed:
    """What `submit` made: an archive, or None where something is found that would be refused; and all findings."""

    archive: bytes | None
    findings: tuple[Finding, ...]
    summary: str


def submit(
    folder: Path,
    *,
    plugins: Sequence[str | Path] = (),
    plan: Path | None = None,
    sample: int = 3,
    store: Path,
    jobs: int | None = None,
    progress: Progress = silent,
) -> Packed:
    """Check the records of a folder, run a sample of them again, and pack them.

    Args:
        folder: of the records; the last record of each trial is packed.
        plugins: files that the records need; all of them are packed.
        plan: a plan file whose trials these are; None: one is made of the records.
        sample: how many records run again. Which ones follows from the records, so that the archive has the same bytes.
        store: where data sets and teachers were opened before; what runs again does not read it.
        jobs: trials at once; None: one a core.
        progress: as of `verify`.

    Raises:
        UserError: there are no records, a plugin cannot be packed, or the file is no plan.
        LockError: a released protocol is not what it was when it was released.
    """
    registry = discover(plugins)
    checked = Findings()
    written, _ = read_lines(folder, checked, load)
    last = {line.record.id: line.whole for line in written}
    lines = [Line(record, f"{archive_contents.RECORDS}:{number}") for number, record in enumerate(last.values(), 1)]
    trials = [line.trial for line in lines]
    sources = _plugin_sources(plugins, registry, trials)
    check_lines(lines, registry=registry, store=store, out=checked)
    findings = _as_packed(checked, folder)
    if plan is not None:
        rule = "other-plan"
        findings += [
            Finding(rule, plan.name, message, RULES[rule][0]) for message in plan_differences(plan, trials, registry)
        ]
    files = {
        archive_contents.RECORDS: "".join(f"{line.whole.line()}\n" for line in lines).encode(),
        archive_contents.PLAN: plan.read_bytes() if plan is not None else plan_of(trials).encode(),
        archive_contents.ENVIRONMENT: archive_contents.as_json(machine.environment()),
        archive_contents.CHECKED: archive_contents.report_of(findings, f"{len(lines)} records"),
        **{f"{archive_contents.PLUGINS}/{name}": source for name, source in sources.items()},
    }
    private = [folder, store, *(expanded(file).parent for file in plugins)]
    findings += private_findings(files, private)
    if exit_code(findings):
        return Packed(None, tuple(findings), f"{len(lines)} records")
    again = Findings()
    summary = verify(drawn(lines, sample), cells(lines), registry, again, jobs=jobs, progress=progress)
    verified = _as_packed(again, folder)
    files[archive_contents.VERIFIED] = archive_contents.report_of(verified, summary)
    findings += [*verified, *private_findings({archive_contents.VERIFIED: files[archive_contents.VERIFIED]}, private)]
    if exit_code(findings):
        return Packed(None, tuple(findings), summary)
    archive = archive_contents.pack(
        files, version=version("condensebench"), engine=OriginDigests.engine, records=len(lines)
    )
    return Packed(archive, tuple(findings), f"{len(lines)} records, {summary}")


def _as_packed(findings: Iterable[Finding], folder: Path) -> list[Finding]:
    """The findings with the places that the archive has, whatever the folder is called here."""
    prefix = f"{folder}/"
    return [
        replace(each, where=each.where.replace(prefix, ""), message=each.message.replace(prefix, ""))
        for each in findings
    ]


def _plugin_sources(files: Sequence[str | Path], registry: Registry, trials: Sequence[Trial]) -> dict[str, bytes]:
    """Name of a file -> source: of the files that are given, and of installed packages' plugins that trials name.

    Raises UserError for a name that no archive can hold, and for a plugin that is more than one file.
    """
    sources: dict[str, bytes] = {}
    for given in files:
        for path in files_named_by(given):
            sources[_packable(path.name, given)] = path.read_bytes()
    for plugin in _installed(registry, trials):
        name = _packable(f"{plugin.name}.py", plugin.path)
        if _alone(plugin) != plugin.digest:
            raise UserError(
                f"{plugin.kind} '{plugin.name}' of an installed package is more than the file {plugin.path.name}: it "
                "imports modules beside it. Make one file of it and name that with --plugin FILE."
            )
        sources[name] = plugin.path.read_bytes()
    return sources


def _installed(registry: Registry, trials: Sequence[Trial]) -> list[Plugin]:
    """Plugins of installed packages that some trial names."""
    named: dict[tuple[str, str], Plugin] = {}
    for trial in trials:
        for kind, spec in (("dataset", trial.dataset), ("method", trial.method), ("compressor", trial.compressor)):
            if spec is None:
                continue
            try:
                plugin = parse(registry, kind, spec).plugin
            except UserError:
                continue  # a finding of its own
            if plugin.foreign and plugin.module_name is not None:
                named[kind, plugin.name] = plugin
    return list(named.values())


def _alone(plugin: Plugin) -> str | None:
    """The digest of the plugin's file where nothing lies beside it; None where it is no plugin then."""
    try:
        text = read(plugin.path, kind=plugin.kind, module_name=None).source
        elsewhere = plugin.path.parent / "elsewhere" / plugin.path.name  # where no module lies beside it
        return replace(plugin, path=elsewhere, module_name=None, source=text).digest
    except (PluginError, OSError):
        return None


def _packable(name: str, given: str | Path) -> str:
    if not is_plain_name(f"{archive_contents.PLUGINS}/{name}"):
        raise UserError(
            f"{given}: '{name}' cannot be packed. Rename the file: letters, digits and . _ + - are taken, and the name "
            "begins with a letter or a digit."
        )
    return name


def write_archive(path: Path, content: bytes) -> None:
    """Write an archive so that it is whole or not there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
