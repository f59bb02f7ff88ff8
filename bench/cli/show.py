"""The verb `show`: all that is known of a name. No plugin is imported."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import JSON, PLUGIN
from bench.errors import UserError, unknown

if TYPE_CHECKING:
    from bench.plugins.registry import Plugin
    from bench.protocol.definition import Protocol

GROUP = "look"


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--side-by-side", is_flag=True, help="Protocols as a table of what differs between them.")
@click.option("--dataset", help="With --side-by-side: the values for this data set.")
@click.option(
    "--ipc", type=click.IntRange(1, 10**6), help="With --side-by-side: the values for so many images a class."
)
@click.option("--student", help="With --side-by-side: the values for this student.")
@click.option("--classes", type=click.IntRange(2, 10**6), help="With --side-by-side: classes of the data set.")
@PLUGIN
@JSON
def command(
    names: tuple[str, ...],
    side_by_side: bool,
    dataset: str | None,
    ipc: int | None,
    student: str | None,
    classes: int | None,
    plugins: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show names: description, parameters with defaults, source and file; of a protocol every fixed value.

    A protocol may have other values behind a colon, such as small-soft-v1:recipe.batch=100.
    """
    at = {"dataset": dataset, "ipc": ipc, "student": student, "classes": classes}
    given = {key: value for key, value in at.items() if value is not None}
    if side_by_side:
        from bench.plugins.registry import discover
        from bench.protocol import definition
        from bench.reports.printers import printed
        from bench.reports.side_by_side import side_by_side as compared

        registry = discover(plugins)
        page = compared([definition.load(registry, name) for name in names], given)
        click.echo(printed(page, "json" if as_json else "text"))
        return
    if given:
        raise UserError(f"show: {', '.join(f'--{key}' for key in given)} goes with --side-by-side alone.")
    known = [details(name, plugins) for name in names]
    if as_json:
        click.echo(json.dumps(known[0] if len(known) == 1 else known, indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join(map(details_text, known)))


def details(name: str, plugin_files: Iterable[str]) -> dict[str, Any]:
    """All that is known of a name, whatever its kind. Raises UserError with the nearest names."""
    from bench.plugins.registry import discover
    from bench.protocol import definition

    registry = discover(plugin_files)
    plain = name.partition(":")[0]
    matches = [
        _plugin_details(kind, registry.get(kind, plain))
        for kind in ("method", "compressor", "dataset", "network")
        if plain in registry.names(kind)
    ]
    if plain in registry.protocol_names():
        matches.append(_protocol_details(definition.load(registry, name)))
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
        **({"extends": list(fixed.parents), "written in the file": list(fixed.written)} if fixed.parents else {}),
        **fixed.values,
        "source": fixed.source.strip(),
        "notes": fixed.notes.strip(),
        "file": _place(fixed.path),
        "digest": fixed.digest,
    }


def _place(path: Path) -> str:
    from bench.plugins.registry import ROOT

    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def details_text(known: dict[str, Any]) -> str:
    """Key by key; nested values indented."""
    if "matches" in known:
        return "\n\n".join(details_text(match) for match in known["matches"])
    head = f"{known['name']} ({known['kind']}): {known['description']}"
    rest = {k: v for k, v in known.items() if k not in ("name", "kind", "description") and v not in ("", {}, [])}
    if known["kind"] != "protocol" and not known["parameters"]:
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
