"""The verb `claims`: what the literature says, held to records."""

from __future__ import annotations

import heapq
import shlex
import sys
from pathlib import Path

import click

from bench.errors import UserError

GROUP = "look"


@click.command()
@click.argument("file", default="results/claims.toml", metavar="[FILE]")
@click.option("--results", multiple=True, metavar="DIR", help="Folder of records; repeatable [default: FILE's own].")
@click.option("--out", metavar="FILE", help="Write the page instead of printing it.")
def command(file: str, results: tuple[str, ...], out: str | None) -> int:
    """Hold claims of the literature (a TOML file) to records: a page of paired differences and verdicts.

    Without --results, the folders that the file names are read, as far as they are there. Exit code 1 if a line of the
    records was edited.
    """
    from bench.plugins.registry import discover
    from bench.records.files import latest
    from bench.reports.claims.claim_file import check_names, load_folders, read_claims
    from bench.reports.claims.claims_page import page
    from bench.reports.claims.verdict import weigh
    from bench.reports.leaderboard.entries import entries_of

    claims = read_claims(file)
    named = [str(Path(file).parent / folder) for folder in claims.records]
    if not results and not named:
        raise UserError(f"{file} names no records. Type: condensebench claims {file} --results DIR")
    folders, absent = load_folders(results or named)
    if results and absent:
        raise UserError(f"no records at {absent[0]}: expected a folder with .jsonl record files, or one such file.")
    for note in (note for loaded in folders.values() for note in loaded.notes):
        print(note, file=sys.stderr)
    # Of a trial's records in a folder the last line counts, even where the clock was set back; folders go by time.
    records = latest(heapq.merge(*folders.values(), key=lambda record: record.finished))
    entries = entries_of(sorted(records, key=lambda record: record.finished))
    check_names(claims, entries, discover(), file)
    options = [part for folder in results for part in ("--results", folder)]
    typed = shlex.join(["condensebench", "claims", file, *options, *(["--out", out] if out else [])])
    text = page([weigh(claim, entries) for claim in claims.claim], typed, folders, absent, claims.reading)
    if out:
        Path(out).write_text(text, encoding="utf-8")
        print(f"page: {out}")
    else:
        print(text, end="")
    return int(any(loaded.tampered for loaded in folders.values()))
