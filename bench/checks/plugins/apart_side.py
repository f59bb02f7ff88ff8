"""What runs in the process in which a plugin is checked; bench/checks/plugins/apart.py calls it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bench.checks.plugins import check_plugins
from bench.checks.plugins.workshop import Workshop
from bench.confinement.plugin_side import Peer
from bench.confinement.watch import Watched
from bench.plugins.registry import Registry, discover


def train_teachers(peer: Peer, store: str) -> None:  # noqa: ARG001 (every call gets it)
    """Teachers of the tiny data sets, in a store from which each plugin's is copied. No plugin runs here."""
    shop = Workshop(Registry(discover().all("network")), Path(store))
    for world in ("plain", "colour", "one-class"):
        shop.teacher(shop.data(world))


def open_plugin(
    peer: Peer, registry: Registry, kind: str, name: str, folder: str, teachers: str, watched: Watched | None
) -> None:
    """Prepare the checks of one plugin. What it and its checks write goes below `folder`."""
    temporary = Path(folder) / "temporary"
    temporary.mkdir()
    tempfile.tempdir = str(temporary)
    store = Path(folder) / "store"
    shutil.copytree(teachers, store)
    peer.kept["checks"] = dict(check_plugins.bound(registry.get(kind, name), Workshop(registry, store)))
    if watched is not None:
        peer.watch(watched)


def check(peer: Peer, rule: str) -> list[tuple[str, str, str]]:
    """(rule, message, severity) of what a rule finds."""
    return [(finding.rule, finding.message, finding.severity) for finding in peer.kept["checks"][rule]()]
