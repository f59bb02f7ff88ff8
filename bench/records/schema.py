"""The record: what one trial gave, as one JSON line that carries the sha256 of itself.

A line says what was run (`trial`), from what (`made_by`: digests), what came out, and what it cost. The schema has a
number; records of an earlier one are read as records of the present one (`migrate`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from bench.errors import UserError
from bench.plugins.former_code import equal, renewed
from bench.trials.budget import Budget
from bench.trials.trial import Trial

SCHEMA = 5
LARGEST = 2**53  # above every whole number of a record: JSON readers of all languages keep smaller ones exact
TRIAL_KEYS: dict[str, tuple[type, ...]] = {  # the fields of bench.trials.trial.Trial and its id
    **dict.fromkeys(("id", "dataset", "protocol", "method", "student"), (str,)),
    **dict.fromkeys(("ipc", "replicate"), (int,)),
    **dict.fromkeys(("compressor", "budget"), (str, type(None))),
}

FIXED = ("dataset", "teacher", "protocol", "engine", "network")  # of `made_by`: what is the same for all of a cell
COUNTED_AS = "counted_as"  # in provenance: how images are counted, where not as PNG files at their smallest
# provenance["pixels"] of sets that are not uint8 and provenance["soft_labels"] of sets that have any; bytes of a value.
FLOATS = {"float32": 4, "float16": 2}
Status = Literal["ok", "failed", "infeasible"]
Regime = Literal["hard", "stored", "online", "learned"]  # of labels, see bench.protocol.recipe.Recipe
# Fields of some records alone: where one is None it is left out, so that the lines of all others stay what they were.
OF_SOME = ("class_balance", "curve", "peak_bytes")


def now() -> str:
    """The time as a record writes it: ISO-8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _finite(value: float | None) -> float | None:
    if value is not None and (isinstance(value, str | bytes | bool) or not hasattr(value, "__float__")):
        raise ValueError("a loss is a number or null")
    try:
        return None if value is None or not math.isfinite(value) else value
    except (OverflowError, TypeError):
        raise ValueError("a loss is a number or null") from None


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


Count = Annotated[int, Field(ge=0, lt=LARGEST)]
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


class InvalidLabels(_Part):
    """Of the probabilities that a compressor approximates, those that came out as none, as it counts itself: over all
    images and views."""

    values: Count  # negative
    rows: Count  # whose sum was not one


class CondensedSet(_Part):
    """What the harness saw of the condensed set, beside the data set that it stands for. See bench.duplicates."""

    digest: Text  # hex sha256 of images and labels
    per_class: tuple[Count, Count]  # images of the class that has fewest, and of the one that has most
    empty_classes: Count | None = None  # classes without an image; None where every class has as many
    repeated: Count  # images that equal another one of the set
    in_test_exact: Count  # images that equal a test image
    in_test_near: Count  # images that all but equal a test image, without being the same
    train_in_test: (
        Count  # training images of the data set that equal a test image: a fault of the data set, not of the method
    )


class TeacherFacts(_Part):
    """A teacher that the trial used."""

    recipe: Text  # its name
    network: Text
    digest: Text  # of the weights
    accuracy: Annotated[float, Field(ge=0, le=1)]  # on the test split, measured when it was made


