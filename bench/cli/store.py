"""The verb `store`: what lies in a store, and its pruning."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import click

from bench.cli.options import STORE, STORE_LIMIT

GROUP = "look"


@click.group(invoke_without_command=True)
@STORE
@STORE_LIMIT
@click.option("--format", "format_", type=click.Choice(["text", "md", "json"]), default="text", show_default=True)
@click.pass_context
def command(context: click.Context, store: str | None, format_: str) -> None:
    """Show what lies in the store, by kind, size and age.

    \b
    condensebench store                                       what takes the room
    condensebench store expect imagenet-1k                    what a data set will take
    condensebench store prune --results DIR --dry-run         what no record in DIR needs
    condensebench store prune --results DIR                   remove it
    """
    if context.invoked_subcommand is not None:
        return
    from bench.driver.defaults import default_store
    from bench.reports.printers import printed
    from bench.studies.stored.store_contents import contents

    click.echo(printed(contents(Path(store) if store else default_store(), time.time()), format_))


@command.command()
@click.argument("datasets", nargs=-1)
@click.option("--time", "timed", is_flag=True, help="Time, disk and memory of each stage on ImageNet-1K instead.")
@click.option("--format", "format_", type=click.Choice(["text", "md", "json"]), default="text", show_default=True)
def expect(datasets: tuple[str, ...], timed: bool, format_: str) -> None:
    """Say what data sets will take, by arithmetic: disk by what lies where, and memory of a worker."""
    from bench.plugins.registry import discover
    from bench.reports.printers import printed
    from bench.studies.stored.projection import projection
    from bench.studies.stored.real_size import expected

    page = projection(discover(())) if timed else expected(discover(()), datasets)
    click.echo(printed(page, format_).rstrip())


@command.command()
@STORE
@click.option("--results", "results", multiple=True, metavar="DIR", help="Folder of records that count; repeatable.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
def prune(store: str | None, results: tuple[str, ...], dry_run: bool) -> None:
    """Remove what no record needs: condensed sets, labels, teachers and more that only other records were made with.

    Records stay as they are. What is removed is made again where it is needed again.
    """
    from bench.driver.defaults import default_store
    from bench.photographs.cache_limits import shown
    from bench.studies.stored import pruning

    root = Path(store) if store else default_store()
    unneeded = pruning.needless(root, [Path(each) for each in results])
    sizes, counts = Counter[str](), Counter[str]()
    for each in unneeded:
        sizes[each.kind] += each.size
        counts[each.kind] += 1
    for kind, size in sizes.most_common():
        click.echo(f"{kind}: {counts[kind]:,} of them, {shown(size)}")
    if not dry_run:
        pruning.prune(root, unneeded)
    would = "would be removed" if dry_run else "removed"
    click.echo(f"{shown(sum(sizes.values()))} {would} from {root}; {len(results)} folder(s) of records need the rest.")
