"""The verb `list`: what there is, by kind. No plugin is imported."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from bench.cli.options import JSON, PLUGIN

GROUP = "look"
KINDS = {
    "methods": "method",
    "compressors": "compressor",
    "datasets": "dataset",
    "protocols": "protocol",
    "students": "network",
}


@click.command()
@click.argument("kind", required=False, type=click.Choice(list(KINDS)))
@PLUGIN
@JSON
def command(kind: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List methods, compressors, datasets, protocols and students."""
    entries = listing([kind] if kind else list(KINDS), plugins)
    click.echo(json.dumps(entries, indent=2, ensure_ascii=False) if as_json else listing_text(entries))


def listing(kinds: Sequence[str], plugin_files: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """For each kind (plural, as on the command line): name, description, parameters."""
    from bench.lock.lock_file import released
    from bench.plugins.registry import discover
    from bench.protocol import definition

    registry = discover(plugin_files)
    entries: dict[str, list[dict[str, Any]]] = {}
    for kind in kinds:
        if kind == "protocols":
            fixed = [definition.load(registry, name) for name in registry.protocol_names()]
            official = released()
            entries[kind] = [
                {
                    "name": p.id,
                    "description": p.title,
                    "labels": list(p.regimes),
                    "released": official.get(p.id) == p.digest,
                }
                for p in fixed
            ]
        else:
            entries[kind] = [
                {"name": p.name, "description": p.description, "parameters": dict(p.parameters)}
                for p in registry.all(KINDS[kind])
            ]
    return entries


def listing_text(entries: dict[str, list[dict[str, Any]]]) -> str:
    """A heading for each kind, a line for each name."""
    blocks = []
    for kind, members in entries.items():
        width = max((len(e["name"]) for e in members), default=0)
        lines = [f"  {e['name']:<{width}}  {e['description']}{_unofficial(e)}" for e in members]
        blocks.append("\n".join([kind, *(lines or ["  (none)"])]))
    return "\n\n".join(blocks) + "\n\ncondensebench show NAME tells more."


def _unofficial(entry: dict[str, Any]) -> str:
    return "" if entry.get("released", True) else " (not released)"
