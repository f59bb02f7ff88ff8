"""TOML files of others: read within bounds, so that no file keeps a command busy or ends it with a traceback."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.texts import cut, read_text

LARGEST = 1_000_000  # characters of a file; the project's own have 12,000 at most
DEEPEST = 24  # tables and lists inside each other, and parts of a dotted key
LINE_DOTS = 500  # in a line; tomllib's time grows with the square of the parts of a key
DOT_PAIRS = 1_000_000  # squares of the dots of a line, over all lines


def read_toml(path: Path, text: str | None = None) -> dict[str, Any]:
    """A TOML file (or its text, read before) as a dict.

    Raises UserError that names the file, for a syntax error and for what is larger or deeper than such a file needs.
    """
    text = read_text(path) if text is None else text.removeprefix("\ufeff")
    if len(text) > LARGEST:
        raise UserError(f"{path} has {len(text):,} characters; at most {LARGEST:,} are read. Split it.")
    dots = [line.count(".") for line in text.split("\n")]
    if max(dots) > LINE_DOTS or sum(count * count for count in dots) > DOT_PAIRS:
        raise UserError(f"{path} has keys or lists of too many parts. Put a list's values on lines of their own.")
    try:
        content = tomllib.loads(text)
    except ValueError as error:  # of tomllib, or of an integer with thousands of digits
        raise UserError(f"{path}: {cut(str(error))}") from None
    except (RecursionError, MemoryError):
        raise UserError(f"{path} is nested too deeply: at most {DEEPEST} levels are read.") from None
    if _depth(content) > DEEPEST:
        raise UserError(f"{path} is nested too deeply: at most {DEEPEST} levels are read.")
    return content


def _depth(content: Any) -> int:
    """How many tables and lists stand inside each other, counted without recursion; past `DEEPEST` it stops."""
    level, depth = [content], 0
    while level and depth <= DEEPEST:
        containers = [each for each in level if isinstance(each, dict | list)]
        depth += bool(containers)
        level = [inner for each in containers for inner in (each.values() if isinstance(each, dict) else each)]
    return depth
