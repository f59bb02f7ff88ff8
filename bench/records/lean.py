"""Lean records: what tables and checks read of a record, in a tenth of the time and memory of a `Record`.

A line takes the fast way where it is spelt as this project spells it and holds no value that a `Record` would refuse or
change. Every other line takes the way of bench/records/lines.py, so that both give the same records and the same
problems; tests/records/test_lean.py holds them to it.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from bench.errors import UserError
from bench.records.lines import LONGEST, is_name, record_of, whole_fields
from bench.records.problems import Problem
from bench.records.schema import COUNTED_AS, LARGEST, SCHEMA, Record, Regime, Status, migrate, with_later_code
from bench.trials.budget import Budget
from bench.trials.trial import Trial

_Count = Annotated[int, Meta(ge=0, lt=LARGEST)]
_OptionalCount = _Count | None | UnsetType
_OptionalText = str | None | UnsetType
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", re.ASCII)
_KEPT = 20_000  # different parts of lines that are remembered
_SHORT = 2_000  # bytes of what a method tells of its set, where it is remembered


class LeanBytes(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """See bench.records.schema.LabelBytes."""

    total: _Count
    shared: _Count
    blobs: _Count
    views: _Count

    def __str__(self) -> str:
        return f"total={self.total} shared={self.shared} blobs={self.blobs} views={self.views}"


class LeanInvalid(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """See bench.records.schema.InvalidLabels."""

    values: _Count
    rows: _Count


class LeanCondensed(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """See bench.records.schema.CondensedSet."""

    digest: str
    per_class: tuple[_Count, _Count]
    repeated: _Count
    in_test_exact: _Count
    in_test_near: _Count
    train_in_test: _Count
    empty_classes: _Count | None = None  # left out where it is None, as a `Record` does


class LeanTeacher(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """See bench.records.schema.TeacherFacts."""

    recipe: str
    network: str
    digest: str
    accuracy: Annotated[float, Meta(ge=0, le=1)]


class LeanPoint(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """See bench.records.schema.Point."""

    classes: _Count
    parameters: _Count
    num_test: _Count
    accuracy: Annotated[float, Meta(ge=0, le=1)]
    test_loss: float | None
    train_loss: float | None


class LeanFailure(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """See bench.records.schema.Failure."""

    type: str
    message: str
    traceback: str


class LeanRecord(Struct, frozen=True, gc=False):
    """The fields of a bench.records.schema.Record that tables and checks read, under the same names."""

    id: str
    run: Trial
    status: Status
    finished: str
    labels: Regime | None
    recipe: str | None
    class_balance: Literal["free"] | None
    default_recipe: bool | None
    accuracy: float | None
    test_loss: float | None
    train_loss: float | None
    steps: int | None
    epochs: int | None
    images_seen: int | None
    measured_after: int | None
    num_test: int | None
    curve: list[LeanPoint] | None
    test_opened: int | None
    bytes_images: int | None
    bytes_labels: LeanBytes | None
    bytes_labels_reference: int | None
    smallest_bytes: int | None
    invalid_labels: LeanInvalid | None
    num_classes: int | None
    num_images: int | None
    num_views: int | None
    condensed: LeanCondensed | None
    teachers: list[LeanTeacher] | None
    made_by: dict[str, str | None]  # shared by records that are equal in it, as are `environment` and the trial's texts
    provenance: dict[str, Any]  # of all that it tells, only "pixels", "soft_labels" and how images are counted
    seconds: dict[str, float]
    peak_bytes: dict[str, int] | None
    conduct: dict[str, tuple[str, ...]] | None
    limits: str | None
    environment: dict[str, str]
    error: LeanFailure | None

    @property
    def trial(self) -> dict[str, Any]:
        """The fields of `run`, and "id"."""
        return {**self.run.as_dict(), "id": self.id}


class _Trial(Struct, forbid_unknown_fields=True, gc=False):
    """`Record.trial` as a line holds it."""

    dataset: str
    protocol: str
    method: str
    ipc: Annotated[int, Meta(ge=1, lt=LARGEST)]
    compressor: str | None
    budget: str | None
    student: str
    replicate: _Count
    id: str


class _Line(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A line as it is spelt: encoded again with its keys in order, it is the text that its digest was taken of."""

    schema: Annotated[int, Meta(ge=1, le=SCHEMA)]
    id: str
    trial: _Trial
    status: Status
    made_by: Raw
    digest: str | UnsetType = UNSET
    finished: str | UnsetType = UNSET
    labels: Regime | UnsetType | None = UNSET
    recipe: _OptionalText = UNSET
    class_balance: Literal["free"] | UnsetType = UNSET
    default_recipe: bool | UnsetType | None = UNSET
    accuracy: Raw | UnsetType = UNSET
    test_loss: Raw | UnsetType = UNSET
    train_loss: Raw | UnsetType = UNSET
    steps: _OptionalCount = UNSET
    epochs: _OptionalCount = UNSET
    images_seen: _OptionalCount = UNSET
    measured_after: _OptionalCount = UNSET
    num_test: _OptionalCount = UNSET
    curve: Raw | UnsetType = UNSET
    test_opened: _OptionalCount = UNSET
    bytes_images: _OptionalCount = UNSET
    bytes_labels: LeanBytes | UnsetType | None = UNSET
    bytes_labels_reference: _OptionalCount = UNSET
    smallest_bytes: _OptionalCount = UNSET
    invalid_labels: LeanInvalid | UnsetType | None = UNSET
    num_classes: _OptionalCount = UNSET
    num_images: _OptionalCount = UNSET
    num_views: _OptionalCount = UNSET
    condensed: LeanCondensed | UnsetType | None = UNSET
    teachers: Raw | UnsetType = UNSET
    provenance: Raw | UnsetType = UNSET
    seconds: dict[str, Raw] | UnsetType = UNSET
    peak_bytes: dict[str, _Count] | UnsetType = UNSET
    conduct: dict[str, tuple[str, ...]] | UnsetType | None = UNSET
    limits: _OptionalText = UNSET
    environment: Raw | UnsetType = UNSET
    error: LeanFailure | UnsetType | None = UNSET


