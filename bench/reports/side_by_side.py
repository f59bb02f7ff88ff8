"""Protocols side by side: a table of the values in which they differ (Rethinking, tables 1 and 17)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.protocol.conditions import resolve
from bench.protocol.definition import Protocol
from bench.reports.table import Column, Page, Split, Table, typed

VALUE = "value"  # key of the column of names
ABSENT = "-"
WIDTH = 30  # characters of a protocol's column
MOST = 4  # protocols in one table of a terminal


def side_by_side(protocols: Sequence[Protocol], at: Mapping[str, Any]) -> Page:
    """A page with one row for each value in which the protocols differ.

    Args:
        protocols: at least one; of one alone every value is shown.
        at: what is known of the cell, of dataset, ipc, classes, student. A value that depends on something else is
            shown with all its branches.

    Raises:
        NoValue: a protocol has no value for the cell.
    """
    cell = dict(at)
    if "ipc" in cell and "classes" in cell:
        cell["images"] = cell["ipc"] * cell["classes"]
    columns = {VALUE: Column(VALUE, "object", "value", left=True)}
    columns |= {each.id: Column(each.id, "object", each.id, left=True, width=WIDTH) for each in protocols}
    flat = {each.id: dict(_flat(_chosen(each, cell))) for each in protocols}
    names = list(dict.fromkeys(name for values in flat.values() for name in values))
    rows = [{VALUE: name, **{key: values.get(name, ABSENT) for key, values in flat.items()}} for name in names]
    differing = [row for row in rows if len(flat) == 1 or len({row[key] for key in flat}) > 1]
    place = ", ".join(f"{key} {value}" for key, value in at.items()) or "every cell"
    same = f"{len(rows) - len(differing)} of {len(rows)} values are the same." if len(flat) > 1 else ""
    table = Table(
        list(columns.values()),
        [differing],
        title=f"What differs between protocols, for {place}" if len(flat) > 1 else f"Values for {place}",
        below=same,
        split=Split(1, MOST, "protocols"),
    )
    return Page([table], typed(columns, differing), nothing="The protocols do not differ." if not differing else "")


def _chosen(protocol: Protocol, cell: Mapping[str, Any]) -> dict[str, Any]:
    values = _partly(protocol.values, cell, f"protocol {protocol.id}")
    recipe = values.pop("recipe")
    return {**values, **recipe, **({} if protocol.scale is None else {"scale": protocol.scale})}


def _partly(value: Any, cell: Mapping[str, Any], where: str) -> Any:
    """The value with the branches chosen whose conditions the cell tells."""
    if not isinstance(value, dict):
        return value
    if value.get("by") in cell:
        keys = {key: key for key in value if key != "by"}
        key = resolve({"by": value["by"], **keys}, cell, where)
        return _partly(value[key], cell, where)
    return {key: _partly(inner, cell, where) for key, inner in value.items()}


def _flat(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and "by" not in value:
            yield from _flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        branches = ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items() if key != "by")
        return f"by {value['by']}: {branches}" if "by" in value else f"{{{branches}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
