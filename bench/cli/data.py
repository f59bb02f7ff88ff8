"""The verb `data`: which data sets are here, where they lie, how to get the others, and whether they are the published
ones. `run` never uses a network; `data get` does."""

from __future__ import annotations

import click

from bench.cli.options import CACHE_LIMIT, DATA, PLUGIN, STORE

GROUP = "look"


@click.group(invoke_without_command=True)
@DATA
@click.pass_context
def command(context: click.Context) -> None:
    """Data sets: list them, get one, check one.

    \b
    condensebench data                        every data set: where it lies, how large it is, or how to get it
    condensebench data get cifar10            download it, with its checksum
    condensebench data check cifar10          is it the published one?
    condensebench data decode imagenette      decode its photographs now, not in the first run
    """
    if context.invoked_subcommand is None:
        context.invoke(list_sets)


@command.command("list")
@DATA
def list_sets() -> None:
    """List every data set: where it lies and how large it is, or how to get it."""
    from rich.console import Console

    from bench.studies.data_sets.inventory import inventory
    from bench.texts import visible

    console = Console(soft_wrap=True, highlight=False, markup=False)
    for line in inventory():
        console.print(visible(line))


@command.command()
@click.argument("name")
@DATA
def get(name: str) -> None:
    """Download a data set into the first data folder (--data, $CONDENSEBENCH_DATA, or ./data)."""
    from bench.studies.data_sets.download import download

    click.echo(f"{name}: {download(name, report=click.echo)}")


@command.command("check")
@click.argument("name")
@DATA
def check_set(name: str) -> None:
    """Read a data set whole and compare it with what was released. Exit code 1 where it differs."""
    from bench.studies.data_sets.inventory import compare

    lines, same = compare(name)
    click.echo("\n".join(lines))
    raise SystemExit(int(not same))


@command.command()
@click.argument("name")
@STORE
@DATA
@CACHE_LIMIT
@PLUGIN
def decode(name: str, store: str | None, plugins: tuple[str, ...]) -> None:
    """Decode the photographs of a data set into the store, on all cores. The first run that reads a split whole would
    do it else. Where it was interrupted, the same command continues."""
    from rich.console import Console
    from rich.progress import Progress

    from bench.studies.data_sets.decode import pixels_to_decode

    console = Console(soft_wrap=True, highlight=False, markup=False)
    for split in pixels_to_decode(name, store, plugins):
        console.print(split.title)
        if split.bytes:
            with Progress(console=console) as progress:
                task = progress.add_task(split.name, total=len(split.source))
                split.source.prepare(lambda count, task=task, bar=progress: bar.advance(task, count))  # type: ignore[misc]
