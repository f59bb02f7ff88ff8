"""The pages of `report` in a browser, from the disk: what a reader does, and what a hostile record cannot do."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pandas as pd
import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt
from PIL import Image
from pybtex.database import parse_string

from bench.cli import cli
from bench.lock.lock_file import released
from bench.records import files
from bench.records.files import Record
from bench.reports.leaderboard.columns import COLUMNS
from bench.reports.leaderboard.rows import leaderboard
from bench.texts import visible
from tests.worlds import website as world
from tests.worlds.browser import Browser, browser
from tests.worlds.kept_sets import Kept

__all__ = ["browser"]

HARD = "digits, small-hard-v1, hard labels"
# axe reads no style sheet again: the policy of the pages forbids it to.
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], "preload": False}
STORED = "glyphs:classes=100, small-soft-v1, stored labels"


@pytest.fixture(scope="module")
def results(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("results"), [*world.ordinary(), *world.hostile(), *kept.records])


@pytest.fixture(scope="module")
def site(results: Path, kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages") / "site"
    store = kept.store
    extra = tmp_path_factory.mktemp("extra")
    (extra / "claims.toml").write_text(world.CLAIM, encoding="utf-8")
    world.picture(extra / "pictures" / "sets.png")
    arguments = ["report", "--results", str(results), "--out", str(out), "--store", str(store)]
    arguments += ["--claims", str(extra / "claims.toml"), "--pictures", str(extra / "pictures")]
    answer = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return out


@pytest.fixture(scope="module")
def records(results: Path) -> list[Record]:
    return files.load(results).records


def board(page: Any) -> list[list[str]]:
    """The cells of the rows that are seen, by line."""
    return page.locator("#board tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )


def column(page: Any, title: str) -> list[str]:
    heads = [text.strip() for text in page.locator("#board thead th").all_inner_texts()]
    return [row[heads.index(title)] for row in board(page)]


def go_to(page: Any, title: str) -> None:
    dataset, protocol, _ = title.split(", ")
    group = page.locator("#tables .group").filter(has=page.get_by_role("heading", name=dataset, exact=True))
    group.locator("a").filter(has_text=protocol).first.click()
    page.wait_for_function("title => document.getElementById('title').textContent === title", arg=title)


def state(page: Any) -> dict[str, list[str]]:
    return parse_qs(page.evaluate("location.hash.slice(1)"))


# Numbers


def test_every_value_of_every_table_is_the_one_that_the_leaderboard_prints(
    browser: Browser, site: Path, records: list[Record]
) -> None:
    expected = {
        (row.dataset, row.protocol, row.ipc, row.student, row.method, row.compressor, row.budget): row
        for row in leaderboard(files.latest(records), released()).astype(object).itertuples()
    }
    seen = set()
    with browser.open(site / "index.html") as watched:
        data = watched.page.evaluate("({keys: LEADERBOARD.row_keys, tables: LEADERBOARD.tables})")
        for table in data["tables"]:
            for row in table["rows"]:
                values = dict(zip(data["keys"], row["raw"], strict=True))
                shared = table["shared"]
                name = (shared["dataset"], shared["protocol"], *(values[k] for k in ("ipc", "student")))
                method = values["method"].replace(r"\u001b", "\x1b").replace(r"\u202e", "\u202e")
                name = (*name, method, values["compressor"], values["budget"])
                row_here = expected[name]
                seen.add(name)
                values |= {**shared, "fixed_digest": table["fixed"][row["fixed"]]}
                assert values.keys() == set(COLUMNS)
                for key in COLUMNS:
                    value = getattr(row_here, key)
                    wanted = visible(value) if isinstance(value, str) else None if pd.isna(value) else value
                    assert values[key] == wanted, (name, key)
        go_to(watched.page, STORED)
        assert len(board(watched.page)) == 11
        assert column(watched.page, "accuracy %")[0] == "52.0 ± 0.4"
    assert seen == expected.keys()
    downloaded = list(csv.DictReader(io.StringIO((site / "data" / "leaderboard.csv").read_text("utf-8"))))
    assert len(downloaded) == len(expected)
    for line, row_here in zip(downloaded, expected.values(), strict=True):  # unrounded
        assert (float(line["mean"]) if line["mean"] else None) == (None if pd.isna(row_here.mean) else row_here.mean)


def test_sorting_by_accuracy_keeps_what_has_none_at_the_end(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html") as watched:
        go_to(watched.page, STORED)
        head = watched.page.locator("#board thead th", has_text="accuracy")
        head.click()
        watched.page.wait_for_url(lambda url: "sort=mean%3Adesc" in url)
        falling = column(watched.page, "accuracy %")
        head.click()
        watched.page.wait_for_url(lambda url: "sort=mean%3Aasc" in url)
        rising = column(watched.page, "accuracy %")
        assert state(watched.page)["sort"] == ["mean:asc"]
    assert falling[-1].startswith("infeasible")
    assert rising[-1] == falling[-1]
    figures = [float(text.split()[0]) for text in falling[:-1]]
    assert figures == sorted(figures, reverse=True)
    assert rising[:-1] == falling[:-1][::-1]


def test_headers_sort_by_keyboard_alone(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html") as watched:
        go_to(watched.page, STORED)
        watched.page.locator("#board thead th", has_text="bits/class").locator("[role=button]").focus()
        watched.page.keyboard.press("Enter")
        watched.page.wait_for_url(lambda url: "sort=bpc%3Adesc" in url)
        watched.page.locator("#board button.open").nth(2).focus()
        watched.page.keyboard.press("Enter")
        dialog = watched.page.get_by_role("dialog")
        dialog.wait_for()
        watched.page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        # Whoever closes it is where it was opened.
        assert watched.page.evaluate("document.activeElement.className").startswith("open")


def test_the_address_brings_back_search_filters_order_and_columns(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html") as watched:
        page = watched.page
        go_to(page, STORED)
        page.locator("#search").fill("random")
        page.locator("[data-menu=budget] summary").click()
        page.get_by_label("10x", exact=True).check()
        page.get_by_label("30x", exact=True).check()
        page.keyboard.press("Escape")
        page.locator("[data-menu=columns] summary").click()
        page.locator("[data-menu=columns]").get_by_label("std", exact=True).uncheck()
        page.keyboard.press("Escape")
        page.locator("#board thead th", has_text="bits/class").click()
        page.wait_for_url(lambda url: "sort=bpc" in url)  # the table sorts a moment later
        before, address = board(page), page.evaluate("location.hash")
        assert len(before) == 4
        assert {row[0].split()[0] for row in before} == {"random"}
        assert "4 of 11 rows" in page.locator("#count").inner_text()
    with browser.open(site / "index.html", address) as again:
        assert board(again.page) == before
        assert "std" not in " ".join(again.page.locator("#board thead th").all_inner_texts())
        assert again.page.locator("#search").input_value() == "random"


def test_a_number_opens_its_replicates_its_record_and_its_command(
    browser: Browser, site: Path, records: list[Record]
) -> None:
    with browser.open(site / "index.html") as watched:
        page = watched.page
        go_to(page, HARD)
        page.locator("#board tbody tr", has_text="herding").first.click()
        dialog = page.get_by_role("dialog")
        dialog.wait_for()
        lines = dialog.locator("table").first.locator("tbody tr").all_inner_texts()
        command = dialog.locator("pre.command").inner_text()
        shown = [
            json.loads(text)
            for text in dialog.locator("details.record pre").evaluate_all("p => p.map(x => x.textContent)")
        ]
        address = page.evaluate("location.hash")
    ipc = shown[0]["trial"]["ipc"]
    mine = [
        r
        for r in records
        if r.trial["method"] == "herding" and r.trial["dataset"] == "digits" and r.trial["ipc"] == ipc
    ]
    assert [f"{100 * r.accuracy:.2f} %" in line for r, line in zip(mine, lines, strict=True)] == [True] * 5
    for record, fields in zip(mine, shown, strict=True):
        assert fields == {**record.fields(), "digest": record.digest}
        assert list(fields) == [*record.fields(), "digest"]
    assert command.startswith("condensebench run --dataset digits --protocol small-hard-v1 --method herding")
    with browser.open(site / "index.html", address) as again:  # a link to one number
        assert again.page.get_by_role("dialog").locator("h2").inner_text() == "herding"


def test_what_is_not_a_plain_result_is_seen_as_such(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html") as watched:
        go_to(watched.page, STORED)
        watched.page.locator("#search").fill("1000x")
        assert "infeasible" in board(watched.page)[0][0]
        watched.page.locator("#search").fill("")
        go_to(watched.page, HARD)
        watched.page.locator("#search").fill("herding")
        assert "stale" in board(watched.page)[0][0]  # its digests are not those of this installation
        watched.page.locator("#search").fill("broken")
        assert "failed" in watched.page.locator("#board .flag").all_inner_texts()
        assert watched.page.locator("#marks").inner_text().startswith("unofficial")


def test_what_is_tied_at_the_top_is_told_for_each_budget_apart(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html") as watched:
        go_to(watched.page, STORED)
        lines = watched.page.locator("#best li").all_inner_texts()
    at = "ipc 10, convnet"
    assert lines == [
        f"{at}, no budget, best: herding",
        f"{at}, 10x, 2 tied at the top: herding + quant, herding + svd",
        f"{at}, 30x, best: herding + svd",
    ]


# Export


def exported(page: Any, format: str) -> str:
    page.locator("[data-menu=export] summary").click()
    page.locator(f"[data-format={format}]").click()
    text = page.locator("#export textarea").input_value()
    page.locator("#export .close").click()
    page.keyboard.press("Escape")
    return str(text)


def test_what_is_exported_is_what_is_shown(browser: Browser, site: Path, records: list[Record]) -> None:
    with browser.open(site / "index.html") as watched:
        page = watched.page
        go_to(page, HARD)
        page.locator("[data-menu=ipc] summary").click()
        page.locator("[data-menu=ipc]").get_by_label("10", exact=True).check()
        page.locator("[data-menu=student] summary").click()
        page.locator("[data-menu=student]").get_by_label("convnet", exact=True).check()
        texts = {format: exported(page, format) for format in ("csv", "latex", "md", "bib")}
    frame = leaderboard(files.latest(records))
    frame = frame[(frame.dataset == "digits") & (frame.ipc == 10) & (frame.student == "convnet")]
    lines = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert [line["method"] for line in lines] == frame.method.to_list()
    assert [float(line["mean"]) for line in lines] == frame["mean"].to_list()
    assert list(lines[0]) == frame.columns.to_list()
    assert texts["latex"].count(r"\textbf{") == frame.best.sum() == 2  # two are tied
    assert r"\toprule" in texts["latex"]
    assert r"herding & \textbf{66.0 $\pm$ " in texts["latex"].replace("10 & convnet & ", "")
    assert "| herding |" in texts["md"]
    cited = parse_string(texts["bib"], "bibtex").entries
    assert {
        "welling2009herding",
        "paul2021diet",
        "sun2024rded",
        "alpaydin1998digits",
        "gidaris2018dynamic",
    } <= cited.keys()
    assert cited["sun2024rded"].fields["year"] == "2024"
    assert "zheng2023ccs" in cited  # of el2n, too
    assert "xiao2024lpld" not in cited  # of no row that is shown


def test_names_and_tracebacks_that_mean_ill_are_text(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html") as watched:
        page = watched.page
        go_to(page, HARD)
        page.locator("[data-menu=student] summary").click()
        page.get_by_label("convnet:width=8").check()
        methods = " ".join(row[0] for row in board(page))
        shown_as = (r"\u001b[31mred\u001b[0m", r"good\u202edab")
        for name in (world.SCRIPT, world.FORMULA, world.INPUT, world.LINK, world.OPTION, *shown_as):
            assert name in methods
        page.keyboard.press("Escape")
        table, latex, markdown = (exported(page, format) for format in ("csv", "latex", "md"))
        page.locator("#board tbody tr", has_text="broken").click()
        shown = page.get_by_role("dialog").inner_text()
        assert world.IMAGE in shown
        assert rf"Traceback: {world.SCRIPT} \u001b[31m" in shown
        assert page.title() == "Leaderboard · CondenseBench"
        assert page.locator("#detail img, #board script").count() == 0
        assert watched.complaints == []
    cells = {cell for line in csv.reader(io.StringIO(table)) for cell in line}
    assert f"'{world.FORMULA}" in cells
    assert world.FORMULA not in cells
    assert r"\input" not in latex
    assert r"\textbackslash{}input" in latex
    assert f"'{world.SPACED}" in cells
    assert not any(cell.lstrip().startswith(("=", "+", "@")) for cell in cells)
    assert "{[}-9cm]" in latex
    assert not any(line.lstrip().startswith(("[", "*")) for line in latex.splitlines())
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    kinds = {each.type for token in tokens for each in (token, *(token.children or ()))}
    assert not kinds & {"link_open", "image", "html_inline", "html_block"}
    assert "td_open" in kinds
    assert not any(sign in text for text in (table, latex, markdown, methods, shown) for sign in ("\x1b", "\u202e"))
    written = (site / "data" / "leaderboard.csv").read_text(encoding="utf-8")
    assert f"\"'{world.FORMULA}" in written or f"'{world.FORMULA}" in written


# The other pages


def save_plot(page: Any, figure: Any, format: str) -> tuple[str, bytes]:
    """(name of the file, its content)."""
    with page.expect_download() as download:
        figure.get_by_role("button", name=f"Save as {format}").click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_plots_show_the_figures_of_the_leaderboard_and_are_saved_for_papers(
    browser: Browser, site: Path, records: list[Record]
) -> None:
    frame = leaderboard(files.latest(records))
    expected = {100 * mean for mean in frame[(frame.dataset != "digits") & (frame.n > 0)]["mean"]}
    with browser.open(site / "plots.html") as watched:
        page = watched.page
        page.locator("#group").select_option(label=f"{STORED}, ipc 10, convnet")
        key = page.locator("#group").input_value()
        page.locator(f"html[data-drawn='{key}']").wait_for(state="attached")
        charts = {chart["key"]: chart for chart in page.evaluate("key => PLOTS[key]", key)}
        saved: dict[str | None, tuple[str, bytes]] = {}
        assert charts.keys() == {"intervals", "bytes_labels", "ratio", "bpc", "ranks", "seconds"}
        assert {row["mean"] for row in charts["bytes_labels"]["spec"]["data"]["values"]} == expected
        front = charts["bytes_labels"]["spec"]["layer"][0]["data"]["values"]
        assert [point["bytes_labels"] for point in front] == [749_000, 750_000, 2_240_000, 22_500_000]
        last = page.locator("figure").last
        assert last.locator("svg").count() == 0  # far below what is seen: not drawn yet
        saved[last.get_attribute("data-chart")] = save_plot(page, last, "SVG")
        for figure in page.locator("figure").all():
            figure.scroll_into_view_if_needed()
            figure.locator(".plot svg").wait_for()
        assert page.locator("figure .plot svg").count() == len(charts)
        assert page.locator("figure[data-chart=bytes_labels] svg [aria-roledescription=point]").count() >= 10
        figure = page.locator("figure[data-chart=bytes_labels]")
        saved["bytes_labels"] = save_plot(page, figure, "SVG")
        picture = save_plot(page, figure, "PNG")
        assert watched.complaints == []
    for name, title in {"bytes_labels": "bytes of labels", "seconds": "seconds of a trial"}.items():
        file, drawing = saved[name]
        assert file == f"{name}-{key}.svg"
        assert drawing.startswith(b"<svg")
        assert title.encode() in drawing
    assert picture[0] == f"bytes_labels-{key}.png"
    with Image.open(io.BytesIO(picture[1])) as image:
        assert image.width > 1500  # for print


def test_a_picture_leads_to_the_rows_that_were_trained_on_its_sets(browser: Browser, site: Path) -> None:
    with browser.open(site / "pictures.html") as watched:
        page = watched.page
        image = page.locator("figure img")
        assert image.evaluate("img => img.complete && img.naturalWidth") == 40
        assert world.IMAGE in page.locator("figure h3").inner_text()
        page.locator("figure summary").click()
        assert "no record of this site was trained on this very set" in page.locator("figure li").nth(1).inner_text()
        page.locator("figure li a").click()
        page.get_by_role("dialog").wait_for()
        assert page.get_by_role("dialog").locator("h2").inner_text() == "herding"
        assert page.title() == "Leaderboard · CondenseBench"


def test_condensed_sets_stand_side_by_side_with_what_the_teacher_says(browser: Browser, site: Path, kept: Kept) -> None:
    with browser.open(site / "pictures.html") as watched:
        page = watched.page
        page.locator("#sets .set").first.wait_for()
        assert page.locator("#sets .set b").all_inner_texts() == ["random", "herding"]
        assert page.locator("#sets .set").last.locator(".tile").count() == 10  # an image of each class
        assert "small-teacher-v1" in page.locator("#teacher").inner_text()
        first = page.locator("#sets .set").last.locator(".top-labels").all_inner_texts()
        assert [text.split()[0] for text in first] == [str(label) for label in range(10)]  # herding's images are clear
        page.locator("#class").select_option("3")
        assert page.locator("#sets .set").first.locator(".tile").count() == 2  # ipc 2
        page.locator("#set").select_option(label="random")
        page.locator("#image").select_option("1")
        assert page.locator("#stored .strip .tile").count() == 8
        titles = page.locator("#stored .heat b").all_inner_texts()
        assert titles == ["the teacher", "none", "svd@10x"]
        assert "same top class 100 %" in page.locator("#stored .heat figcaption").nth(1).inner_text()
        address = page.evaluate("location.hash")
        assert watched.complaints == []
    with browser.open(site / "pictures.html", address) as again:
        again.page.locator("#sets .set").first.wait_for()
        assert again.page.locator("#class").input_value() == "3"
    with browser.open(site / "index.html") as watched:
        go_to(watched.page, "digits, small-soft-v1, stored labels")
        watched.page.locator("#board tbody tr", has_text="herding").first.click()
        watched.page.get_by_role("link", name="Look at its condensed set").click()
        watched.page.locator("#sets .set").first.wait_for()
        assert watched.page.locator("#set option:checked").inner_text() == "herding"


def test_claims_and_findings_stand_with_their_evidence(browser: Browser, site: Path) -> None:
    with browser.open(site / "checks.html") as watched:
        page = watched.page
        assert page.locator(".verdicts .flag").inner_text() == "holds"
        assert "<b>Nobody</b> says so." in page.locator(".claim").inner_text()
        assert page.locator(".claim code").all_inner_texts() == ["el2n"]
        assert f"Here: as el2n is, {world.IMAGE}" in page.locator(".claim").inner_text()
        page.locator(".claim summary").click()
        assert page.locator(".claim tbody tr").count() == 2  # a cell for each ipc
        assert "error: stale" in page.locator("#records ~ section .findings").first.inner_text()
        assert "small-hard-v1" in page.locator("#lock ~ ul").inner_text()
        assert "digits" in page.locator("#teachers ~ div").inner_text()


# How it looks and how it is reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_pages_are_accessible_quiet_and_as_wide_as_the_screen(
    browser: Browser, site: Path, scheme: str, width: int
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for file in sorted(site.glob("*.html")):
        with browser.open(file, color_scheme=scheme, viewport={"width": width, "height": 800}) as watched:
            page = watched.page
            page.wait_for_load_state("networkidle")
            problems = Axe().run(page, options=RULES)
            assert problems.violations_count == 0, f"{file.name}: {problems.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth") <= width, file.name
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, background[4:-1].split(","))) < 200) == (scheme == "dark")
            if file.name == "index.html":
                page.locator("#board button.open").first.click()
                page.get_by_role("dialog").wait_for()
                problems = Axe().run(page, options=RULES)
                assert problems.violations_count == 0, f"detail: {problems.generate_report()}"
            assert watched.complaints == [], file.name
            assert watched.requests_elsewhere == [], file.name


def test_the_reader_chooses_light_or_dark_for_good(browser: Browser, site: Path) -> None:
    with browser.open(site / "index.html", color_scheme="light") as watched:
        watched.page.locator("#theme").click()
        assert watched.page.evaluate("document.documentElement.className") == "dark"
        watched.page.reload()
        assert watched.page.evaluate("document.documentElement.className") == "dark"
