"""What stands behind a number: replicates, records, command, cost, environment and findings, in files of some rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.plugins.registry import Registry
from bench.records.files import Record
from bench.website.bibtex import used
from bench.website.encoding import Pool
from bench.website.material import BoardRow
from bench.website.reproduction import run_again
from bench.website.tables import row_key

ROWS_PER_FILE = 100
# Fields of a record that many records share.
_SHARED = ("made_by", "provenance", "environment", "error", "condensed")


def chunks(rows: Sequence[BoardRow]) -> dict[str, list[BoardRow]]:
    """Name of a file -> the rows whose details it holds."""
    starts = range(0, len(rows), ROWS_PER_FILE)
    return {f"details-{number}": list(rows[at : at + ROWS_PER_FILE]) for number, at in enumerate(starts)}


def details(rows: Sequence[BoardRow], registry: Registry) -> dict[str, Any]:
    """The details of some rows, with what they share in a pool."""
    pool = Pool()
    return {"rows": {row_key(row): _row(row, registry, pool) for row in rows}, "pool": pool.values}


def _row(row: BoardRow, registry: Registry, pool: Pool) -> dict[str, Any]:
    entry = row.standing.entry
    pairs = sorted(zip(entry.whole, row.places, strict=True), key=lambda pair: pair[0].trial["replicate"])
    names = [entry.trial["method"], entry.trial["compressor"] or ""]
    return {
        "command": run_again(entry, registry),
        "cites": [name for name in used(names) if name],
        "findings": [pool.number([f.severity, f.rule, f.where, f.message]) for f in row.findings],
        "records": [_record(record, place, pool) for record, place in pairs],
    }


def _record(record: Record, place: str, pool: Pool) -> dict[str, Any]:
    """Every field of a record; those of `shared` are numbers of the pool."""
    fields = record.fields()
    return {
        "place": place,
        "fields": {key: value for key, value in fields.items() if key not in _SHARED},
        "shared": {key: pool.number(fields[key]) for key in _SHARED},
        "order": pool.number(list(fields)),
        "digest": record.digest,
    }


def files(rows: Sequence[BoardRow], registry: Registry) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name of a file, its content), one after the other: few rows are in memory at a time."""
    for name, members in chunks(rows).items():
        yield name, details(members, registry)
