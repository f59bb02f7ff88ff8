"""The record: one JSON line for one trial, written the moment the trial ends, and never changed afterwards.

A line says what was run (`trial`), from what (`made_by`: digests), what came out, and what it cost. It carries the
sha256 of itself, so an edited figure is found. Lines are only ever appended; the last line of a trial counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import heapq
import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.errors import UserError

SCHEMA = 2
TRIAL_KEYS = frozenset(
    {"id", "dataset", "protocol", "method", "ipc", "compressor", "budget", "student", "replicate"}
)  # the fields of bench.trial.Trial and its id
FIRST_KEY = b'{"schema":'  # how every line begins

Status = Literal["ok", "failed", "infeasible"]
Regime = Literal["hard", "stored", "online"]  # of labels, see bench.recipe.Recipe
State = Literal["done", "missing", "stale", "failed"]


def now() -> str:
    """The time as a record writes it: ISO-8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """JSON values only, so that nothing a plugin reports can cost the record of its trial: arrays become lists, numbers
    that JSON lacks (nan, inf) and unknown objects become text."""
    if hasattr(value, "tolist"):  # numpy arrays and scalars, torch tensors
        value = value.tolist()
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # lone surrogates (undecodable file names) have no UTF-8
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return _plain(str(value))


Count = Annotated[int, Field(ge=0)]
Loss = Annotated[float | None, BeforeValidator(_finite)]  # None also stands for a loss that was not finite
Text = Annotated[str, BeforeValidator(_plain)]
JSONDict = Annotated[dict[str, Any], BeforeValidator(_plain)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelBytes(_Part):
    """Bytes of the encoded labels, counted by the harness on what was really serialized."""

    total: Count
    shared: Count = 0  # what all images share: a basis, a codebook
    blobs: Count = 0  # the per-image parts
    views: Count = 0  # the parameters that replay the stored augmentations


class CondensedSet(_Part):
    """What the harness saw of the condensed set, beside the data set that it stands for. See bench.duplicates."""

    digest: Text  # hex sha256 of images and labels
    per_class: tuple[Count, Count]  # images of the class that has fewest, and of the one that has most
    repeated: Count  # images that equal another one of the set
    in_test_exact: Count  # images that equal a test image
    in_test_near: Count  # images that all but equal a test image, without being the same
    train_in_test: (
        Count  # training images of the data set that equal a test image: a fault of the data set, not of the method
    )


class Failure(_Part):
    """What a failed trial raised."""

    type: Text
    message: Text
    traceback: Text = ""


class Record(_Part):
    """What one trial gave. Sizes in bytes, times in seconds of wall clock, accuracy as a fraction of the test split.

    A line holds the fields in the order in which they stand here. What a trial did not reach is None, as is what
    records of an earlier schema do not tell.
    """

    schema_: int = Field(default=SCHEMA, alias="schema")
    id: str  # of the trial, 16 hex digits
    trial: JSONDict  # the fields of bench.trial.Trial and "id"
    status: Status
    finished: str = Field(default_factory=now)  # ISO-8601, UTC
    labels: Regime | None = None  # the label regime
    recipe: Text | None = None  # bench.recipe.Recipe.digest of the values that the protocol has for this cell

    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None  # on the test split, after the last epoch
    test_loss: Loss = None
    train_loss: Loss = None  # mean over the last epoch
    steps: Count | None = None
    epochs: Count | None = None
    images_seen: Count | None = None  # by the student, over all epochs
    measured_after: Count | None = None  # epochs that the student had been trained when it was measured
    num_test: Count | None = None  # images in the test split
    test_opened: Count | None = None  # times that the test split was opened while the trial was evaluated

    bytes_images: Count | None = None  # encoded images
    bytes_labels: LabelBytes | None = None  # None where labels are hard
    bytes_labels_reference: Count | None = None  # what "1x" is: fp16 logits and 25 B of view parameters per row
    smallest_bytes: Count | None = None  # infeasible: what the compressor needs at the least

    num_classes: Count | None = None
    num_images: Count | None = None  # in the condensed set
    num_views: Count | None = None  # stored augmentations per image; None where none are stored
    condensed: CondensedSet | None = None

    # Digests: dataset, teacher (of several: of the list of theirs), protocol, method, compressor, network, engine.
    made_by: dict[str, str | None]
    provenance: JSONDict = {}  # what the method tells about its condensed set
    seconds: dict[str, float] = {}  # stage -> wall seconds
    environment: dict[str, str] = {}  # see `environment`; "threads" (torch's) and "device" of the student's training
    error: Failure | None = None

    @field_validator("finished")
    @classmethod
    def _is_utc(cls, text: str) -> str:
        if datetime.fromisoformat(text).utcoffset() != timedelta(0):
            raise ValueError(f"{text!r} is not an ISO-8601 time in UTC, such as {now()!r}")
        return text

    @model_validator(mode="after")
    def _is_whole(self) -> Record:
        if lacking := TRIAL_KEYS - self.trial.keys():
            raise ValueError(f"trial lacks {', '.join(sorted(lacking))}")
        if self.schema_ != SCHEMA:
            raise ValueError(f"schema {self.schema_} cannot be read, only up to {SCHEMA}")
        if self.trial["id"] != self.id:
            raise ValueError(f"id {self.id} is not that of the trial, {self.trial['id']}")
        needed = {"ok": "accuracy", "infeasible": "smallest_bytes", "failed": "error"}[self.status]
        if getattr(self, needed) is None:
            raise ValueError(f"a record with status {self.status!r} needs {needed!r}")
        return self

    def fields(self) -> dict[str, Any]:
        """JSON values of every field, without the line's digest."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def digest(self) -> str:
        """Hex sha256 of the canonical JSON of `fields`."""
        return _digest(self.fields())

    def line(self) -> str:
        """The line as it stands in a file: JSON of one line, ending with its digest, without the newline."""
        fields = self.fields()
        return json.dumps({**fields, "digest": _digest(fields)}, separators=(",", ":"), allow_nan=False)


def _digest(fields: Mapping[str, Any]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def environment() -> dict[str, str]:
    """Versions and the kind of machine. Neither a host name nor a user name: records are published."""

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "-"

    return {
        "python": platform.python_version(),
        "torch": installed("torch"),
        "numpy": installed("numpy"),
        "machine": _cpu_model(),
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


# --- writing --------------------------------------------------------------------------------------------------------


def append(path: str | Path, record: Record) -> None:
    """Append one line and return once it is on the disk.

    A last line that a crash cut off is ended first, so that the new line stands by itself. One writer at a time: hold
    `locked` on the folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + record.line().encode() + b"\n"
        while data:  # one write, unless the disk takes less (a signal, a quota)
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:  # the file's name must survive a crash as well
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Be the only run that writes to `folder` (created if need be). The lock ends with the process, however it ends.

    Raises UserError where another run holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"another run (process {file.read().strip() or 'unknown'}) is writing to {folder}. "
                "Wait until it ends, or give this one its own folder: --results OTHER_DIR"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass
class Loaded:
    """Records in the order they were written, and what was left out, as messages with file and line number."""

    records: list[Record] = field(default_factory=list)
    places: list[str] = field(default_factory=list)  # FILE:LINE of each of the records
    torn: list[str] = field(default_factory=list)  # cut off by a crash ("note: ..."), or unreadable ("WARNING: ...")
    tampered: list[str] = field(default_factory=list)  # lines whose digest does not fit; not among the records

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)