class _Odd(Exception):
    """The line is not spelt as this project spells it, or holds what a `Record` looks at more closely."""


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder(order="sorted").encode


class LeanReader:
    """Reads lines; what many of them have in common is kept once."""

    def __init__(self) -> None:
        self._parts: dict[bytes, tuple[Raw, dict[str, Any]]] = {}
        self._told: dict[bytes, tuple[Raw, Any]] = {}
        self._texts: dict[str, str] = {}
        self._names: set[str] = set()
        self._migrations: dict[tuple[Any, ...], tuple[Regime | None, dict[str, Any]]] = {}
        self._shared: dict[tuple[str, str], dict[str, Any]] = {}

    def read(self, line: bytes, place: str) -> LeanRecord | Problem:
        """The record of a line, or what is wrong with it."""
        if len(line) <= LONGEST:
            try:
                return self._fast(line)
            except (msgspec.MsgspecError, _Odd, ValueError, RecursionError, OverflowError):
                pass
        fields = whole_fields(line, place)
        record = fields if isinstance(fields, Problem) else record_of(fields, place)
        return record if isinstance(record, Problem) else self._lean(record)

    def _fast(self, line: bytes) -> LeanRecord:
        if not line.isascii():  # this project escapes all else; bytes that are no text may stand where nobody looks
            raise _Odd
        whole = _decode(line)
        claimed, whole.digest = whole.digest, UNSET
        raw_made_by, made_by = self._part(whole.made_by, "made_by")
        raw_environment, environment = self._part(whole.environment, "environment")
        accuracy, test_loss, train_loss = whole.accuracy, whole.test_loss, whole.train_loss
        whole.made_by, whole.environment = raw_made_by, raw_environment
        whole.provenance, provenance = self._provenance(whole.provenance)
        whole.teachers, teachers = self._listed(whole.teachers, list[LeanTeacher] | None)
        whole.curve, curve = self._listed(whole.curve, list[LeanPoint] | None)
        if hashlib.sha256(_encode(whole)).hexdigest() != claimed:
            raise _Odd
        schema, trial = whole.schema, whole.trial
        labels = _none(whole.labels)
        if schema < SCHEMA:
            labels, made_by = self._migrated(schema, labels, made_by, trial.compressor)
        record = LeanRecord(
            whole.id,
            self._run(trial),
            whole.status,
            whole.finished,  # type: ignore[arg-type]  # UNSET is looked at below
            labels,
            self._text(whole.recipe),
            _none(whole.class_balance),
            _none(whole.default_recipe),
            _number(accuracy),
            _number(test_loss),
            _number(train_loss),
            _none(whole.steps),
            _none(whole.epochs),
            _none(whole.images_seen),
            _none(whole.measured_after),
            _none(whole.num_test),
            curve,
            _none(whole.test_opened),
            _none(whole.bytes_images),
            _none(whole.bytes_labels),
            _none(whole.bytes_labels_reference),
            _none(whole.smallest_bytes),
            _none(whole.invalid_labels),
            _none(whole.num_classes),
            _none(whole.num_images),
            _none(whole.num_views),
            _none(whole.condensed),
            teachers,
            made_by,
            provenance,
            self._seconds(whole.seconds),
            _none(whole.peak_bytes),
            _none(whole.conduct),
            self._text(whole.limits),
            environment,
            _none(whole.error),
        )
        self._look(record, trial)
        return record

    def _look(self, record: LeanRecord, trial: _Trial) -> None:
        """Raise _Odd for what a `Record` refuses beyond the types of its fields."""
        needed = {"ok": record.accuracy, "infeasible": record.smallest_bytes, "failed": record.error}[record.status]
        finished = record.finished
        if (
            needed is None
            or trial.id != record.id
            or (record.accuracy is not None and not 0 <= record.accuracy <= 1)
            or None in record.seconds.values()
            or not isinstance(finished, str)
            or not _UTC.fullmatch(finished)
        ):
            raise _Odd
        datetime.fromisoformat(finished)  # ValueError: a 13th month

    def _run(self, trial: _Trial) -> Trial:
        names = (trial.dataset, trial.protocol, trial.method, trial.compressor, trial.budget, trial.student)
        dataset, protocol, method, compressor, budget, student = map(self._name, names)
        if budget is not None and not _is_budget(budget):
            raise _Odd
        assert dataset is not None
        assert protocol is not None
        assert method is not None
        assert student is not None
        return Trial(dataset, protocol, method, trial.ipc, compressor, budget, student, trial.replicate)

    def _name(self, text: str | None) -> str | None:
        if text is None or text in self._names:
            return text if text is None else self._texts[text]
        if not is_name(text):
            raise _Odd
        self._names.add(text)
        return self._texts.setdefault(text, text)

    def _seconds(self, raw: dict[str, Raw] | UnsetType) -> dict[str, Any]:
        return (
            {} if raw is UNSET else {self._texts.setdefault(stage, stage): _number(each) for stage, each in raw.items()}
        )

    def _text(self, text: _OptionalText) -> str | None:
        return self._texts.setdefault(text, text) if isinstance(text, str) else None

    def _part(self, raw: Raw | UnsetType, kind: str) -> tuple[Any, dict[str, Any]]:
        """(a part of a line in the order of its keys, its content): texts by name."""
        if raw is UNSET:
            return UNSET, {}
        key = bytes(raw)
        known = self._parts.get(key)
        if known is None:
            content = json.loads(key)
            optional = (str, type(None)) if kind == "made_by" else (str,)
            if not isinstance(content, dict) or not all(isinstance(value, optional) for value in content.values()):
                raise _Odd
            text = _dumped(content)
            if len(self._parts) >= _KEPT:
                self._parts.clear()
            if kind == "made_by":
                content = with_later_code({"made_by": content})["made_by"]
            content = self._shared.setdefault((kind, text), content)
            known = self._parts[key] = (Raw(text.encode()), content)
        return known

    def _provenance(self, raw: Raw | UnsetType) -> tuple[Any, dict[str, Any]]:
        """(what the method tells, in the order of its keys; of it what is kept)."""
        if raw is UNSET:
            return UNSET, {}
        known = self._told.get(key := bytes(raw))
        if known is None:
            content = json.loads(key)
            if not isinstance(content, dict):
                raise _Odd
            known = self._kept(key, content, _kinds(content))
        return known

    def _listed(self, raw: Raw | UnsetType, kind: Any) -> tuple[Any, list[Any] | None]:
        """(a list of parts, in the order of their keys; what is read of them)."""
        if raw is UNSET:
            return UNSET, None
        known = self._told.get(key := bytes(raw))
        if known is None:
            content = json.loads(key)
            known = self._kept(key, content, msgspec.convert(content, kind))
        return known

    def _kept(self, key: bytes, content: Any, read: Any) -> tuple[Raw, Any]:
        told = Raw(_dumped(content).encode()), read
        if len(key) < _SHORT:
            if len(self._told) >= _KEPT:
                self._told.clear()
            self._told[key] = told
        return told

    def _migrated(
        self, schema: int, labels: Regime | None, made_by: dict[str, Any], compressor: str | None
    ) -> tuple[Regime | None, dict[str, Any]]:
        """What migrations change, once for all lines that are alike in it; `made_by` is one that is kept."""
        key = (schema, labels, id(made_by), compressor)
        if key not in self._migrations:
            fields: dict[str, Any] = migrate(
                {"schema": schema, "labels": labels, "made_by": made_by, "trial": {"compressor": compressor}}
            )
            self._migrations[key] = fields["labels"], self._same("made_by", fields["made_by"])
        return self._migrations[key]

    def _same(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        return self._shared.setdefault((kind, _dumped(content)), content)

    def _lean(self, record: Record) -> LeanRecord:
        def part(kind: type[Any], value: Any) -> Any:
            return None if value is None else kind(**dict(value))

        return LeanRecord(
            id=record.id,
            run=record.run,
            teachers=None if record.teachers is None else [part(LeanTeacher, each) for each in record.teachers],
            curve=None if record.curve is None else [part(LeanPoint, each) for each in record.curve],
            provenance=_kinds(record.provenance),
            bytes_labels=part(LeanBytes, record.bytes_labels),
            invalid_labels=part(LeanInvalid, record.invalid_labels),
            condensed=part(LeanCondensed, record.condensed),
            error=part(LeanFailure, record.error),
            made_by=self._same("made_by", record.made_by),
            environment=self._same("environment", record.environment),
            **{name: getattr(record, name) for name in _SAME},
        )


_SAME = sorted(
    {field.name for field in msgspec.structs.fields(LeanRecord)}
    - {"id", "run", "bytes_labels", "invalid_labels", "condensed", "error", "made_by", "environment"}
    - {"teachers", "curve", "provenance"}
)


def _kinds(provenance: dict[str, Any]) -> dict[str, Any]:
    return {name: provenance[name] for name in ("pixels", "soft_labels", COUNTED_AS) if name in provenance}


def _dumped(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _number(raw: Any) -> float | None:
    """A number in the spelling of this project."""
    if raw is UNSET:
        return None
    text = bytes(raw).decode()
    if text == "null":
        return None
    value = float(text)
    if repr(value) != text:
        raise _Odd
    return value


def _none(value: Any) -> Any:
    return None if value is UNSET else value


@lru_cache(maxsize=4096)
def _is_budget(text: str) -> bool:
    try:
        Budget.parse(text)
    except UserError:
        return False
    return True
