"""The verb `submit`: records, packed for a shared leaderboard."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import DATA, JOBS, JSON, PLUGIN, STORE
from bench.places import absolute_path

GROUP = "publish"


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--out", metavar="FILE", help="The archive [default: NAME-submission.zip, by the folder's name].")
@click.option("--plan", metavar="FILE", help="The plan of these records [default: one is made of them].")
@click.option(
    "--sample", type=click.IntRange(min=1), default=3, show_default=True, metavar="N", help="Records to run again."
)
@JOBS
@STORE
@DATA
@PLUGIN
@JSON
def command(
    folder: str,
    out: str | None,
    plan: str | None,
    sample: int,
    jobs: int | None,
    store: str | None,
    plugins: tuple[str, ...],
    as_json: bool,
) -> int:
    """Pack the records of a folder for a shared leaderboard, once they pass its rules.

    The archive holds the records, their plan, the plugins, the environment, and what the checks found. It holds no path
    of this machine. Exit code 1 and no archive if a check finds an error, 130 if interrupted.
    """
    from bench import finding
    from bench.cli.progress import progress_of_reruns
    from bench.driver.defaults import default_store
    from bench.errors import UserError
    from bench.submission.submitting import submit, write_archive

    archive = Path(out or f"{absolute_path(folder).name}-submission.zip")
    if archive.is_dir() or not archive.parent.is_dir():
        raise UserError(f"--out {archive}: name a file in a folder that is there, such as --out mine-submission.zip.")
    packed = submit(
        Path(folder),
        plugins=plugins,
        plan=Path(plan) if plan else None,
        sample=sample,
        store=Path(store) if store else default_store(),
        jobs=jobs,
        progress=progress_of_reruns,
    )
    end = "nothing was packed"
    if packed.archive is not None:
        write_archive(archive, packed.archive)
        end = f"{archive} ({len(packed.archive):,} bytes): condensebench accept {archive.name} --into DIR takes it"
    print(finding.as_json(packed.findings) if as_json else finding.as_text(packed.findings, packed.summary))
    click.echo(end, err=as_json)
    return finding.exit_code(packed.findings)
