"""The verb `accept`: somebody's submission, judged and added to a shared leaderboard."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import DATA, JOBS, JSON, PLUGIN, STORE, limits_of, plugin_limits

GROUP = "publish"
TIMEOUT = 3600.0  # seconds of one call of a stranger's plugin


@click.command()
@click.argument("archive", metavar="FILE")
@click.option("--into", required=True, metavar="DIR", help="Folder of the leaderboard; it need not be there yet.")
@click.option(
    "--sample", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="New records to run again."
)
@click.option("--lot", metavar="TEXT", help="Decides which records run again [default: drawn now].")
@click.option("--dry-run", is_flag=True, help="Read, and hold to the rules; run nothing, write nothing.")
@JOBS
@plugin_limits("3600, an hour")
@STORE
@DATA
@PLUGIN
@JSON
def command(
    *,
    archive: str,
    into: str,
    sample: int,
    lot: str | None,
    dry_run: bool,
    jobs: int | None,
    stage_timeout: float | None,
    stage_memory: float | None,
    stage_processes: int | None,
    store: str | None,
    plugins: tuple[str, ...],
    as_json: bool,
) -> int:
    """Hold a submission to all rules, run a sample of it again, and add it to a leaderboard.

    Every refusal has the name of its rule, and a refused submission changes nothing. Plugins of the submission run in
    processes with limits; look at them first, with --dry-run.
    Exit code 1 if it is refused, 130 if interrupted.
    """
    import os

    from bench import finding
    from bench.cli.progress import named_stages, progress_of_reruns
    from bench.driver.defaults import default_store
    from bench.submission.judging import JudgingOptions, accept
    from bench.submission.private_texts import without_secrets

    without_secrets(os.environ)  # plugins of others inherit it
    ruling = accept(
        Path(archive),
        JudgingOptions(
            into=Path(into),
            store=Path(store) if store else default_store(),
            plugins=plugins,
            sample=sample,
            lot=lot,
            dry_run=dry_run,
            jobs=jobs,
            limits=limits_of(stage_timeout or TIMEOUT, stage_memory, stage_processes),
            progress=progress_of_reruns,
            named_stages=named_stages,
        ),
    )
    print(finding.as_json(ruling.findings) if as_json else finding.as_text(ruling.findings, ruling.summary))
    if as_json:
        click.echo(f"{ruling.summary}.", err=True)
    return int(not ruling.accepted)
