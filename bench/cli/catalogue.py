"""What there is: lists and descriptions of plugins and protocols, as data and as text. No plugin is imported."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.lock.lock_file import released
from bench.plugins.registry import ROOT, Plugin, discover, unknown
from bench.protocol import definition
from bench.protocol.definition import Protocol

PLURAL = {
    "methods": "method",
    "compressors": "compressor",
    "datasets": "dataset",
    "students": "network",
    "protocols": "protocol",
}


def listing(kinds: Sequence[str], plugin_files: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """For each kind (plural, as on the command line): name, description, parameters."""
    registry = discover(plugin_files)
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in kinds:
        if kind == "protocols":
            fixed = [definition.load(registry, name) for name in registry.protocol_names()]
            official = released()
            found[kind] = [
                {
                    "name": p.id,
                    "description": p.title,
                    "labels": list(p.regimes),
                    "released": official.get(p.id) == p.digest,
                }
                for p in fixed
            ]
        else:
            found[kind] = [
                {"name": p.name, "description": p.description, "parameters": dict(p.parameters)}
                for p in registry.all(PLURAL[kind])
            ]
    return found


def details(name: str, plugin_files: Iterable[str]) -> dict[str, Any]:
    """All that is known of a name, whatever its kind. Raises UserError with the nearest names."""
    registry = discover(plugin_files)
    plain = name.partition(":")[0]
    matches = [
        _plugin_details(kind, registry.get(kind, plain))
        for kind in ("method", "compressor", "dataset", "network")
        if plain in registry.names(kind)
    ]
    if plain in registry.protocol_names():
        matches.append(_protocol_details(definition.load(registry, plain)))
    if not matches:
        everything = [n for kind in ("method", "compressor", "dataset", "network") for n in registry.names(kind)]
        raise UserError(
            unknown("method, compressor, dataset, student or protocol", name, [*everything, *registry.protocol_names()])
        )
    return matches[0] if len(matches) == 1 else {"name": plain, "matches": matches}


def _plugin_details(kind: str, plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "kind": "student" if kind == "network" else kind,
        "description": plugin.description,
        "parameters": dict(plugin.parameters),
        "source": plugin.constants.get("CITATION", ""),
        "published": plugin.constants.get("PUBLISHED", {}),
        "deviations": plugin.deviations,
        "file": _place(plugin.path),
        "digest": plugin.digest,
    }


def _protocol_details(fixed: Protocol) -> dict[str, Any]:
    return {
        "name": fixed.id,
        "kind": "protocol",
        "description": fixed.title,
        **fixed.values,
        "source": fixed.source.strip(),
        "notes": fixed.notes.strip(),
        "file": _place(fixed.path),
        "digest": fixed.digest,
    }


def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def to_json(found: Any) -> str:
    """Indented JSON."""
    return json.dumps(found, indent=2, ensure_ascii=False)


def listing_text(found: dict[str, list[dict[str, Any]]]) -> str:
    """A heading for each kind, a line for each name."""
    blocks = []
    for kind, entries in found.items():
        width = max((len(e["name"]) for e in entries), default=0)
        lines = [f"  {e['name']:<{width}}  {e['description']}{_unofficial(e)}" for e in entries]
        blocks.append("\n".join([kind, *(lines or ["  (none)"])]))
    return "\n\n".join(blocks) + "\n\ncondensebench show NAME tells more."


def _unofficial(entry: dict[str, Any]) -> str:
    return "" if entry.get("released", True) else " (not released)"


def details_text(found: dict[str, Any]) -> str:
    """Key by key; nested values indented."""
    if "matches" in found:
        return "\n\n".join(details_text(match) for match in found["matches"])
    head = f"{found['name']} ({found['kind']}): {found['description']}"
    rest = {k: v for k, v in found.items() if k not in ("name", "kind", "description") and v not in ("", {}, [])}
    if found["kind"] != "protocol" and not found["parameters"]:
        rest = {"parameters": "(none)", **rest}
    return "\n".join([head, *_indented(rest, 1)])


def _indented(values: dict[str, Any], depth: int) -> Iterable[str]:
    for key, value in values.items():
        pad = "  " * depth
        if isinstance(value, dict):
            yield f"{pad}{key}:"
            yield from _indented(value, depth + 1)
        elif isinstance(value, str) and "\n" in value:
            yield f"{pad}{key}:"
            yield from (f"{pad}  {line}" for line in value.splitlines())
        else:
            yield f"{pad}{key}: {value if isinstance(value, str) else json.dumps(value)}"
