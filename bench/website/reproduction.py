"""The command lines that make a row again, and that hold it to a run on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from bench.errors import UserError
from bench.plugins.registry import Registry
from bench.plugins.spec import parse
from bench.reports.leaderboard.entries import Entry

_KINDS = {"method": "method", "compressor": "compressor", "dataset": "dataset"}


def run_again(entry: Entry, registry: Registry) -> str:
    """The `condensebench run` line whose trials are those of an entry."""
    trial = entry.trial
    words = ["condensebench", "run"]
    for option, key in (("--dataset", "dataset"), ("--protocol", "protocol"), ("--method", "method")):
        words += [option, trial[key]]
    if trial["compressor"] is not None:
        words += ["--compressor", trial["compressor"]]
    if trial["budget"] is not None:
        words += ["--budget", trial["budget"]]
    replicates = 1 + max(record.trial["replicate"] for record in entry.records)
    words += ["--student", trial["student"], "--ipc", str(trial["ipc"]), "--replicates", str(replicates)]
    for name in _unknown(entry, registry):
        words += ["--plugin", f"{name}.py"]
    return shlex.join([*words, "--results", "results/again"])


def _unknown(entry: Entry, registry: Registry) -> Iterable[str]:
    """Names of plugins that this installation lacks: whoever runs the row again needs their files."""
    for key, kind in _KINDS.items():
        spec = entry.trial[key]
        if spec is None:
            continue
        try:
            parse(registry, kind, spec)
        except UserError:
            yield spec.partition(":")[0]
