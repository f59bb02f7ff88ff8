"""Pages of thousands of rows: how large they are, and how much work a browser has with them."""

from __future__ import annotations

from itertools import islice, product
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from tests.worlds.browser import Browser, browser
from tests.worlds.records import cell

__all__ = ["browser"]

CODES = [("none", None), *product(("svd", "pq", "klt", "rpca", "lpld"), ("10x", "30x", "100x"))]


def write_rows(folder: Path, count: int) -> Path:
    """Rows of three replicates each, in tables of up to 400 rows."""
    every = product(range(1, 40), ("digits", "mnist5k", "glyphs"), range(25), CODES)
    lines = []
    for number, (ipc, dataset, method, (compressor, budget)) in enumerate(islice(every, count)):
        size = 22_500_000 // (1 + number % 7)
        labels = {"total": size, "shared": 0, "blobs": size - 25_000, "views": 25_000}
        names = {"method": f"m{method}", "dataset": dataset, "compressor": compressor, "budget": budget, "ipc": ipc}
        records = cell(0.3 + 1e-5 * (number % 5000), 3, seed=number % 97, bytes_labels=labels, **names)
        lines += [record.line() for record in records]
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("count", "seconds", "megabytes"), [(2_000, 2.0, 15), (20_000, 10.0, 150)])
def test_thousands_of_rows_open(browser: Browser, tmp_path: Path, count: int, seconds: float, megabytes: float) -> None:
    (tmp_path / "results").mkdir()
    results = write_rows(tmp_path / "results", count)
    site = tmp_path / "site"
    arguments = ["report", "--results", str(results), "--out", str(site), "--store", str(tmp_path / "store")]
    answer = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert f"{count} rows" in answer.output
    size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) / 1e6
    assert size < megabytes
    spent = {}
    for page in ("index.html", "plots.html", "pictures.html", "checks.html"):
        with browser.open(site / page, work=True) as watched:
            if page == "index.html":
                watched.page.locator("#board tbody tr").first.wait_for()
                assert "rows" in watched.page.locator("#count").inner_text()
            spent[page] = watched.work()
    print(f"{count} rows: {size:.1f} MB, seconds of work to open: {spent}")
    assert max(spent.values()) < seconds, spent
