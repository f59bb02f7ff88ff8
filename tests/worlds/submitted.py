"""A sender with records and a method, and the archives that come of them; nothing trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.checks.records.prescribed import Prescribed
from bench.finding import Finding
from bench.foreign.plain_zip import packed, unpacked
from bench.plugins.registry import Registry, add_file, discover, files_named_by
from bench.records.files import Record
from bench.submission import judging, submitting
from bench.submission.archive_contents import MANIFEST, RECORDS, as_json, sha256
from bench.submission.judging import JudgingOptions, Ruling, accept
from bench.submission.submitting import Packed, submit
from tests.worlds.honest import board, write
from tests.worlds.plugins import SELECT
from tests.worlds.plugins import write as write_plugin

HARD = {"protocol": "small-hard-v1", "ipc": 1}


def comes_out(lines: Sequence[Any], *_: Any, **__: Any) -> str:
    """What `verify` says where everything comes out."""
    return f"{len(lines)} of {len(lines)} records run again, {len(lines)} as claimed to the bit"


@cache
def _known() -> Registry:
    return discover()


def discover_quickly(files: Iterable[str | Path] = ()) -> Registry:
    """`discover`, for which this project's own plugins are read once in a process."""
    registry = Registry()
    for name, entries in vars(_known()).items():
        setattr(registry, name, dict(entries))
    for given in files:
        for path in files_named_by(given):
            add_file(registry, path)
    return registry


@dataclass
class Post:
    """Sends and judges: `root` holds the sender's folder, `board` is the leaderboard's."""

    root: Path
    store: Path
    monkeypatch: Any
    rerun: Callable[..., str] = comes_out  # in the place of `verify`
    plugin_findings: Sequence[Finding] = ()  # of `check plugins`
    discover: Callable[..., Registry] = discover_quickly

    @property
    def board(self) -> Path:
        return self.root / "board"

    def plugin(self, name: str = "mine", source: str = SELECT) -> Path:
        """The sender's method."""
        return write_plugin(self.root / "sender" / f"{name}.py", source)

    def honest(self, *methods: str, plugins: Sequence[Path] = (), replicates: int = 3, **cell: Any) -> list[Record]:
        """Records of `random` and of the methods, as an honest run would write them."""
        prescribed = Prescribed(self.discover(plugins), self.store)
        return board(prescribed, *methods, replicates=replicates, **{**HARD, **cell})

    def pack(self, lines: list[Record], plugins: Sequence[Path] = (), **options: Any) -> Packed:
        """`submit` of these records; what would run again comes out as claimed."""
        self.monkeypatch.setattr(submitting, "verify", self.rerun)
        self.monkeypatch.setattr(submitting, "discover", self.discover)
        folder = write(self.root / "sender" / "results", lines)
        return submit(folder, plugins=plugins, store=self.store, **options)

    def send(self, lines: list[Record], plugins: Sequence[Path] = (), name: str = "sent.zip") -> Path:
        """The archive of honest records, on the acceptor's disk."""
        done = self.pack(lines, plugins)
        assert done.archive is not None, done.findings
        path = self.root / name
        path.write_bytes(done.archive)
        return path

    def forge(self, lines: list[Record], plugins: Sequence[Path] = ()) -> Path:
        """What somebody sends who packs these records with the honest functions but without their checks."""
        path = self.send(self.honest("herding"), name="honest.zip")
        content = unpacked(path)
        content[RECORDS] = "".join(f"{line.line()}\n" for line in lines).encode()
        content["plan.toml"] = submitting.plan_of([line.run for line in lines]).encode()
        content |= {f"plugins/{file.name}": file.read_bytes() for file in plugins}
        return self.repack(content)

    def repack(self, content: Mapping[str, bytes], name: str = "sent.zip") -> Path:
        """The archive of these files, with its list made anew."""
        manifest = json.loads(content[MANIFEST])
        rest = {each: content[each] for each in content if each != MANIFEST}
        manifest["files"] = {each: sha256(rest[each]) for each in rest}
        path = self.root / name
        path.write_bytes(packed({**rest, MANIFEST: as_json(manifest)}))
        return path

    def judge(self, archive: Path, **options: Any) -> Ruling:
        """`accept` into the board; what would run again comes out as claimed, and plugins pass their checks."""
        self.monkeypatch.setattr(judging, "verify", self.rerun)
        self.monkeypatch.setattr(judging, "discover", self.discover)
        self.monkeypatch.setattr(judging, "check_all", lambda _, own, *__: list(self.plugin_findings) if own else [])
        return accept(archive, JudgingOptions(into=self.board, store=self.store, **options))

    def refuses(self, archive: Path, **options: Any) -> set[str]:
        """The rules by which an archive is refused; the leaderboard is afterwards what it was."""
        before = self.tree()
        ruling = self.judge(archive, **options)
        assert not ruling.accepted
        assert self.tree() == before
        return errors(ruling.findings)

    def tree(self) -> dict[str, bytes]:
        """Every file of the leaderboard."""
        files = [path for path in sorted(self.board.rglob("*")) if path.is_file()] if self.board.exists() else []
        return {path.relative_to(self.board).as_posix(): path.read_bytes() for path in files}


def errors(findings: Sequence[Finding]) -> set[str]:
    return {finding.rule for finding in findings if finding.severity == "error"}
