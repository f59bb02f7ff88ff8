"""What stands in a submission: a list of files with their digests, records, a plan, plugins, and the sender's checks.

The list, `submission.json`, is the identity of a submission: whoever has its first digits can compare the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import UserError
from bench.finding import Finding
from bench.foreign.plain_zip import packed, unpacked
from bench.texts import FILE_BYTES, cut, visible

FORMAT = 1
MANIFEST, RECORDS, PLAN, ENVIRONMENT = "submission.json", "records.jsonl", "plan.toml", "environment.json"
CHECKED, VERIFIED = "checks/records.json", "checks/verify.json"
PLUGINS = "plugins"  # the folder of plugins
NEEDED = (RECORDS, PLAN, ENVIRONMENT, CHECKED, VERIFIED)
DIGITS = 12  # of a submission's digest that name it


class Refused(UserError):
    """A submission that cannot be judged: `rule` is one of bench/submission/admission.py."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Part = TypeVar("Part", bound=_Part)


class Manifest(_Part):
    """`submission.json`."""

    format: int
    condensebench: str  # version of the package that packed it
    engine: str  # digest of the evaluation engine
    records: int
    files: dict[str, str]  # name -> hex sha256 of the content, of every other file


class ReportedFinding(_Part):
    """A finding as `--json` prints it."""

    rule: str
    where: str
    message: str
    severity: Literal["error", "warning", "note"]


class Report(_Part):
    """What one of the sender's checks found."""

    summary: str
    findings: list[ReportedFinding]


@dataclass(frozen=True)
class Submission:
    """The files of a submission, which fit its list."""

    name: str  # of the archive, for messages
    manifest: Manifest
    files: Mapping[str, bytes]

    @cached_property
    def id(self) -> str:
        """The first digits of the digest of its list of files."""
        return sha256(self.files[MANIFEST])[:DIGITS]

    @property
    def plugins(self) -> dict[str, bytes]:
        """Name of a plugin's file, without its folder -> content."""
        start = f"{PLUGINS}/"
        return {name.removeprefix(start): text for name, text in self.files.items() if name.startswith(start)}

    def report(self, name: str) -> Report:
        """CHECKED or VERIFIED. Raises Refused."""
        return _read(Report, self.files[name], name)


def pack(files: Mapping[str, bytes], *, version: str, engine: str, records: int) -> bytes:
    """The archive of a submission; the same bytes for the same files."""
    manifest = Manifest(
        format=FORMAT,
        condensebench=version,
        engine=engine,
        records=records,
        files={name: sha256(files[name]) for name in sorted(files)},
    )
    return packed({**files, MANIFEST: as_json(manifest.model_dump())})


def open_submission(path: Path) -> Submission:
    """The submission in an archive, whose every file is as its list says.

    Raises:
        UnsafeArchive: it is no archive of plain files (see bench.foreign.plain_zip).
        Refused: it is another archive, or its files are not those of its list.
        UserError: there is no such file.
    """
    files = unpacked(path)
    if MANIFEST not in files:
        raise Refused(
            "not-a-submission", f"{path.name} holds no {MANIFEST}: `condensebench submit DIR` writes a submission."
        )
    for name, content in files.items():
        if name != RECORDS and len(content) > FILE_BYTES:
            raise Refused("not-a-submission", f"{name} has {len(content):,} bytes; at most {FILE_BYTES:,} are read.")
    newer = _format(files[MANIFEST])
    if newer > FORMAT:
        raise Refused(
            "not-a-submission",
            f"{path.name} has format {cut(str(newer), 40)}, and this version reads up to {FORMAT}. "
            "Upgrade: pip install --upgrade condensebench",
        )
    manifest = _read(Manifest, files[MANIFEST], MANIFEST)
    listed, present = set(manifest.files), set(files) - {MANIFEST}
    if lacking := sorted((listed | set(NEEDED)) - present):
        raise Refused("not-a-submission", f"{path.name} lacks {', '.join(lacking[:5])}.")
    unknown = sorted(
        name
        for name in present
        if name not in NEEDED and not (name.startswith(f"{PLUGINS}/") and name.endswith((".py", ".toml")))
    )
    if unknown:
        raise Refused("not-a-submission", f"{path.name} holds {', '.join(unknown[:5])}, which no submission has.")
    for name in sorted(present):
        if manifest.files.get(name) != sha256(files[name]):
            raise Refused("altered-file", f"{name} is not the file that {MANIFEST} lists: it was changed afterwards.")
    return Submission(path.name, manifest, files)


def as_json(value: object) -> bytes:
    """JSON with keys in order and a line end, the same bytes for the same value."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def report_of(findings: Iterable[Finding], summary: str) -> bytes:
    """A check's findings as a file of the submission, in an order of their own."""
    listed = sorted((asdict(finding) for finding in findings), key=lambda each: sorted(each.items()))
    return as_json({"summary": summary, "findings": listed})


def sha256(content: bytes) -> str:
    """Hex."""
    return hashlib.sha256(content).hexdigest()


def _format(content: bytes) -> int:
    """The format that a list of files says it has; 0 where it says none."""
    try:
        value = json.loads(content)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return value if type(value) is int else 0


def _read(kind: type[Part], content: bytes, name: str) -> Part:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))} {first['msg']}"
        raise Refused(
            "not-a-submission", f"{name} is not as a submission has it: {cut(visible(reason), 300)}"
        ) from None
