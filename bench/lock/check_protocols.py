"""`check protocols`: every protocol file held to its schema, to what it names, to the errata and to the lock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from bench.errors import UserError
from bench.finding import Finding, Severity
from bench.lock import differences, errata, lock_file
from bench.plugins.registry import Registry
from bench.plugins.spec import parse as parse_spec
from bench.protocol.definition import Protocol, defaults, find_in, parse
from bench.protocol.inherit import beside, resolved
from bench.protocol.miniature import all_cells
from bench.protocol.recipe import Recipe
from bench.protocol.toml_file import read_toml
from bench.training.networks import build_network

TRIED = 224  # pixels, at which a student that a protocol names must be buildable


@dataclass(frozen=True)
class CheckedProtocols:
    """Findings on the protocol files, and how much was looked at."""

    broken: tuple[Finding, ...]  # differences from the lock
    findings: tuple[Finding, ...]  # all else
    summary: str


def check_protocols(registry: Registry) -> CheckedProtocols:
    """All findings on the protocols of a registry, on the lock and on the errata."""
    present = lock_file.read()
    broken = differences.everything(present)
    findings: list[Finding] = []
    cells = 0
    for name in registry.protocol_names():
        file, text = registry.protocol_file(name)
        findings += check_file(file, registry, lock_file.PATH, text)
        cells += _count_cells(file, text, registry)
    try:
        errata.read(lock_file.PATH.with_name("errata.toml"))
    except UserError as error:
        findings.append(Finding("errata-form", "protocols/errata.toml", str(error)))
    summary = f"{len(registry.protocol_names())} protocols, {cells} cells; {lock_file.lock_summary(present)}"
    return CheckedProtocols(tuple(broken), tuple(findings), summary)


def _count_cells(file: Path, text: str, registry: Registry) -> int:
    try:
        return sum(1 for _ in all_cells(parse(file.stem, read_toml(file, text), file, find=find_in(registry))))
    except UserError:
        return 0  # told by check_file


def check_file(
    file: Path, registry: Registry, lock_path: Path = lock_file.PATH, text: str | None = None
) -> list[Finding]:
    """All that is wrong with one protocol file, the lock's digests and canaries aside.

    Args:
        file: NAME.toml; one that does not lie beside the lock is somebody's own, and may leave values to their default.
        registry: the networks that it may name.
        lock_path: of lock.json; errata.toml and teachers/ lie beside it.
        text: of the file, if it was read before.
    """
    try:
        find = beside(file, read_toml) if file.parent == lock_path.parent else find_in(registry)
        content, _ = resolved(read_toml(file, text), file, find)
        protocol = parse(file.stem, read_toml(file, text), file, find=find)
    except UserError as error:
        return [Finding("protocol-form", str(file), str(error))]
    return [
        *_left_out(protocol, content, lock_path),
        *_source(protocol),
        *_teachers(protocol, lock_path),
        *_students(protocol, registry),
        *_status(protocol, lock_path),
    ]


def _left_out(protocol: Protocol, content: dict[str, Any], lock_path: Path) -> Iterator[Finding]:
    left = list(left_to_default(Recipe, content["recipe"], "recipe"))
    if left:
        # A field that came after the release changes no digest, so an old file may go without it.
        old = protocol.path.parent != lock_path.parent or protocol.name in lock_file.released(lock_path)
        message = (
            f"left to the default: {', '.join(left)}. Write every value down, so that the file tells all that is fixed."
        )
        yield Finding("left-to-default", str(protocol.path), message, "warning" if old else "error")


def left_to_default(model: type[BaseModel], given: Any, at: str) -> Iterator[str]:
    """Dotted names of the values that a table does not write down, in every branch of `by` tables."""
    if "by" in given:
        for key, inner in given.items():
            if key != "by":
                yield from left_to_default(model, inner, f"{at}.{key}")
        return
    for key, default in defaults(model).items():
        if key not in given:
            yield f"{at}.{key}"
        elif isinstance(default, type):
            yield from left_to_default(default, given[key], f"{at}.{key}")


def _source(protocol: Protocol) -> Iterator[Finding]:
    if not protocol.source.strip():
        yield Finding("no-source", str(protocol.path), "source is empty: say which paper or code the values come from.")


def _teachers(protocol: Protocol, lock_path: Path) -> Iterator[Finding]:
    folder = lock_path.parent / "teachers"
    for name in differences.teacher_names(protocol):
        file = folder / f"{name}.toml"
        if not file.is_file():
            there = ", ".join(sorted(path.stem for path in folder.glob("*.toml")))
            yield Finding("unknown-teacher", str(protocol.path), f"there is no {file}. Teacher recipes: {there}.")
            continue
        try:
            differences.teacher_digest(file)
        except UserError as error:
            yield Finding("teacher-form", str(file), str(error))


def _students(protocol: Protocol, registry: Registry) -> Iterator[Finding]:
    for name in sorted(set(_named_students(protocol.values))):
        try:
            spec = parse_spec(registry, "network", name)
            with torch.device("meta"):  # shapes only: nothing is computed
                build_network(spec, channels=3, size=TRIED, classes=10, seed=0)
        except UserError as error:
            yield Finding("unknown-student", str(protocol.path), str(error))


def _named_students(values: dict[str, Any]) -> Iterator[str]:
    """Students that the file names: the default ones, and keys of `by = "student"` tables."""

    def leaves(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from leaves(inner) if key != "by" else ()
        else:
            yield value

    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if value.get("by") == "student":
                yield from (key for key in value if key not in ("by", "default"))
            for inner in value.values():
                yield from keys(inner)

    yield from leaves(values["student"])
    # `timm` alone stands for every model of the library.
    yield from (key for key in keys(values["recipe"]) if key not in ("timm", "torchvision"))


def _status(protocol: Protocol, lock_path: Path) -> Iterator[Finding]:
    where = str(protocol.path)
    withdrawal = errata.withdrawn(protocol.name, protocol.digest, lock_path.with_name("errata.toml"))
    if withdrawal is not None:
        # The file of a released one has to stay, so it is no error that it is there: only that somebody uses it.
        severity: Severity = "warning" if protocol.name in lock_file.released(lock_path) else "error"
        yield Finding("withdrawn", where, f"withdrawn on {withdrawal.date}: {withdrawal.reason}", severity)
    if protocol.path.parent != lock_path.parent:
        yield Finding("unofficial", where, "no protocol of this project: its results are unofficial.", "note")
    elif protocol.name not in lock_file.released(lock_path):
        message = f"not released yet: its results are unofficial. condensebench lock --release {protocol.name}"
        yield Finding("not-released", where, message, "warning")
