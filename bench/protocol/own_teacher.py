"""Teachers of the user's choice in place of a protocol's own: `NAME:teacher=NAME`, or `NAME:teacher=DIGEST`.

A recipe that the project ships goes by its name. One that the user gives goes by the digest of what it says: network,
normalisation, training or weights. Where its file or its weights lie, and what the file is called, is no part of it.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from bench.errors import UserError, unknown
from bench.fingerprint import digest
from bench.places import expanded
from bench.plugins.registry import ROOT, Registry
from bench.protocol.options import Options
from bench.protocol.toml_file import read_toml

FOLDER = ROOT / "protocols" / "teachers"
TEXTS = {"title", "source", "notes"}
DIGITS = 12  # of the digest that stand in the name of a protocol


def content_digest(path: Path, text: str) -> str:
    """The first digits of the sha256 of what a recipe says; of weights in a file, their sha256 counts. Raises UserError
    for a syntax error."""
    kept = {key: value for key, value in read_toml(path, text).items() if key not in TEXTS}
    if str(kept.get("weights", "")).startswith("file:"):
        kept["weights"] = "file"
    return digest(kept)[:DIGITS]


def add_teacher_file(registry: Registry, option: str, text: str) -> str:
    """Register a recipe's file that an option names; returns the recipe's name. Raises UserError."""
    path = expanded(text)
    if not os.path.isfile(path):
        raise UserError(f"{option} {text}: there is no such file.")
    registry.add_teacher(path.absolute())
    return path.stem


def canonical_teacher(registry: Registry, name: str) -> str:
    """The one spelling of a teacher: the name of a recipe that ships, the digest of one that was given as a file.

    Raises:
        UserError: no such recipe is known here.
    """
    given = {each: content_digest(*file) for each in registry.teacher_names() if (file := registry.teacher_file(each))}
    shipped = sorted(path.stem for path in FOLDER.glob("*.toml"))
    if name in given:
        return given[name]
    if name in shipped or name in given.values():
        return name
    if re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", name):
        raise UserError(
            f"teacher={name}: no teacher recipe that is known here has this digest. Name its file: --plugin FILE.toml."
        )
    raise UserError(unknown("teacher recipe", name, [*given, *shipped]))


def given_file(registry: Registry, name: str) -> tuple[Path, str] | None:
    """Path and text of a recipe that was given as a file, by its name or the digest of what it says."""
    for each in registry.teacher_names():
        file = registry.teacher_file(each)
        if file is not None and name in (each, content_digest(*file)):
            return file
    return None


def with_canonical_teacher(registry: Registry, options: Options) -> Options:
    """The options of a protocol, a teacher that they name in its one spelling. Raises UserError."""
    values = []
    for key, value in options.values:
        if key == "teacher":
            spelt = [canonical_teacher(registry, each) for each in ([value] if isinstance(value, str) else value)]
            value = spelt[0] if isinstance(value, str) else spelt
        values.append((key, value))
    return replace(options, values=tuple(values))
