"""Values that depend on the cell: tables with `by`, in protocol files and teacher recipes.

    [recipe.epochs]
    by = "ipc"
    "1" = 300
    "2-10" = 150
    ">=11" = 100

A key is exact ("10"), a range ("2-10"), a bound (">=50"), or the name of a data set or network with any parameters
("glyphs"). The exact key wins, ranges must not overlap, and `default` stands for all others; the order in the file
tells nothing.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bench.errors import UserError

CONDITIONS = ("dataset", "ipc", "classes", "images", "student")  # images = ipc * classes
NAMES = ("dataset", "student")  # the other conditions are whole numbers
MOST_CELLS = 20_000  # that the branches of a protocol may make
OTHER, FIRST = "?", 1  # a name that no key fits, and the smallest number


class NoValue(UserError):
    """A table has no value for a cell."""


def resolve(value: Any, cell: Mapping[str, Any], where: str) -> Any:
    """The value for one cell, every table with `by` replaced by its branch.

    Raises:
        NoValue: no key fits, and there is no default.
        UserError: the condition is unknown, not to be used here, or two ranges overlap.
    """
    if not isinstance(value, dict):
        return value
    if "by" not in value:
        return {key: resolve(inner, cell, f"{where}, {key}") for key, inner in value.items()}
    condition = value["by"]
    if not isinstance(condition, str) or condition not in cell:
        raise UserError(f"{where}: by = {condition!r} is not one of {', '.join(cell)}.")
    cell_value = cell[condition]
    keys = [key for key in value if key not in ("by", "default") and _matches(key, cell_value)]
    exact = [key for key in keys if key == str(cell_value)]
    if len(exact or keys) > 1:
        raise UserError(f"{where}: {condition} = {cell_value} has more than one value: {', '.join(keys)}.")
    if keys:
        return resolve(value[(exact or keys)[0]], cell, where)
    if "default" in value:
        return resolve(value["default"], cell, where)
    has = ", ".join(key for key in value if key != "by")
    raise NoValue(f"{where}: no value for {condition} = {cell_value}; it has {has}, and no default.")


def _matches(key: str, cell_value: Any) -> bool:
    if isinstance(cell_value, int):
        low, high = _range(key)
        return low is not None and low <= cell_value and (high is None or cell_value <= high)
    return key in (cell_value, cell_value.partition(":")[0])


def _range(key: str) -> tuple[int | None, int | None]:
    """(lowest, highest) whole number that a key stands for; highest None: no bound; lowest None: not a number."""
    if match := re.fullmatch(r"([0-9]{1,15})-([0-9]{1,15})", key):
        return int(match[1]), int(match[2])
    if match := re.fullmatch(r">=([0-9]{1,15})", key):
        return int(match[1]), None
    return (int(key), int(key)) if re.fullmatch("[0-9]{1,15}", key) else (None, None)


def names(value: Any, condition: str) -> set[str]:
    """Every key of the tables by `condition` in a value, `default` left out."""
    if not isinstance(value, dict):
        return set()
    keys = {key for key in value if key not in ("by", "default")} if value.get("by") == condition else set()
    return keys.union(*(names(inner, condition) for inner in value.values()))


def cells(*values: Any) -> Iterator[dict[str, Any]]:
    """Cells that between them meet every branch of every `by` table in `values`, in every combination.

    A number decides between branches where a range begins and just after it ends, so one cell stands for each stretch
    between two such numbers. Names are met as they are written, and every name also as one that no key may fit.

    Raises:
        UserError: a table has no value at all, or a key is no range of whole numbers where one is asked for.
    """
    by_condition: dict[str, dict[Any, None]] = {condition: {} for condition in CONDITIONS}
    for value in values:
        _collect(value, by_condition)
    for condition, members in by_condition.items():
        members.setdefault(OTHER if condition in NAMES else FIRST)
    combinations = math.prod(len(members) for members in by_condition.values())
    if combinations > MOST_CELLS:
        raise UserError(f"its tables make {combinations:,} different cells; at most {MOST_CELLS:,} are checked.")
    for combination in itertools.product(*by_condition.values()):
        yield dict(zip(by_condition, combination, strict=True))


def _collect(value: Any, by_condition: dict[str, dict[Any, None]]) -> None:
    if not isinstance(value, dict):
        return
    condition = value.get("by")
    if len(value) == 1 and "by" in value:
        raise UserError(f"a table with by = {condition!r} has no value: give it one for 'default' at least.")
    for key, inner in value.items():
        if key not in ("by", "default") and isinstance(condition, str) and condition in by_condition:
            if condition in NAMES:
                by_condition[condition].setdefault(key)
            else:
                low, high = _range(key)
                if low is None or (high is not None and high < low):
                    raise UserError(f"by = '{condition}': the key '{key}' is none of 10, 2-10, >=50 or default.")
                by_condition[condition].setdefault(low)
                if high is not None:
                    by_condition[condition].setdefault(high + 1)
        _collect(inner, by_condition)
