"""What stands behind a number: replicates, records, command, cost, environment and findings, in files of some rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.finding import Finding
from bench.plugins.registry import Registry
from bench.records.files import Record
from bench.website.encoding import Pool
from bench.website.material import BoardRow
from bench.website.reproduction import run_again
from bench.website.tables import row_key

ROWS_PER_FILE = 100
_OF_ONE = ("replicate", "id")  # of a trial: what replicates do not share
# Fields of a record that many records share.
SHARED = (
    "made_by",
    "provenance",
    "environment",
    "error",
    "condensed",
    "teachers",
    "conduct",
    "limits",
    "bytes_labels",
)


def chunks(rows: Sequence[BoardRow]) -> dict[str, list[BoardRow]]:
    """Name of a file -> the rows whose details it holds."""
    starts = range(0, len(rows), ROWS_PER_FILE)
    return {f"details-{number}": list(rows[at : at + ROWS_PER_FILE]) for number, at in enumerate(starts)}


def details(rows: Sequence[BoardRow], registry: Registry, picture_of: Mapping[str, str]) -> dict[str, Any]:
    """The details of some rows, with what they share in a pool. `picture_of`: key of a row -> where its set
    is shown."""
    pool = Pool()
    shown = {row_key(row): _row(row, registry, pool) for row in rows}
    for key in shown.keys() & picture_of.keys():
        shown[key]["picture"] = picture_of[key]
    return {"rows": shown, "pool": pool.values, "shared": SHARED}


def _row(row: BoardRow, registry: Registry, pool: Pool) -> dict[str, Any]:
    entry = row.standing.entry
    pairs = sorted(zip(entry.whole, row.places, strict=True), key=lambda pair: pair[0].trial["replicate"])
    return {
        "command": run_again(entry, registry),
        "findings": _findings(row.findings, [place for _, place in pairs], pool),
        "records": _records(pairs, pool),
    }


def _findings(findings: Sequence[Finding], places: Sequence[str], pool: Pool) -> list[list[Any]]:
    """[number of (severity, rule, message), where]; what several records have in common stands once.

    `where` is a list of the row's records by their numbers, or the text of another place.
    """
    grouped: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for finding in findings:
        grouped[finding.severity, finding.rule, finding.message].append(finding.where)
    shown = []
    for parts, where in grouped.items():
        of_row = all(place in places for place in where)
        at = [places.index(place) for place in where] if of_row else "; ".join(where)
        shown.append([pool.number(list(parts)), at])
    return shown


def _records(pairs: Sequence[tuple[Record, str]], pool: Pool) -> list[dict[str, Any]]:
    """Every field of the records of a row: of the first all, of the others those that are not the first one's.

    Values that many records share are numbers of the pool (`SHARED`, and what replicates have in common of a trial).
    """
    first: dict[str, Any] = {}
    shown = []
    for record, place in pairs:
        fields = _fields(record, pool)
        changed = {key: value for key, value in fields.items() if key not in first or first[key] != value}
        changed |= dict.fromkeys(first.keys() - fields.keys())  # what only some records have
        first = first or fields
        shown.append({"place": place, "fields": changed, "digest": record.digest})
    return shown


def _fields(record: Record, pool: Pool) -> dict[str, Any]:
    fields = record.fields()
    for key in SHARED:
        fields[key] = pool.number(fields[key])
    rest = {key: value for key, value in record.trial.items() if key not in _OF_ONE}
    single = {key: record.trial[key] for key in _OF_ONE}
    return {**fields, "trial": [pool.number(list(record.trial)), pool.number(rest), single]}


def files(
    rows: Sequence[BoardRow], registry: Registry, picture_of: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name of a file, its content), one after the other: few rows are in memory at a time."""
    for name, members in chunks(rows).items():
        yield name, details(members, registry, picture_of)
