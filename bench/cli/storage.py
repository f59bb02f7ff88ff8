"""The verb `storage`: the literature's storage figures, and label sets in every layout."""

from __future__ import annotations

from typing import Any

import click

GROUP = "look"


@click.command()
@click.option("--classes", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("--ipc", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--views", type=click.IntRange(min=1), default=300, show_default=True, help="Stored per image.")
@click.option("--dtype", type=click.Choice(["fp16", "fp32"]), default="fp16", show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=1024, show_default=True, help="Images per stored file.")
@click.option("--topk", type=click.IntRange(min=1), default=10, show_default=True, help="Of LPQLD and FKD.")
@click.option("--factor", type=click.FloatRange(min=1), default=30.0, show_default=True, help="The nominal x.")
@click.option("--format", "format_", type=click.Choice(["text", "md", "json"]), default="text", show_default=True)
def command(factor: float, format_: str, **setting: Any) -> None:
    """Explain the literature's storage figures: what a label set takes in every layout, what "30x" means to whom."""
    from bench.studies.storage.storage_table import Setting, report

    click.echo(report(Setting(**setting), factor, format_))
