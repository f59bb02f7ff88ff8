"""Writes the website: a folder that opens from the disk, without a server and without any request to elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2

from bench.errors import UserError
from bench.reports.leaderboard.page import render
from bench.texts import visible
from bench.website import chart_data, charts, details, evidence, pictures, tables, vendored
from bench.website.bibtex import bibliography
from bench.website.encoding import part, script
from bench.website.gallery.gallery import MOST_BYTES, Gallery, gallery
from bench.website.material import Material

MARK = "condensebench-report.json"  # what tells a folder that this program wrote, and may write anew
# Nothing is loaded but the files of the folder. Vega computes its expressions by an interpreter: no eval.
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file: 'unsafe-inline'; "
    "img-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'"
)
Add = Callable[[str, str | bytes], None]  # writes a file of the site: its name, its content


@dataclass(frozen=True)
class Page:
    """One HTML file of the site."""

    file: str
    title: str
    scripts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)  # of its template


@dataclass(frozen=True)
class Wishes:
    """What a site shows beside its records, and how."""

    title: str  # above every page
    command: str  # that makes the site again
    store: Path  # where teachers may lie
    claims: Sequence[str] = ()  # files
    pictures: Sequence[str] = ()  # folders
    figures: bool = False  # every plot as SVG and PNG too


def write(material: Material, out: Path, wishes: Wishes) -> list[Path]:
    """Write all pages, and return the files that were written.

    Args:
        material: what the pages show.
        out: the folder; an earlier site in it is replaced.
        wishes: what else they show.

    Raises:
        UserError: `out` is a folder with something else in it, or pictures or claims cannot be read.
    """
    pictured = pictures.pictures(wishes.pictures, material)
    weighed = evidence.claims(wishes.claims, material)
    kept = gallery(material, wishes.store)
    _make_room(out)
    written = []

    def add(name: str, content: str | bytes) -> None:
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        written.append(path)

    add(MARK, "{}\n")  # first: what a crash leaves behind is known as this program's
    for picture in pictured:
        add(f"pictures/{picture.name}", picture.file.read_bytes())
    pages = [
        _leaderboard(material, kept, add),
        _plots([*chart_data.groups(material), *kept.plots], add, wishes.figures),
        _pictures(pictured, kept, add),
        _checks(material, weighed, wishes.store),
    ]
    add("assets/LICENSES.txt", vendored.licences())
    for name, text in _static().items():
        add(f"assets/{name}", text)
    for page, text in _rendered(pages, material, wishes).items():
        add(page, text)
    return written


def _leaderboard(material: Material, kept: Gallery, add: Add) -> Page:
    """The page of the tables, its data, and what stands behind their numbers."""
    script_, style = vendored.datatables()
    add("assets/datatables.js", script_)
    add("assets/datatables.css", style)
    add("data/leaderboard.csv", render(material.frame, "csv"))
    rows = list(material.rows)
    chunk_of = {tables.row_key(row): name for name, members in details.chunks(rows).items() for row in members}
    board = {**tables.data(material, chunk_of), "bibtex": vars(bibliography(material.registry))}
    add("data/leaderboard.js", script("window.LEADERBOARD", board))
    for name, content in details.files(rows, material.registry, kept.address_of):
        add(f"data/{name}.js", part("DETAILS", name, content))
    scripts = ("assets/datatables.js", "data/leaderboard.js", "assets/exports.js", "assets/details.js")
    return Page("index.html", "Leaderboard", (*scripts, "assets/leaderboard.js"), ("datatables.css",))


def _plots(groups: Sequence[chart_data.Group], add: Add, figures: bool) -> Page:
    """The page of the plots, and their data."""
    add("assets/vega.js", vendored.vega())
    index = []
    for number, group in enumerate(groups):
        file = f"plots-{number}"
        add(f"data/{file}.js", part("PLOTS", group.key, chart_data.pooled(group)))
        names = {"key": group.key, "title": group.title, "dataset": group.dataset, "file": file}
        index.append({**names, "weight": sum(len(chart.spec["data"]["values"]) for chart in group.charts)})
        if figures:
            for chart in group.charts:
                for suffix, content in charts.drawn(chart).items():
                    add(f"plots/{chart.key}-{group.key}.{suffix}", content)
    config = {theme: charts.config(theme) for theme in ("light", "dark")}
    add("data/plots.js", script("window.PLOT_INDEX", {"groups": index, "config": config}))
    return Page("plots.html", "Plots", ("assets/vega.js", "data/plots.js", "assets/plots.js"))


def _pictures(pictured: Sequence[pictures.Pictured], kept: Gallery, add: Add) -> Page:
    """The page of the condensed sets, and their data."""
    for name, content in kept.files.items():
        add(name, content)
    add("data/gallery.js", script("window.GALLERY_INDEX", kept.index))
    values = {"pictures": pictured, "gallery": kept, "most_megabytes": MOST_BYTES // 10**6}
    return Page("pictures.html", "Pictures", ("data/gallery.js", "assets/pictures.js"), values=values)


def _checks(material: Material, weighed: Sequence[Mapping[str, Any]], store: Path) -> Page:
    """The page of claims and checks."""
    values = {
        "claims": weighed,
        "rules": evidence.rules(),
        "checks": evidence.checks(material),
        "disagreements": [
            {"kind": case.kind, "trial": visible(case.trial), "text": visible(case.text), "places": case.places}
            for case in material.disagreements
        ],
        "conflicts": sum(case.kind == "conflict" for case in material.disagreements),
        "lock": evidence.locked(material),
        "teachers": evidence.teachers(material, store),
    }
    return Page("checks.html", "Claims and checks", values=values)


def _make_room(out: Path) -> None:
    """Remove an earlier site; leave alone what is none."""
    if not out.exists():
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    if not (out / MARK).is_file():
        raise UserError(
            f"--out {out}: there is something else than a site that this command wrote. Name a new folder, for "
            "instance --out site, or remove this one first."
        )
    for folder in ("assets", "data", "plots", "pictures"):
        shutil.rmtree(out / folder, ignore_errors=True)
    for file in out.glob("*.html"):
        file.unlink()


def _static() -> dict[str, str]:
    """The files of `static/` by name."""
    folder = resources.files("bench.website") / "static"
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.is_file()}


def _rendered(pages: Sequence[Page], material: Material, wishes: Wishes) -> dict[str, str]:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bench.website", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    newest = max((record.finished for record in material.records), default="")[:10]
    site = {
        "title": visible(wishes.title),
        "records": sum(len(source.loaded) for source in material.sources),
        "trials": len(material.records),
        "tables": len(tables.board_tables(material.rows)),
        "newest": newest or "no day",
        "command": visible(wishes.command),
        "version": metadata.version("condensebench"),
    }
    return {
        page.file: environment.get_template(page.file).render(
            page=page, pages=pages, site=site, policy=POLICY, **page.values
        )
        for page in pages
    }
