"""Prints pages of tables: text for a terminal, Markdown and LaTeX for people, CSV and JSON for programs.

A format is one function of a `Page` in `FORMATS`. What a format must escape is escaped here and nowhere else.
Names come from strangers: none of them may be a tag, a link, a command of LaTeX or a formula of a spreadsheet. A cell
that is Markdown on purpose is a `Markdown`.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype
from tabulate import LATEX_ESCAPE_RULES, SEPARATING_LINE, tabulate

from bench.errors import UserError
from bench.reports.quantities import wrapped
from bench.reports.table import Column, MarkNote, Note, Page, Row, Shown, Table, rows_of
from bench.texts import visible

_NOTE_WIDTH = 110
_STAR = Column("", heading="", left=True)  # of the marks of the column before it, where there is no bold
_LATEX_SIGNS = {"±": r"$\pm$", "≥": r"$\geq$"}
LATEX: dict[str, str] = {  # sign -> what LaTeX prints as it
    **LATEX_ESCAPE_RULES,
    **_LATEX_SIGNS,
}
_LATEX_OPTION = re.compile(
    r"((?:\\\\|\\midrule)\n\s*)([\[*])"
)  # of a row: the command before it would take it for its own
_FORMULA = ("=", "+", "-", "@")
# What Markdown would bring to life: a tag or an address in < >, an entity, the ] of a link or of the name of one, an
# image, the colon of a web address, www., the @ of a mail address, strikethrough. The website has it in JavaScript.
LIVELY = re.compile(
    r"<(?=[A-Za-z/!?])|&(?=#?\w{1,32};)|\](?=[(\[])|!(?=\[)|(?<=[A-Za-z]):(?=//)|(?<=\bwww)\."
    r"|(?<=[\w.+-])@(?=[\w-]+\.)|~(?=~)",
    re.ASCII | re.IGNORECASE,
)
_BLOCK = re.compile(r"^(\s*)([#>]|```|\[(?=[^\]]*\]:))")


def printed(page: Page, format: str) -> str:
    """The page in a format, ending with a newline. Raises UserError for a format that there is not."""
    return printer(format)(page)


def printer(format: str) -> Callable[[Page], str]:
    """The function that prints pages in a format. Raises UserError for a format that there is not."""
    if format not in FORMATS:
        raise UserError(f"unknown format '{format}'. Allowed: {', '.join(FORMATS)}. Type: --format md")
    return FORMATS[format]


def as_csv(page: Page) -> str:
    """Every column unrounded; missing values are empty. A text that a spreadsheet would take for a formula begins with
    an apostrophe."""
    texts = {str(key): column.map(_no_formula) for key, column in page.frame.items() if not is_numeric_dtype(column)}
    return str(page.frame.assign(**texts).to_csv(index=False))


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return visible(f"'{value}" if value.lstrip().startswith(_FORMULA) else value)


def as_json(page: Page) -> str:
    """The page's document, else a list of objects with every column unrounded; missing values are null."""
    rows = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in rows_of(page.frame)]
    whole = rows if page.document is None else page.document
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_text(page: Page) -> str:
    """Text for a terminal: groups of rows with a line between them, long specifications on several lines."""

    def clean(text: str, column: Column) -> str:
        text = _one_line(text)
        return wrapped(text, column.width) if column.width else text

    def table(each: Table) -> str:
        parts = []
        for part in _parts(each):
            groups = [_starred(part.columns, group, clean) for group in part.groups]
            rows = [row for group in groups for row in [SEPARATING_LINE, *group]][1:]
            title, above, below = (visible(text) for text in (part.title, part.above, part.below))
            whole = "\n".join(filter(None, (title, _grid(rows, _with_stars(part.columns), "simple"), below)))
            parts.append(f"{above}\n\n{whole}" if above else whole)
        return "\n\n".join(parts)

    def notes(those: Sequence[Note]) -> str:
        return "\n".join(textwrap.fill(note, _NOTE_WIDTH, subsequent_indent="  ") for note in _said(those, "*"))

    return _joined(replace(page, nothing=visible(page.nothing)), table, notes)


def as_markdown(page: Page) -> str:
    """GitHub's Markdown: headings, tables, the best in bold, a list of notes."""

    def table(each: Table) -> str:
        title, above, below = (markdown_text(text) for text in (each.title, each.above, each.below))
        return "\n\n".join(filter(None, (f"### {title}" if title else "", above, markdown_table(each), below)))

    def notes(those: Sequence[Note]) -> str:
        return "\n".join(f"- {markdown_text(note)}" for note in _said(those, "bold"))

    body = _joined(replace(page, nothing=markdown_text(page.nothing)), table, notes)
    return f"# {markdown_text(page.title)}\n\n{body}" if page.title else body


class Markdown(str):
    """A text that is Markdown on purpose, written by this project."""

    __slots__ = ()


