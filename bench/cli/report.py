"""The verb `report`: records as a website of one folder."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from bench.cli.options import DATA, PLUGIN, STORE

GROUP = "look"


@click.command()
@click.option(
    "--results",
    "folders",
    multiple=True,
    default=("results/local",),
    show_default=True,
    metavar="DIR",
    help="Folder of the records; repeatable: what several folders have in common counts once.",
)
@click.option("--out", required=True, metavar="SITE", help="Folder of the site, made anew.")
@click.option("--title", default="CondenseBench", show_default=True, help="What stands above every page.")
@click.option("--claims", multiple=True, metavar="FILE", help="A claims file, weighed by these records; repeatable.")
@click.option("--pictures", multiple=True, metavar="DIR", help="Folder of pictures that `picture` drew; repeatable.")
@click.option("--figures", is_flag=True, help="Also write every plot as SVG and PNG, into SITE/plots.")
@STORE
@DATA
@PLUGIN
def command(
    *,
    folders: tuple[str, ...],
    out: str,
    title: str,
    claims: tuple[str, ...],
    pictures: tuple[str, ...],
    figures: bool,
    store: str | None,
    plugins: tuple[str, ...],
) -> int:
    """Make a website of records: leaderboard, plots, pictures, claims and checks, in one folder.

    The folder opens from the disk (SITE/index.html) and works on any static host; it asks nothing of the network.
    Condensed sets and stored labels are shown as far as the store still holds them; nothing is run for them.
    Exit code 1 if a line of the records was edited.
    """
    from bench.driver.defaults import default_store
    from bench.plugins.registry import discover
    from bench.website.folder import Wishes, write
    from bench.website.material import gather

    place = Path(store) if store else default_store()
    material = gather(folders, registry=discover(plugins), store=place)
    for note in (note for source in material.sources for note in source.loaded.notes):
        print(note, file=sys.stderr)
    for case in material.disagreements:
        if case.kind == "conflict":
            print(f"conflict: {case.trial}: {case.text}", file=sys.stderr)
    if others := sum(case.kind != "conflict" for case in material.disagreements):
        what = "have several results, by other code or on other machines; the last one counts"
        print(f"{others} trials {what}: {Path(out) / 'checks.html'}", file=sys.stderr)
    named = {"--results": folders, "--claims": claims, "--pictures": pictures, "--store": (store,) if store else ()}
    options = [part for option, values in named.items() for value in values for part in (option, value)]
    typed = shlex.join(["condensebench", "report", *options, "--out", out])
    files = write(material, Path(out), Wishes(title, typed, place, claims, pictures, figures))
    size = sum(path.stat().st_size for path in files)
    print(f"{len(material.rows)} rows of {len(material.records)} trials, {len(files)} files, {size / 1e6:.1f} MB")
    print(f"open {Path(out) / 'index.html'}")
    return int(material.tampered)