def _from_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had no online labels: a compressor, or class labels."""
    trial = fields.get("trial")
    compressed = isinstance(trial, dict) and trial.get("compressor") is not None
    return {**fields, "labels": "stored" if compressed else "hard"}


# From schema n: fields -> fields of schema n + 1.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def load(path: str | Path) -> Loaded:
    """Read one record file, or every *.jsonl of a folder.

    Lines that cannot be read and lines that were edited are left out and reported. Raises UserError where there is no
    such folder or file, where a file holds something else, and where records come from a newer version.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"no records at {path}: expected a folder with .jsonl record files, or one such file. "
            f"Make them with: condensebench run --results {path}"
        )
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    loaded = Loaded()
    by_file = [_load_file(file, loaded) for file in files]
    # Each file keeps its own order (append order is the truth, clocks are not); files interleave by time.
    for record, where in heapq.merge(*by_file, key=lambda pair: pair[0].finished):
        loaded.records.append(record)
        loaded.places.append(where)
    return loaded


def _load_file(file: Path, loaded: Loaded) -> list[tuple[Record, str]]:
    data = file.read_bytes()
    lines = data.split(b"\n")
    if not _is_record_file(lines):
        raise UserError(
            f"{file} is no record file: expected lines of JSON that begin with {FIRST_KEY.decode()}. "
            "Name a folder of results, such as: condensebench leaderboard --results results"
        )
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            fields = json.loads(line)
            changed = fields.pop("digest") != _digest(fields)
        except (ValueError, KeyError, AttributeError, TypeError):
            if number == len(lines):  # no newline after it
                loaded.torn.append(f"note: {where}: the last line was cut off, its trial counts as not run")
            else:
                loaded.torn.append(
                    f"WARNING: {where}: this line is no whole record (cut off by a crash, or edited); it is left out"
                )
            continue
        if changed:
            loaded.tampered.append(f"{where}: the line was changed after it was written (its digest does not fit)")
            continue
        try:
            records.append((Record(**migrate(fields, where)), where))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            loaded.torn.append(f"WARNING: {where}: not a record, it is left out: {key} {first['msg']}")
    return records