def markdown_text(text: str) -> str:
    """A text on one line in which no HTML, link, image, address or reference comes to life.

    Letters that only change how a text looks (`*`, `_`, backticks) stay: this project's own notes hold them.
    """
    if isinstance(text, Markdown):
        return _one_line(text)
    return LIVELY.sub(r"\\\g<0>", _one_line(text).replace("\\", r"\\"))


def markdown_paragraph(text: str) -> str:
    """A text on its own lines, as `markdown_text`; none of them becomes a heading, a quotation or a block of code."""
    return "\n".join(_BLOCK.sub(r"\1\\\2", markdown_text(line)) for line in text.split("\n"))


def markdown_table(table: Table) -> str:
    """The rows of a table under their headings, without title and notes, in GitHub's Markdown."""

    def plain(text: str) -> str:
        if isinstance(text, Markdown):
            return _one_line(text).replace("\\", r"\\").replace("|", r"\|")
        return markdown_text(text).replace("|", r"\|")

    def cell(column: Column, row: Row) -> str:
        shown = column.cell(row)
        if not isinstance(shown, Shown):
            return plain(shown)
        return f"{plain(shown.before)}{f'**{plain(shown.text)}**' if shown.best else plain(shown.text)}"

    rows = [[cell(column, row) for column in table.columns] for group in table.groups for row in group]
    columns = [replace(column, heading=plain(column.heading or "")) for column in table.columns]
    return _grid(rows, columns, "github")


def as_latex(page: Page) -> str:
    """Tables of LaTeX with booktabs, captions from title and sentence, notes as comments."""

    def table(each: Table) -> str:
        rows = [row for group in each.groups for row in _starred(each.columns, group, lambda text, _: _one_line(text))]
        columns = [replace(column, heading=_one_line(column.heading or "")) for column in each.columns]
        body = _grid(rows, _with_stars(columns), "latex_booktabs")  # tabulate escapes what is special to LaTeX
        for sign, command in _LATEX_SIGNS.items():
            body = body.replace(sign, command)
        body = _LATEX_OPTION.sub(r"\1{\2}", body)
        caption = _latex(". ".join(filter(None, (each.title, each.above, each.below))))
        return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{body}\n\\end{{table}}"

    def notes(those: Sequence[Note]) -> str:
        return "\n".join(f"% {_one_line(note)}" for note in _said(those, "*"))

    return _joined(replace(page, nothing=_latex(page.nothing)), table, notes)


# A format of tables is a line here and its function.
FORMATS: dict[str, Callable[[Page], str]] = {
    "text": as_text,
    "md": as_markdown,
    "csv": as_csv,
    "latex": as_latex,
    "json": as_json,
}


def _joined(page: Page, table: Callable[[Table], str], notes: Callable[[Sequence[Note]], str]) -> str:
    """What people read of a page: tables and notes with an empty line between them."""
    parts = [] if page.tables else [page.nothing]
    for each in page.tables:
        parts += [table(each), *([notes(each.notes)] if each.notes else [])]
    if page.notes:
        parts.append(notes(page.notes))
    return "\n\n".join(parts) + "\n"


def _parts(table: Table) -> list[Table]:
    """A table, or the narrower ones that show it."""
    if (split := table.split) is None:
        return [table]
    fixed, others = table.columns[: split.fixed], table.columns[split.fixed :]
    blocks = [others[start : start + split.most] for start in range(0, len(others), split.most)]
    if len(blocks) == 1:
        return [table]
    return [
        replace(table, columns=[*fixed, *block], title=f"{table.title}, {split.what} {number} of {len(blocks)}")
        for number, block in enumerate(blocks, start=1)
    ]


def _grid(rows: Sequence[Any], columns: Sequence[Column], style: str) -> str:
    body = tabulate(
        rows,
        headers=[visible(column.title) for column in columns],
        tablefmt=style,
        disable_numparse=True,
        colalign=["left" if column.left else "right" for column in columns],
    )
    return "\n".join(line.rstrip() for line in body.splitlines())


def _starred(columns: Sequence[Column], rows: Sequence[Row], clean: Callable[[str, Column], str]) -> list[list[str]]:
    """Rows of cells where there is no bold: behind those that may be the best stands a star or nothing."""

    def cells(column: Column, row: Row) -> list[str]:
        shown = column.cell(row)
        shown = shown if isinstance(shown, Shown) else Shown(shown)
        text = clean(shown.before + shown.text, column)
        return [text, "*" if shown.best else ""] if column.starred else [text]

    return [[text for column in columns for text in cells(column, row)] for row in rows]


def _with_stars(columns: Sequence[Column]) -> list[Column]:
    return [each for column in columns for each in ([column, _STAR] if column.starred else [column])]


def _said(notes: Sequence[Note], mark: str) -> Iterator[str]:
    for note in notes:
        yield visible(f"{mark}: {note.says}" if isinstance(note, MarkNote) else note)


def _one_line(text: str) -> str:
    return visible(" ".join(text.splitlines()))


def _latex(text: str) -> str:
    """Text with what is special to LaTeX escaped, as tabulate escapes it in cells."""
    return "".join(LATEX.get(letter, letter) for letter in _one_line(text))
