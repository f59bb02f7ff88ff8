"""What is here, held to the lock: protocol files, teacher recipes, defaults, canaries. A difference is a Finding."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.errors import UserError
from bench.finding import Finding
from bench.fingerprint import canonical, digest
from bench.lock import lock_file as locks
from bench.lock.lock_file import Canary, Lock
from bench.protocol.conditions import NoValue
from bench.protocol.definition import REQUIRED, Protocol, defaults, parse, with_defaults, without_defaults
from bench.protocol.recipe import Recipe
from bench.protocol.toml_file import read_toml

EDITED = (
    "A released protocol never changes. Take the file back from version control; if you want other values, "
    "copy it to {next}.toml, and release that"
)
MOVED = (
    "A change of the engine's code, or of torch, timm or torchvision, has changed what is measured. Take the change "
    "back, or install the versions of constraints.txt"
)


def next_version(name: str) -> str:
    """The id that a changed protocol gets: rded-v1 -> rded-v2."""
    match = re.fullmatch(r"(.*-v)(\d+)", name)
    return f"{match[1]}{int(match[2]) + 1}" if match else f"{name}-v2"


def recipe_defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Every default as the lock holds it: parts as tables, None for a value that has to be written down."""
    return {
        key: recipe_defaults(default) if isinstance(default, type) else None if default is REQUIRED else default
        for key, default in defaults(model).items()
    }


def teacher_digest(path: Path) -> str:
    """sha256 of a teacher recipe's values; title, source and notes may be reworded. Raises UserError."""
    values = {key: value for key, value in read_toml(path).items() if key not in ("title", "source", "notes")}
    if "recipe" in values:  # other teachers are downloaded
        values["recipe"] = without_defaults(Recipe, with_defaults(Recipe, values["recipe"], path, "recipe"))
    return digest(values)


