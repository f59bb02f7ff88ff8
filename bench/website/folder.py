"""Writes the website: a folder that opens from the disk, without a server and without any request to elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2

from bench.errors import UserError
from bench.reports.leaderboard.page import render
from bench.website import bibtex, details, tables, vendored
from bench.website.encoding import script, visible
from bench.website.material import Material

MARK = "condensebench-report.json"  # what tells a folder that this program wrote, and may write anew
# Nothing is loaded but the files of the folder. Vega computes its expressions by an interpreter: no eval.
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file: 'unsafe-inline'; "
    "img-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Page:
    """One HTML file of the site."""

    file: str
    title: str
    scripts: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)  # of its template


def write(material: Material, out: Path, *, title: str, command: str) -> list[Path]:
    """Write all pages, and return the files that were written.

    Raises:
        UserError: `out` is a folder with something else in it.
    """
    _make_room(out)
    files = {
        "assets/LICENSES.txt": vendored.licences(),
        "data/leaderboard.csv": render(material.frame, "csv"),
        "data/leaderboard.json": render(material.frame, "json"),
        **{f"assets/{name}": text for name, text in _static().items()},
    }
    files["assets/datatables.js"], files["assets/datatables.css"] = vendored.datatables()
    rows = list(material.rows)
    chunk_of = {tables.row_key(row): name for name, members in details.chunks(rows).items() for row in members}
    board = {**tables.data(material, chunk_of), "bibtex": bibtex.entries(material.registry)}
    files["data/leaderboard.js"] = script("window.LEADERBOARD", board)
    for name, content in details.files(rows, material.registry):
        files[f"data/{name}.js"] = "window.DETAILS = window.DETAILS || {};\n" + script(
            f"DETAILS[{json.dumps(name)}]", content
        )
    pages = [
        Page(
            "index.html",
            "Leaderboard",
            (
                "assets/datatables.js",
                "data/leaderboard.js",
                "assets/exports.js",
                "assets/details.js",
                "assets/leaderboard.js",
            ),
            ("datatables.css",),
        )
    ]
    files |= _pages(pages, material, len(board["tables"]), title, command)
    written = []
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    (out / MARK).write_text(json.dumps({"files": sorted(files)}, indent=1) + "\n", encoding="utf-8")
    return written


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


def _pages(pages: list[Page], material: Material, count: int, title: str, command: str) -> dict[str, str]:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bench.website", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    newest = max((record.finished for record in material.records), default="")[:10]
    site = {
        "title": visible(title),
        "records": sum(len(source.loaded) for source in material.sources),
        "trials": len(material.records),
        "tables": count,
        "newest": newest or "no day",
        "command": visible(command),
        "version": metadata.version("condensebench"),
    }
    return {
        page.file: environment.get_template(page.file).render(
            page=page, pages=pages, site=site, policy=POLICY, **page.values
        )
        for page in pages
    }
