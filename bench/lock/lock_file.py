"""The lock of released protocols: protocols/lock.json, written by `condensebench lock --release` and by nothing else.

It holds the digest of every released protocol, the defaults of the recipe and the teacher recipes that these digests
leave out, and canaries (bench/lock/canary.py). bench/lock/differences.py compares it with what is here.
"""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import LockError
from bench.plugins.registry import ROOT

PATH = ROOT / "protocols" / "lock.json"
SCHEMA = 1
# How far what a canary comes to may lie off, relative to the value; bench/lock/canary.py tells what was measured. The
# losses of epochs have more room: KL is a small difference of float32 numbers. Networks: relative to the largest logit.
TOLERANCE = {"losses": 1e-3, "test_loss": 1e-5, "weights": 3e-6, "networks": 1e-3}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Canary(_Part):
    """One short training run, and what came out when the protocol was released."""

    cell: dict[str, str | int]  # for which the protocol gives the recipe that this is the short form of
    resolved: str  # digest of that recipe
    recipe: dict[str, Any]  # the short form: what does not stand at its default
    teachers: int
    losses: tuple[float, ...]  # of every epoch
    test_loss: float
    weights: float  # Euclidean norm of all parameters in the end


class Released(_Part):
    """One released protocol."""

    digest: str
    released: date
    canaries: tuple[Canary, ...]


class Lock(_Part):
    """The whole file."""

    schema_: int = SCHEMA
    tolerance: dict[str, float] = TOLERANCE
    defaults: dict[str, Any] = {}  # of bench.protocol.recipe.Recipe, parts as tables; null: a value that has no default
    teachers: dict[str, str] = {}  # teacher recipe -> digest of its values
    networks: dict[str, tuple[float, ...]] = {}  # network of a library -> its logits when freshly initialised
    protocols: dict[str, Released] = {}


def read(path: Path = PATH) -> Lock:
    """The lock. Where there is no file: an empty one, but the project's own is never missing.

    Raises LockError where it cannot be read, or is the project's own and missing.
    """
    if not path.is_file():
        if path == ROOT / "protocols" / "lock.json":
            raise LockError(f"{path} is missing: no protocol can be held to it. Take it from version control again.")
        return Lock()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lock = Lock.model_validate({"schema_": content.pop("schema", None), **content})
    except (ValueError, TypeError, AttributeError, ValidationError) as error:
        raise LockError(f"{path} cannot be read: {error}\nTake it from version control again.") from None
    if lock.schema_ != SCHEMA:
        raise LockError(f"{path} has schema {lock.schema_}; this version reads {SCHEMA}. Update condensebench.")
    return lock


def released(path: Path = PATH) -> dict[str, str]:
    """Digest of every released protocol by id; results of anything else are unofficial."""
    return {name: entry.digest for name, entry in read(path).protocols.items()}


def to_text(lock: Lock) -> str:
    """The file's one spelling: sorted, indented."""
    content = lock.model_dump(mode="json")
    content["schema"] = content.pop("schema_")
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write(lock: Lock, path: Path = PATH) -> None:
    """Replace the file in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(to_text(lock), encoding="utf-8")
    os.replace(temporary, path)


def lock_summary(lock: Lock) -> str:
    """What a check of the lock looks at."""
    canaries = sum(len(entry.canaries) for entry in lock.protocols.values())
    return (
        f"{len(lock.protocols)} released protocols, {canaries} canaries, {len(lock.teachers)} teacher recipes, "
        f"{len(lock.networks)} networks of libraries"
    )
