"""Digests: of canonical JSON, and of plugin code.

A code digest ignores comments, formatting and docstrings, and covers the shared code of this project that a plugin
imports, and the files beside it that it imports relatively: what can change a result changes the digest, what cannot
does not.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHARED = ("methods", "protocols")  # packages whose imports belong to a plugin's own code; `bench` has its own version


def canonical(value: Any) -> str:
    """JSON with sorted keys and one spelling for every number: 1 and 1.0 are the same value."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 (hex, 64 characters) of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def source_digest(path: Path, source: str | None = None) -> str:
    """sha256 of the code of a module and of what it imports from this project's shared code."""
    text = source if source is not None else path.read_text(encoding="utf-8")
    entries = {path.name: _code(text)}
    pending = list(_imports(text, path))
    seen: set[Path] = {path}
    while pending:
        file = pending.pop()
        if file not in seen:
            seen.add(file)
            text = file.read_text(encoding="utf-8")
            entries[_place(file, path)] = _code(text)
            pending.extend(_imports(text, file))
    return digest(entries)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _code(source: str) -> str:
    return hashlib.sha256(json.dumps(_tree(ast.parse(source))).encode()).hexdigest()


def _tree(node: Any) -> Any:
    """A syntax tree as JSON without positions, docstrings and empty fields (whose set differs between Pythons)."""
    if isinstance(node, list):
        return [_tree(n) for n in node]
    if not isinstance(node, ast.AST):
        return node if isinstance(node, (str, int, float, bool, type(None))) else [type(node).__name__, repr(node)]
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
    body = fields.get("body")
    documented = isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node)
    if documented and isinstance(body, list):
        fields["body"] = body[1:]
    return [type(node).__name__, {name: _tree(value) for name, value in fields.items()}]


def _place(file: Path, plugin: Path) -> str:
    """The file's name in the digest: the same on every machine."""
    return os.path.relpath(file, ROOT if file.is_relative_to(ROOT) else plugin.parent).replace(os.sep, "/")


def _imports(source: str, path: Path) -> Iterator[Path]:
    """Files of the shared code that `source`, which stands at `path`, imports: by name, or relative to itself."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            near = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            yield from _modules([near, *(near / alias.name for alias in node.names)])
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from _modules([ROOT / name.replace(".", "/") for name in names if name.split(".")[0] in SHARED])


def _modules(bases: Iterable[Path]) -> Iterator[Path]:
    for base in bases:
        for file in (base.parent / f"{base.name}.py", base / "__init__.py"):
            if file.is_file():
                yield file