class Point(_Part):
    """One of the students that a trial trains under a protocol of continual learning or network slimming."""

    classes: Count  # that it was trained and tested on
    parameters: Count  # of the student
    num_test: Count  # test images of these classes
    accuracy: Annotated[float, Field(ge=0, le=1)]
    test_loss: Loss = None
    train_loss: Loss = None


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
    trial: JSONDict  # the fields of bench.trials.trial.Trial and "id"
    status: Status
    finished: str = Field(default_factory=now)  # ISO-8601, UTC
    labels: Regime | None = None  # the label regime
    recipe: Text | None = None  # bench.protocol.recipe.Recipe.digest of the values that the protocol has for this cell
    class_balance: Literal["free"] | None = None  # of the protocol, where classes may have different numbers of images
    default_recipe: bool | None = None  # whether the protocol has no entry for the data set, and its defaults were used

    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None  # on the test split, after the last epoch
    test_loss: Loss = None
    train_loss: Loss = None  # mean over the last epoch
    steps: Count | None = None
    epochs: Count | None = None
    images_seen: Count | None = None  # by the student, over all epochs
    measured_after: Count | None = None  # epochs that the student had been trained when it was measured
    num_test: Count | None = None  # images in the test split
    # Of protocols under which a trial trains several students: all of them, in their order; the last one is the result.
    curve: list[Point] | None = None
    test_opened: Count | None = None  # times that the test split was opened while the trial was evaluated

    bytes_images: Count | None = None  # encoded images
    bytes_labels: LabelBytes | None = None  # None where none are stored: labels are hard, or a teacher is asked online
    bytes_labels_reference: Count | None = None  # what "1x" is: fp16 logits and 25 B of view parameters per row
    smallest_bytes: Count | None = None  # infeasible: what the compressor needs at the least
    invalid_labels: InvalidLabels | None = None  # None where the compressor does not count

    num_classes: Count | None = None
    num_images: Count | None = None  # in the condensed set
    num_views: Count | None = None  # stored augmentations per image; None where none are stored
    condensed: CondensedSet | None = None
    teachers: list[TeacherFacts] | None = None  # that the trial used, the one that methods see first

    # Digests: dataset, teacher (of several: of the list of theirs), protocol, method, compressor, network, engine; and,
    # of a method that uses further networks beside the teacher, backbones (of the list of theirs).
    made_by: dict[str, str | None]
    provenance: JSONDict = {}  # what the method tells about its condensed set
    seconds: dict[str, float] = {}  # stage -> wall seconds
    # Stage -> bytes at its peak above where it began: of the GPU that "device" in `environment` names, else of the
    # process's resident memory. None where the system tells none.
    peak_bytes: dict[str, Count] | None = None
    # What plugins did beside their task: "method" and "compressor" -> notes of bench.confinement.watch. A compressor of
    # this project is not watched.
    conduct: dict[str, tuple[Text, ...]] | None = None
    limits: Text | None = None  # of the processes of plugins, see bench.confinement.plugin_limits
    environment: dict[str, str] = {}  # see bench.machine; "threads" (torch's) and "device" of the student's training
    error: Failure | None = None

    @field_validator("finished")
    @classmethod
    def _is_utc(cls, text: str) -> str:
        if datetime.fromisoformat(text).utcoffset() != timedelta(0):
            raise ValueError(f"{text!r} is not an ISO-8601 time in UTC, such as 2026-01-01T00:00:00.000000+00:00")
        return text

    @model_validator(mode="after")
    def _is_whole(self) -> Record:
        if lacking := TRIAL_KEYS.keys() - self.trial.keys():
            raise ValueError(f"trial lacks {', '.join(sorted(lacking))}")
        for key, kinds in TRIAL_KEYS.items():
            if type(self.trial[key]) not in kinds:
                raise ValueError(f"trial.{key} = {self.trial[key]!r} must be {' or '.join(k.__name__ for k in kinds)}")
        if not 1 <= self.trial["ipc"] < LARGEST or not 0 <= self.trial["replicate"] < LARGEST:
            raise ValueError("trial.ipc must be at least 1 and trial.replicate at least 0, and both below 2^53")
        if self.trial["budget"] is not None:
            try:
                Budget.parse(self.trial["budget"])
            except UserError as error:
                raise ValueError(f"trial.budget: {error}") from None
        if self.schema_ != SCHEMA:
            raise ValueError(f"schema {self.schema_} cannot be read, only up to {SCHEMA}")
        if self.trial["id"] != self.id:
            raise ValueError(f"id {self.id} is not that of the trial, {self.trial['id']}")
        needed = {"ok": "accuracy", "infeasible": "smallest_bytes", "failed": "error"}[self.status]
        if getattr(self, needed) is None:
            raise ValueError(f"a record with status {self.status!r} needs {needed!r}")
        return self

    @property
    def run(self) -> Trial:
        """What was run."""
        return Trial.from_dict(self.trial)

    def fields(self) -> dict[str, Any]:
        """JSON values of every field, without the line's digest."""
        fields = self.model_dump(mode="json", by_alias=True)
        for name in OF_SOME:
            if fields[name] is None:
                del fields[name]
        if self.condensed is not None and self.condensed.empty_classes is None:
            del fields["condensed"]["empty_classes"]
        return fields

    @property
    def digest(self) -> str:
        """Hex sha256 of the canonical JSON of `fields`."""
        return line_digest(self.fields())

    def line(self) -> str:
        """The line as it stands in a file: JSON of one line, ending with its digest, without the newline."""
        fields = self.fields()
        return json.dumps({**fields, "digest": line_digest(fields)}, separators=(",", ":"), allow_nan=False)


def line_digest(fields: Mapping[str, Any]) -> str:
    """Hex sha256 of the canonical JSON of a line's fields, its digest left out."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _from_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had no online labels: a compressor, or class labels."""
    trial = fields.get("trial")
    compressed = isinstance(trial, dict) and trial.get("compressor") is not None
    return {**fields, "labels": "stored" if compressed else "hard"}


def _from_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 did not tell what a compressor had to mend."""
    return fields


def _from_3(fields: dict[str, Any]) -> dict[str, Any]:
    """Schema 3 had digests of code by another rule; of code that is not known by both they stay, and are stale."""
    return _with_code(fields, renewed)


def _from_4(fields: dict[str, Any]) -> dict[str, Any]:
    """Schema 4 told neither what plugins did beside their task nor their limits."""
    return fields


def with_later_code(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record as if today's code had made it, where that gives the same bytes as the code that did."""
    return _with_code(fields, equal)


def _with_code(fields: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    digests = fields.get("made_by")
    if not isinstance(digests, dict):
        return fields
    code = {part: change(digests[part]) for part in ("method", "compressor", "network") if part in digests}
    return {**fields, "made_by": {**digests, **code}}


# From schema n: fields -> fields of schema n + 1.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2, 3: _from_3, 4: _from_4}


def migrate(fields: dict[str, Any], where: str = "record") -> dict[str, Any]:
    """The fields of a record of any schema as those of the present one, and of today's code where that is equal."""
    schema = fields.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(
            f"{where} is of record schema {schema}, and this version reads up to {SCHEMA}. "
            "Upgrade: pip install --upgrade condensebench"
        )
    while isinstance(schema, int) and schema < SCHEMA and schema in MIGRATIONS:
        fields = {**MIGRATIONS[schema](fields), "schema": schema + 1}
        schema += 1
    return with_later_code(fields)
