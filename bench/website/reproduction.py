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
    for file in _unknown(entry, registry):
        words += ["--plugin", file]
    return shlex.join([*words, "--results", "results/again"])


def _unknown(entry: Entry, registry: Registry) -> Iterable[str]:
    """Files of plugins and protocols that this installation lacks: whoever runs the row again needs them."""
    for key, kind in _KINDS.items():
        spec = entry.trial[key]
        if spec is None:
            continue
        try:
            parse(registry, kind, spec)
        except UserError:
            yield f"{spec.partition(':')[0]}.py"
    if not knows_protocol(registry, entry.trial["protocol"]):
        yield f"{entry.trial['protocol'].partition(':')[0]}.toml"


def knows_protocol(registry: Registry, protocol: str) -> bool:
    """Whether a protocol, or what it is a change of (`small-soft-v1:recipe.batch=100`), is there."""
    return protocol.partition(":")[0] in registry.protocol_names()
