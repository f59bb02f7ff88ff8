"""The verb `new`: a working plugin and its test, as a start."""

from __future__ import annotations

from pathlib import Path

import click

GROUP = "extend"


@click.command()
@click.argument("kind", type=click.Choice(["method", "compressor", "dataset", "protocol"]))
@click.argument("name")
@click.option(
    "--kind",
    "does",
    type=click.Choice(["select", "synthesize", "arrays", "files"]),
    help="Of a method: select (the default) or synthesize; of a data set: arrays (the default) or files.",
)
@click.option("--in-tree", is_flag=True, help="Into this project's own folders instead of the current one.")
def command(kind: str, name: str, does: str | None, in_tree: bool) -> None:
    """Write a working plugin and its test into the current folder, to be changed into your own."""
    from bench.plugins.scaffold import scaffold

    start = scaffold(kind, name, does=does, folder=None if in_tree else Path())
    start.write()
    print("\n".join([*(f"wrote {_shown(path)}" for path in start.files), "", "Next:", *start.commands]))


def _shown(path: Path) -> Path:
    from bench.plugins.registry import ROOT

    return path.relative_to(ROOT) if path.is_absolute() and path.is_relative_to(ROOT) else path
