"""The plan of what the user names, and what is taken where nothing is named: store, device, protocols, arithmetic."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from bench import machine
from bench.errors import UserError, unknown
from bench.plugins.registry import Registry
from bench.plugins.spec import parse
from bench.trials.plan import Grid, Plan, read_plan

DEFAULT_PROTOCOLS = ("small-soft-v1",)


def make_plan(*, plan: str | Path | None = None, **grid: Any) -> Plan:
    """A plan file, or one grid from keyword arguments (see bench.trials.plan.Grid). Raises UserError."""
    given = {key: value for key, value in grid.items() if value not in (None, (), [])}
    if plan is not None:
        if set(given) - {"replicates"}:
            raise UserError(
                f"A plan file says what to run; leave out {', '.join(sorted(set(given) - {'replicates'}))}."
            )
        return Plan([Grid(**{**grid.__dict__, **given}) for grid in read_plan(plan).grids])
    allowed = [each.name for each in fields(Grid)]
    for key in given:
        if key not in allowed:
            raise UserError(unknown("argument", key, allowed))
    return Plan([Grid(**{"protocols": DEFAULT_PROTOCOLS, **given})])


def default_store() -> Path:
    """Where artifacts are kept: $CONDENSEBENCH_STORE, else .condensebench in the current folder."""
    return Path(os.environ.get("CONDENSEBENCH_STORE", ".condensebench"))


def default_device() -> str:
    """`cuda` where torch can use a graphics card, else `cpu`. Torch, which takes a second to load, is asked only where
    the machine has a driver for one: NVIDIA's library, or the device of AMD's kernel driver."""
    if not (_loads("libcuda.so.1") or Path("/dev/kfd").exists()):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def work_as_runs_do(registry: Registry, datasets: Iterable[str]) -> None:
    """Let this process have the arithmetic that a run of these data sets has by default, so that a verb which works
    without Ray makes what runs make. Call it before numpy and torch are loaded. Raises UserError."""
    if default_arithmetic(registry, datasets) == machine.PORTABLE:
        machine.become_portable()


def default_arithmetic(registry: Registry, datasets: Iterable[str]) -> str:
    """`portable` where every data set says so (ARITHMETIC in its module), else `native`. Raises UserError."""
    wishes = {parse(registry, "dataset", spec).plugin.constants.get("ARITHMETIC", machine.NATIVE) for spec in datasets}
    return machine.PORTABLE if wishes == {machine.PORTABLE} else machine.NATIVE
