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


BLANK = """<!doctype html><meta charset="utf-8"><div id="plot"></div><script src="assets/vega.js"></script><script>
const spec = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", data: { values: [{}] }, mark: "point" };
const drawn = () => (document.documentElement.dataset.drawn = "");
vegaEmbed("#plot", spec, { actions: false, renderer: "svg", ast: true }).then(drawn);
</script>"""
OPEN = {
    "blank.html": "html[data-drawn]",
    "index.html": "#board tbody tr",
    "plots.html": "html[data-drawn]",
    "pictures.html": "footer",
    "checks.html": "footer",
}  # page -> what is there once it is open


@pytest.mark.slow
@pytest.mark.parametrize(("count", "seconds", "megabytes"), [(2_000, 2.0, 15), (20_000, 10.0, 150)])
def test_thousands_of_rows_open(browser: Browser, tmp_path: Path, count: int, seconds: float, megabytes: float) -> None:
    """The work is that of the page's thread; a page with one point of Vega's says how fast this machine is now."""
    (tmp_path / "results").mkdir()
    results = write_rows(tmp_path / "results", count)
    site = tmp_path / "site"
    arguments = ["report", "--results", str(results), "--out", str(site), "--store", str(tmp_path / "store")]
    answer = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert f"{count} rows" in answer.output
    size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) / 1e6
    assert size < megabytes
    (site / "blank.html").write_text(BLANK, encoding="utf-8")
    spent = {}
    for page, there in OPEN.items():
        with browser.open(site / page, work=True) as watched:
            watched.page.locator(there).first.wait_for(state="attached")
            if page == "index.html":
                assert "rows" in watched.page.locator("#count").inner_text()
            spent[page] = watched.work()
    blank = spent.pop("blank.html")
    ratios = {page: round(work / blank, 2) for page, work in spent.items()}
    print(f"{count} rows: {size:.1f} MB; seconds of work to open: {spent}; over a page with one point: {ratios}")
    assert max(spent.values()) < seconds, spent
    assert ratios["plots.html"] < 5, ratios  # what is not seen is not drawn
