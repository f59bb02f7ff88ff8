"""The verb `published`: records beside a published table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from bench.errors import UserError

GROUP = "look"


@click.command()
@click.argument("file", default="results/fashion/published.toml", metavar="[FILE]")
@click.option("--results", metavar="DIR", help="Folder of records [default: FILE's own folder].")
@click.option("--out", metavar="PAGE", help="Write the page instead of printing it.")
def command(file: str, results: str | None, out: str | None) -> int:
    """Hold records to published numbers (a TOML file): a page with every difference and whether it is inside the
    spreads.

    Cells without records stand in the page as not run. Exit code 1 if a line of the records was edited.
    """
    from bench.plugins.registry import discover
    from bench.records.files import Loaded, latest, load
    from bench.reports.published.published_file import read_published
    from bench.reports.published.published_page import page
    from bench.reports.published.published_rows import compare
    from bench.trials.plan import read_plan

    registry = discover()
    published = read_published(file, registry)
    folder = Path(results or Path(file).parent)
    if results and not folder.exists():
        raise UserError(f"no records at {folder}: there is no such file or folder.")
    loaded = load(folder) if folder.is_file() or any(folder.glob("*.jsonl")) else Loaded()
    for note in loaded.notes:
        print(note, file=sys.stderr)
    plan = Path(file).parent / published.plan
    rows, trialled = compare(published, loaded.records, read_plan(plan).trials(registry))
    options = [*(["--results", results] if results else []), *(["--out", out] if out else [])]
    text = page(
        published,
        rows,
        trialled,
        latest(loaded.records),
        command=shlex.join(["condensebench", "published", file, *options]),
        run=shlex.join(["condensebench", "run", "--plan", _plain(plan), "--results", str(folder)]),
    )
    if out:
        Path(out).write_text(text, encoding="utf-8")
        print(f"page: {out}")
    else:
        print(text, end="")
    return int(bool(loaded.tampered))


def _plain(path: Path) -> str:
    """A path without the folders that it goes into and out of again."""
    from os.path import normpath

    return normpath(path)
