"""A data set that a plugin gives, opened first in a process of its own, with limits.

The harness has to open it where it works itself. Code that would end that process, or hold it up, is found here. An
exception as usual is none of that: whoever opens the data set tells it.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from bench.artifacts.opened import Data
from bench.confinement.plugin_limits import Limits
from bench.confinement.plugin_side import Peer
from bench.confinement.process import plugin_process
from bench.confinement.watch import Watched
from bench.plugins.spec import Spec


def try_to_open(spec: Spec, root: Path, limits: Limits, *, splits: bool = False) -> None:
    """Open a data set where nothing can be lost. `root`: the folder of the data sets' files. `splits`: its splits too.

    Raises:
        LimitExceeded: by the name of the limit.
        PluginDied: its process ended.
        PluginFailure: it would end a program, as SystemExit does.
    """
    with (
        tempfile.TemporaryDirectory(prefix="condensebench-data-") as exchange,
        plugin_process(f"dataset '{spec}'", limits, Path(exchange)) as process,
    ):
        process.call("bench.artifacts.tried:open_there", spec, str(root), splits)


def open_there(peer: Peer, spec: Spec, root: str, splits: bool) -> None:
    """What `try_to_open` calls in the process."""
    peer.watch(Watched(str(spec.plugin.path)))  # so that processes are counted before they start
    with suppress(Exception):
        dataset = Data(spec, Path(root)).dataset
        for split in (dataset.train, dataset.test) if splits else ():
            split()
