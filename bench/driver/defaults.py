"""What is taken where the user names nothing: the store, the device, the protocols, the arithmetic."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bench import machine
from bench.plugins.registry import Registry
from bench.plugins.spec import parse

DEFAULT_PROTOCOLS = ("small-soft-v1",)


def default_store() -> Path:
    """Where artifacts are kept: $CONDENSEBENCH_STORE, else .condensebench in the current folder."""
    return Path(os.environ.get("CONDENSEBENCH_STORE", ".condensebench"))


def default_device() -> str:
    """`cuda` where there is a CUDA device, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def work_as_runs_do(registry: Registry, datasets: Iterable[str]) -> None:
    """Let this process have the arithmetic that a run of these data sets has by default, so that a verb which works
    without Ray makes what runs make. Call it before numpy and torch are loaded. Raises UserError."""
    if default_arithmetic(registry, datasets) == machine.PORTABLE:
        machine.become_portable()


def default_arithmetic(registry: Registry, datasets: Iterable[str]) -> str:
    """`portable` where every data set says so (ARITHMETIC in its module), else `native`. Raises UserError."""
    wishes = {parse(registry, "dataset", spec).plugin.constants.get("ARITHMETIC", machine.NATIVE) for spec in datasets}
    return machine.PORTABLE if wishes == {machine.PORTABLE} else machine.NATIVE
