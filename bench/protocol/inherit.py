"""Protocols that build on each other: `extends = "edc-v1"`, and only what differs is written.

The merge is of files, before anything is checked, so that a protocol that inherits its values is the same protocol as
a copy that writes them down: the digest is of the resolved values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import UserError

EXTENDS = "extends"
NOT_INHERITED = frozenset({"title", "source", "notes", EXTENDS})
Find = Callable[[str], tuple[Path, dict[str, Any]]]  # name of a protocol -> its file and content. Raises UserError


def resolved(content: dict[str, Any], path: Path, find: Find) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The content of a file with everything that it inherits, and the names of its parents, the nearest first.

    Args:
        content: of the file.
        path: of the file, for messages.
        find: where parents are.

    Raises:
        UserError: a parent is not known, or a file extends itself.
    """
    chain, files, whole, owner = list[str](), [path], content, path
    while EXTENDS in whole:
        parent = whole[EXTENDS]
        if not isinstance(parent, str) or not parent or ":" in parent:
            raise UserError(f"{owner}: {EXTENDS} = {parent!r} must be the name of one protocol, such as 'edc-v1'.")
        try:
            owner, inherited = find(parent)
        except UserError as error:
            raise UserError(f"{owner}: {EXTENDS} = '{parent}': {error}") from None
        if owner in files:
            circle = " -> ".join(file.name for file in (*files, owner))
            raise UserError(f"{path}: {EXTENDS} goes in a circle: {circle}.")
        chain.append(parent)
        files.append(owner)
        changes = {key: value for key, value in whole.items() if key != EXTENDS}
        kept = {key: value for key, value in inherited.items() if key not in NOT_INHERITED or key == EXTENDS}
        whole = merged(kept, changes)
    return whole, tuple(chain)


def merged(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `parent` with those of `child` in their place.

    Tables are merged key by key. A table with `by` in the child replaces the parent's value as a whole. Where the
    parent has a part by data set, such as an optimiser, and the child a plain part, the child's values go into every
    branch.
    """
    whole = dict(parent)
    for key, value in child.items():
        whole[key] = _put(parent.get(key), value)
    return whole


def _put(parent: Any, child: Any) -> Any:
    if not (isinstance(parent, dict) and isinstance(child, dict)) or "by" in child:
        return child
    if "by" not in parent:
        return merged(parent, child)
    return {key: inner if key == "by" else _put(inner, child) for key, inner in parent.items()}


def written_names(content: Mapping[str, Any], at: str = "") -> list[str]:
    """Dotted names of what a file writes itself; a table with `by` is one value."""
    names = list[str]()
    for key, value in content.items():
        if not at and key in NOT_INHERITED:
            continue
        name = f"{at}{key}"
        plain = isinstance(value, dict) and "by" not in value
        names += written_names(value, f"{name}.") if plain else [name]
    return names


def beside(path: Path, read: Callable[[Path], dict[str, Any]]) -> Find:
    """Parents that lie beside a file."""

    def find(name: str) -> tuple[Path, dict[str, Any]]:
        file = path.with_name(f"{name}.toml")
        if not os.path.isfile(file):
            raise UserError(f"there is no file {file}.")
        return file, read(file)

    return find