def teacher_names(protocol: Protocol) -> list[str]:
    """Every teacher recipe that some branch of the protocol names, sorted."""

    def named(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from named(inner) if key != "by" else ()
        else:
            yield from [value] if isinstance(value, str) else value

    return sorted(set(named(protocol.values["teacher"])))


def changed_defaults(lock: Lock, path: Path) -> list[Finding]:
    """Defaults that are not what they were. New fields are none of them."""

    def compare(locked: dict[str, Any], present: dict[str, Any], at: str) -> Iterator[Finding]:
        for key, was in locked.items():
            name = f"{at}{key}"
            if key not in present:
                yield Finding("lock-default", "bench/protocol/recipe.py", f"{name} is gone, which {path} holds.")
            elif isinstance(was, dict) and isinstance(present[key], dict):
                yield from compare(was, present[key], f"{name}.")
            elif canonical(was) != canonical(present[key]):
                message = f"the default of {name} is {present[key]!r}; {path} holds {was!r}"
                yield Finding(
                    "lock-default", "bench/protocol/recipe.py", f"{message}. Digests leave defaults out: put it back."
                )

    return list(compare(lock.defaults, recipe_defaults(Recipe), ""))


def changed_protocol(name: str, lock: Lock, path: Path) -> list[Finding]:
    """Whether the released file is there, unedited, comes to what it came to, and so do the teachers that it names."""
    entry, file = lock.protocols[name], path.parent / f"{name}.toml"
    if not file.is_file():
        message = f"{name} was released on {entry.released} and its file is gone. Take it back from version control."
        return [Finding("lock-missing", str(file), message)]
    try:
        protocol = load(file)
    except UserError as error:
        return [Finding("lock-edited", str(file), f"{error}\n{EDITED.format(next=next_version(name))}.")]
    if protocol.digest != entry.digest:
        message = f"digest {protocol.digest[:16]}; {path} holds {entry.digest[:16]} since {entry.released}"
        return [Finding("lock-edited", str(file), f"{message}. {EDITED.format(next=next_version(name))}.")]
    cells = [finding for canary in entry.canaries for finding in _changed_cell(protocol, canary, file)]
    return cells + changed_teachers(lock, [each for each in teacher_names(protocol) if each in lock.teachers], path)


def load(file: Path) -> Protocol:
    """The protocol of a file. Raises UserError."""
    return parse(file.stem, read_toml(file), file)


def _changed_cell(protocol: Protocol, canary: Canary, file: Path) -> Iterator[Finding]:
    from bench.protocol.miniature import cell

    try:
        resolved = cell(protocol, canary.cell).resolved
    except NoValue as error:
        resolved = str(error)
    if resolved != canary.resolved:
        message = f"the file is unedited, but for {canary.cell} it comes to other values than when it was released"
        yield Finding("lock-cell", str(file), f"{message} ({resolved[:16]}, not {canary.resolved[:16]}). {MOVED}.")


def changed_teachers(lock: Lock, names: list[str], path: Path) -> list[Finding]:
    """Teacher recipes that the lock holds and that are other ones here."""
    findings = []
    for name in names:
        file = path.parent / "teachers" / f"{name}.toml"
        was = lock.teachers[name]
        try:
            present = teacher_digest(file) if file.is_file() else "no file"
        except UserError as error:
            present = str(error)
        if present != was:
            message = f"digest {present[:16] if len(present) == 64 else present}; {path} holds {was[:16]}"
            advice = (
                f"Released protocols name this teacher. Take the file back; other values go to {next_version(name)}."
            )
            findings.append(Finding("lock-teacher", str(file), f"{message}. {advice}"))
    return findings


def moved_canaries(name: str, lock: Lock) -> list[Finding]:
    """Canaries of one protocol whose run comes to something else."""
    from bench.lock.canary import run

    findings = []
    for number, canary in enumerate(lock.protocols[name].canaries, 1):
        where = f"{name}, canary {number} ({describe(canary)})"
        try:
            outcome = run(Recipe.model_validate(canary.recipe), canary.teachers)
        except Exception as error:  # an engine that was changed may fail in any way
            findings.append(Finding("lock-canary", where, f"{type(error).__name__}: {error}\n{MOVED}."))
            continue
        epochs = zip(canary.losses, outcome.losses, strict=False)
        pairs = [
            *((f"epoch {number}", "losses", *both) for number, both in enumerate(epochs, 1)),
            ("the test loss", "test_loss", canary.test_loss, outcome.test_loss),
            ("the norm of the weights", "weights", canary.weights, outcome.weights),
        ]
        limits = [(at, was, present, lock.tolerance[kind]) for at, kind, was, present in pairs]
        off = [each for each in limits if not abs(each[2] - each[1]) <= each[3] * abs(each[1])]
        if len(canary.losses) != len(outcome.losses):
            message = f"it trains for {len(outcome.losses)} epochs, not {len(canary.losses)}"
            findings.append(Finding("lock-canary", where, f"{message}. {MOVED}."))
        elif off:
            at, was, present, tolerance = off[0]
            message = f"{at}: expected {was:.10g}, found {present:.10g} (tolerance {tolerance:g} of it)"
            findings.append(Finding("lock-canary", where, f"{message}. {MOVED}."))
    return findings


def describe(canary: Canary) -> str:
    """A canary's structure in a few words."""
    recipe = Recipe.model_validate(canary.recipe)
    return f"{recipe.labels}, {recipe.loss.name}, {recipe.optimizer.name}, {recipe.schedule.name}, {recipe.augment.mix}"


def moved_networks(lock: Lock) -> list[Finding]:
    """Networks of libraries that no longer start from the same weights."""
    from bench.lock.canary import network

    findings = []
    for name, was in lock.networks.items():
        present = network(name)
        worst = max((abs(a - b) for a, b in zip(was, present, strict=False)), default=0.0)
        if len(was) != len(present) or not worst <= lock.tolerance["networks"] * max(map(abs, was)):
            message = f"freshly initialised, its logits differ by {worst:.3g} from those that the lock holds"
            findings.append(Finding("lock-network", name, f"{message}. {MOVED}."))
    return findings


def everything(lock: Lock, path: Path = locks.PATH) -> list[Finding]:
    """All that differs from the lock, each once: protocols share teachers.

    Changed defaults stand alone: digests leave defaults out, so that under others every unedited file looks edited.
    """
    if findings := changed_defaults(lock, path):
        return findings
    for name in lock.protocols:
        findings += changed_protocol(name, lock, path) or moved_canaries(name, lock)
    return list(dict.fromkeys([*findings, *moved_networks(lock)]))
