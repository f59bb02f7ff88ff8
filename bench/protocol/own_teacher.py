"""A teacher of the user's choice in place of a protocol's own: `NAME:teacher=DIGEST`.

The digest is that of what the teacher's recipe says: network, normalisation, training or weights. Where the recipe's
file or its weights lie, and what the file is called, is no part of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError, unknown
from bench.fingerprint import digest
from bench.plugins.registry import ROOT, Registry

FOLDER = ROOT / "protocols" / "teachers"
TEXTS = {"title", "source", "notes"}
DIGITS = 12  # of the digest that stand in the name of a protocol


@dataclass(frozen=True)
class OwnTeacher:
    """A teacher recipe by name, and the digest of what it says."""

    name: str
    digest: str

    @property
    def short(self) -> str:
        """The digest as the name of a protocol holds it."""
        return self.digest[:DIGITS]


def own_teacher(registry: Registry, name: str) -> OwnTeacher:
    """The teacher of a recipe: one that was given as a file, else one that the project ships. Raises UserError."""
    for known in _names(registry):
        if known == name:
            return OwnTeacher(name, content_digest(*_file(registry, name)))
    raise UserError(unknown("teacher recipe", name, list(_names(registry))))


def add_teacher_file(registry: Registry, option: str, text: str) -> str:
    """Register a recipe's file that an option names; returns the recipe's name. Raises UserError."""
    path = Path(text).expanduser()
    if not path.is_file():
        raise UserError(f"{option} {text}: there is no such file.")
    registry.add_teacher(path.resolve())
    return path.stem


def teacher_of_digest(registry: Registry, short: str) -> OwnTeacher:
    """The teacher whose recipe has this digest. Raises UserError where no recipe that is known here has it."""
    for name in _names(registry):
        teacher = OwnTeacher(name, content_digest(*_file(registry, name)))
        if teacher.short == short:
            return teacher
    raise UserError(
        f"teacher={short}: no teacher recipe that is known here has this digest. Name its file: --plugin FILE.toml."
    )


def content_digest(path: Path, text: str) -> str:
    """Hex sha256 of what a recipe says; of weights in a file, of their sha256. Raises UserError for a syntax error."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from None
    kept = {key: value for key, value in content.items() if key not in TEXTS}
    if str(kept.get("weights", "")).startswith("file:"):
        kept["weights"] = "file"
    return digest(kept)


def _names(registry: Registry) -> Iterator[str]:
    yield from registry.teacher_names()
    yield from sorted(path.stem for path in FOLDER.glob("*.toml"))


def _file(registry: Registry, name: str) -> tuple[Path, str]:
    path = FOLDER / f"{name}.toml"
    return registry.teacher_file(name) or (path, path.read_text(encoding="utf-8"))
