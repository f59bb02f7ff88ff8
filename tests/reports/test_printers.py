"""Tables in every format: what people and programs read, what is escaped, how a format is added."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import subprocess
import sys

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from bench.errors import UserError
from bench.reports.comparison import compare
from bench.reports.comparison_text import render_comparison
from bench.reports.ddranking import render_scores, scores
from bench.reports.leaderboard.by_protocol import by_protocol, render_across
from bench.reports.leaderboard.page import page, render
from bench.reports.leaderboard.rows import leaderboard
from bench.reports.printers import FORMATS, markdown_table, printed
from bench.reports.table import Column, MarkNote, Page, Shown, Split, Table, by_key, rows_of, typed
from tests.worlds import ROOT
from tests.worlds.records import cell

COLUMNS = by_key(
    (
        Column("name", "str", "name", left=True, width=8),
        Column("share", "float64", "share", show=lambda value: f"{100 * value:.1f}", unit="%"),
        Column("size", "Int64", "size", show="{:,} B".format),
        Column("hidden", "bool"),
        Column(
            "score", "float64", "score", starred=True,
            show_row=lambda row: Shown(f"{row['score']:.1f} ± 1", row["hidden"], "(partial) "),
        ),
    )
)  # fmt: skip
ROWS = (
    {"name": "first:a=1,b=2", "share": 1 / 3, "size": 12345, "hidden": True, "score": 2.5},
    {"name": "second", "share": math.nan, "size": None, "hidden": False, "score": 1.25},
)
SHOWN = [column for column in COLUMNS.values() if column.heading is not None]


def whole(**changed: object) -> Page:
    frame = typed(COLUMNS, ROWS)
    table = Table(SHOWN, [[row] for row in rows_of(frame)], title="A title", below="Below.")
    return Page([table], frame, notes=[MarkNote("the best."), "size: in bytes."], **changed)  # type: ignore[arg-type]


def test_text_breaks_specifications_and_marks_the_best_with_a_star() -> None:
    assert printed(whole(), "text").splitlines() == [
        "A title",
        "name      share %      size              score",
        "------  ---------  --------  -----------------  --",
        "first:       33.3  12,345 B  (partial) 2.5 ± 1  *",
        "  a=1,",
        "  b=2",
        "------  ---------  --------  -----------------  --",
        "second          -         -  (partial) 1.2 ± 1",
        "Below.",
        "",
        "*: the best.",
        "size: in bytes.",
    ]


def test_programs_read_every_value_unrounded_and_people_see_none_that_is_missing() -> None:
    rows = json.loads(printed(whole(), "json"))
    assert [list(row) for row in rows] == [list(COLUMNS)] * 2
    assert rows[0]["share"] == 1 / 3
    assert (rows[1]["share"], rows[1]["size"]) == (None, None)
    read = list(csv.DictReader(io.StringIO(printed(whole(), "csv"))))
    assert (float(read[0]["share"]), read[0]["size"], read[1]["size"]) == (1 / 3, "12345", "")
    assert "nan" not in "".join(printed(whole(), format).lower() for format in ("text", "md", "latex", "csv"))


def test_a_document_takes_the_place_of_the_rows_in_json_alone() -> None:
    with_document = whole(document={"all": [1, 2]})
    assert json.loads(printed(with_document, "json")) == {"all": [1, 2]}
    assert printed(with_document, "csv") == printed(whole(), "csv")


def test_only_a_format_with_bold_has_no_column_of_stars() -> None:
    markdown, latex = printed(whole(title="Document"), "md"), printed(whole(title="Document"), "latex")
    assert "| (partial) **2.5 ± 1** |" in markdown
    assert "- bold: the best.\n- size: in bytes.\n" in markdown
    assert markdown.startswith("# Document\n\n### A title\n\n| name ")
    assert re.search(r"\(partial\) 2\.5 \$\\pm\$ 1 +& \* +\\\\$", latex, re.MULTILINE)
    assert "% *: the best.\n% size: in bytes.\n" in latex
    assert r"\begin{tabular}{lrrrl}" in latex


def test_a_wide_table_is_divided_in_text_alone() -> None:
    columns = [Column("row", heading="row", left=True), *(Column(f"c{i}", heading=f"c{i}\n(x)") for i in range(5))]
    rows = [{"row": "r", **{f"c{i}": str(i) for i in range(5)}}]
    table = Table(columns, [rows], title="Wide", split=Split(fixed=1, most=2, what="columns"))
    text, markdown = (printed(Page([table], pd.DataFrame(rows)), format) for format in ("text", "md"))
    assert re.findall(r"^Wide.*$", text, re.MULTILINE) == [f"Wide, columns {i} of 3" for i in (1, 2, 3)]
    assert text.count("row") == text.count("\nr ") == 3
    assert markdown.count("Wide") == 1
    assert "| c0 (x) |" in re.sub(" +", " ", markdown)


def test_a_table_without_rows_says_so_and_keeps_its_notes() -> None:
    empty = Page([], typed(COLUMNS, []), notes=["a note."], nothing="Nothing of a_b.")
    assert printed(empty, "text") == "Nothing of a_b.\n\na note.\n"
    assert printed(empty, "latex") == "Nothing of a\\_b.\n\n% a note.\n"
    assert printed(empty, "csv") == "name,share,size,hidden,score\n"
    assert json.loads(printed(empty, "json")) == []


def test_a_new_format_is_one_function_and_prints_the_tables_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_list(page: Page) -> str:
        return "\n".join(column.title for table in page.tables for column in table.columns)

    monkeypatch.setitem(FORMATS, "list", as_list)
    assert render(leaderboard(cell(0.4)), "list").splitlines()[:3] == ["compressor", "method", "accuracy %"]
    assert render_across(by_protocol(cell(0.4)), "list").splitlines()[-1] == "(stored labels)"
    with pytest.raises(UserError, match=r"'xml'. Allowed: text, md, csv, latex, json, list. Type: --format md"):
        render(leaderboard(cell(0.4)), "xml")


# --- names that mean something to a format ---------------------------------------------------------------------------

HOSTILE = r"x:mode=a|b\|c_{d}~e^f%g&h#i$j<k>,k=\input"
ESCAPED = (
    r"x:mode=a|b\textbackslash{}|c\_\{d\}\textasciitilde{}e\^{}f\%g\&h\#i\$j\ensuremath{<}k\ensuremath{>}"
    r",k=\textbackslash{}input"
)


def reports(name: str, format: str) -> list[str]:
    """Every report with entries, a compressor and a data set of this name."""
    named = {"dataset": name, "compressor": name, "budget": "10x"}
    records = [*cell(0.4, **named), *cell(0.5, method=name, **named)]
    return [
        render(leaderboard(records), format),
        render_across(by_protocol(records), format),
        render_scores(scores(records), format),
        render_comparison(compare(records, records, (name, name)), format),
        render_comparison(compare(records, [], (name, name)), format),
    ]


def cells_of(text: str) -> list[str]:
    """The contents of all cells of the tables of a Markdown text, as a reader sees them."""
    tokens = MarkdownIt().enable("table").parse(text)
    cells = [after.children for before, after in itertools.pairwise(tokens) if before.type in ("td_open", "th_open")]
    return ["".join(part.content for part in children or ()) for children in cells]


def test_markdown_cells_hold_what_a_name_holds() -> None:
    columns, names = (12, 3, 9, 10, 0), (3, 3, 2, 1, 0)
    for width, count, text in zip(columns, names, reports(HOSTILE, "md"), strict=True):
        cells = cells_of(text)
        assert len(cells) == sum(line.startswith("|") for line in text.splitlines() if "---" not in line) * width
        assert sum(HOSTILE in cell for cell in cells) == count
    assert cells_of(markdown_table(Table([Column("a", heading="a|b"), Column("b", heading="c")], []))) == ["a|b", "c"]


def test_latex_sees_no_special_letter_of_a_name_outside_of_comments() -> None:
    for text in reports(HOSTILE, "latex"):
        lines = [line for line in text.splitlines() if not line.startswith("%")]
        assert HOSTILE not in "\n".join(lines)
        assert ESCAPED in "\n".join(lines)


def test_a_name_of_two_lines_stays_on_one_where_a_line_has_a_meaning() -> None:
    for text in reports("x\n\\input{y}", "latex"):
        assert "\n\\input" not in text
        assert "\n\\textbackslash{}input" not in text
    for text in reports("x\n| y", "md"):
        assert "\n| y" not in text


def test_programs_read_hostile_names_back() -> None:
    for name in (HOSTILE, 'a"b,\nc;\ud7ff'):
        frame = leaderboard(cell(0.4, method=name))
        assert json.loads(printed(page(frame), "json"))[0]["method"] == name
        assert next(csv.DictReader(io.StringIO(printed(page(frame), "csv"))))["method"] == name


def test_reports_load_neither_torch_nor_ray() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("reports", "stats")
        for path in sorted((ROOT / "bench" / room).rglob("*.py"))
    ]
    names = [name.removesuffix(".__init__") for name in modules]
    assert "bench.reports.leaderboard.page" in names
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "matplotlib"} & set(loaded.stdout.split())


# --- text of others is never markup ----------------------------------------------------------------------------------

LIVELY = (
    "<script>alert(1)</script>", "<!-- hidden", "<https://evil.example>", "[text](https://evil.example)",
    "![](https://evil.example/a.png)", "https://evil.example", "www.evil.example", "me@evil.example", "\\<b>",
    "&lt;b&gt;", "[a][b]", "~~gone~~",
)  # fmt: skip


@pytest.mark.parametrize("name", LIVELY)
def test_no_name_comes_to_life_in_markdown(name: str) -> None:
    parser = MarkdownIt("gfm-like", {"linkify": False}).disable("linkify")
    for text in reports(name, "md"):
        tokens = [part for token in parser.parse(text) for part in (token, *(token.children or ()))]
        kinds = {token.type for token in tokens}
        assert not kinds & {"html_inline", "html_block", "link_open", "image", "s_open"}
        shown = "".join(token.content for token in tokens if token.type in ("text", "text_special"))
        assert name in shown
        assert not re.search(r"(?<!\\)(https?://|www\.|@evil)", text), "GitHub makes links of bare addresses"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " ="])
def test_no_name_is_a_formula_of_a_spreadsheet(start: str) -> None:
    name = f"{start}cmd|'/c calc'!A1"
    for text in reports(name, "csv")[:4]:
        cells = [each for row in csv.reader(io.StringIO(text)) for each in row]
        assert any(each.startswith(f"'{start}cmd") for each in cells)
        assert not [each for each in cells if each.lstrip().startswith("=")]


def test_negative_figures_stay_figures_for_programs() -> None:
    frame = typed(COLUMNS, [{**ROWS[0], "share": -0.25, "size": -3}])
    read = next(csv.DictReader(io.StringIO(printed(Page([], frame), "csv"))))
    assert (read["share"], read["size"]) == ("-0.25", "-3")


@pytest.mark.parametrize("format", ["text", "md", "latex", "csv"])
def test_no_name_is_an_order_to_a_terminal_in_any_format(format: str) -> None:
    for text in reports("x\x1b]0;title\x07\u202ey\x9b\ud800", format):
        assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_the_first_letter_of_a_row_is_no_option_of_the_command_before_it() -> None:
    for text in reports("[2cm]x", "latex")[:2] + reports("*x", "latex")[:2]:
        rows = re.findall(r"(?:\\\\|\\midrule)\n *(\S)", text)
        assert rows
        assert not {"[", "*"} & set(rows)