def _is_record_file(lines: Sequence[bytes]) -> bool:
    """True also for an empty file and for one that holds nothing but the beginning of a record."""
    written = [line for line in (each.strip(b" \r\0") for each in lines) if line]
    return not written or any(line.startswith(FIRST_KEY) or FIRST_KEY.startswith(line) for line in written)


def migrate(fields: dict[str, Any], where: str = "record") -> dict[str, Any]:
    """The fields of a record of any earlier schema as those of the present one."""
    schema = fields.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(
            f"{where} is of record schema {schema}, and this version reads up to {SCHEMA}. "
            "Upgrade: pip install --upgrade condensebench"
        )
    while isinstance(schema, int) and schema < SCHEMA and schema in MIGRATIONS:
        fields = {**MIGRATIONS[schema](fields), "schema": schema + 1}
        schema += 1
    return fields


# --- which records count --------------------------------------------------------------------------------------------


def latest(records: Iterable[Record]) -> list[Record]:
    """One record per trial, the last, in the order in which the trials first appear."""
    return list({record.id: record for record in records}.values())


def merge(paths: Iterable[str | Path]) -> Loaded:
    """The union of several folders or files; a line that stands in more than one of them counts once."""
    parts = [load(path) for path in paths]
    pairs = (zip(part.records, part.places, strict=True) for part in parts)
    ordered = heapq.merge(*pairs, key=lambda pair: pair[0].finished)
    once = {record.digest: (record, where) for record, where in ordered}
    return Loaded(
        records=[record for record, _ in once.values()],
        places=[where for _, where in once.values()],
        torn=[message for part in parts for message in part.torn],
        tampered=[message for part in parts for message in part.tampered],
    )


def status_of(
    trial_id: str, made_by: Mapping[str, str | None], records: Iterable[Record] | Mapping[str, Record]
) -> State:
    """Whether a trial still has to run, judged by its last record, the one that a leaderboard shows.

    done: ok or infeasible, made by the same digests. failed: failed under the same digests. stale: made by others.
    For many trials hand in `{record.id: record for record in records}`, which is looked up, not searched.
    """
    if isinstance(records, Mapping):
        last = records.get(trial_id)
    else:
        last = next((record for record in reversed(list(records)) if record.id == trial_id), None)
    if last is None:
        return "missing"
    if last.made_by != dict(made_by):
        return "stale"
    return "failed" if last.status == "failed" else "done"
