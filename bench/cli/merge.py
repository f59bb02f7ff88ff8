"""The verb `merge`: records of several folders in one, each line once."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.errors import UserError
from bench.places import absolute_path

GROUP = "run"


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@click.option("--into", required=True, metavar="DIR", help="Folder that gets the lines it does not have yet.")
def command(folders: tuple[str, ...], into: str) -> int:
    """Bring the records of several folders together.

    A line that stands in several folders is written once. Nothing is averaged: trials with several results are named,
    and the last line counts. Exit code 1 if results contradict each other, or a line was edited.
    """
    from bench.records import files
    from bench.records.union import disagreements

    if absolute_path(into) in [absolute_path(folder) for folder in folders]:
        raise UserError(
            f"--into {into} is one of the folders to read. Name another one, for instance --into results/all."
        )
    loaded = files.merge(folders)
    with files.locked(into):
        present = files.load(into) if any(Path(into).glob("*.jsonl")) else files.Loaded()
        known = {record.digest for record in present}
        added = [record for record in loaded if record.digest not in known]
        for record in added:
            files.append(Path(into) / "records.jsonl", record)
        cases = disagreements(files.load(into)) if added or known else []
    for problem in loaded.problems_by_kind:
        print(problem, file=sys.stderr)
    for case in cases:
        if case.kind != "other-code":
            print(f"{case.kind}: {case.trial}: {case.text} ({', '.join(case.places)})", file=sys.stderr)
    conflicts = sum(case.kind == "conflict" for case in cases)
    print(f"{into}: {len(added)} lines added, {len(loaded) - len(added)} were there; {conflicts} contradictions")
    return int(bool(conflicts) or loaded.tampered)
