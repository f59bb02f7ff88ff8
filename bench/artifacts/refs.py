"""What stages pass to one another, and what they work with: the store, the plugins, the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from bench.artifacts.opened import Data
from bench.artifacts.store import Artifact, Store, read
from bench.artifacts.tried import try_to_open
from bench.confinement.plugin_limits import Limits, PluginFailure
from bench.errors import MachineError
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec, parse


@dataclass(frozen=True)
class DatasetRef:
    """What later stages need to know of a data set without opening it."""

    spec: str
    digest: str  # of both splits and of what else `load` fixes
    classes: int
    channels: int
    size: int
    mirror: bool
    train_images: int
    train_digest: str
    test_digest: str
    train_in_test: int  # training images that equal a test image


@dataclass(frozen=True)
class CondensedRef:
    """A condensed set in the store."""

    address: str  # path in the store
    images: int
    bytes_images: int
    seconds: float
    random: bool  # whether the method asked for a generator; if not, all replicates share this set
    provenance: Mapping[str, Any]
    conduct: tuple[str, ...] | None = None  # what the method did beside its task (bench.confinement.watch)
    backbones: str | None = None  # digest of the networks besides the teacher that the method uses, if it uses any


@dataclass(frozen=True)
class LabelsRef:
    """One shard of encoded labels in the store."""

    address: str
    seconds: float
    conduct: tuple[str, ...] | None = None  # as of CondensedRef; None where the compressor is one of this project


class Workspace:
    """What a stage works with: the store, the plugins, the device. Made once in every worker process.

    With `checks`, a data set that another machine described must be the same here, or opening it raises MachineError.
    `arithmetic` is that of the processes that work here (bench.machine); None: of this one. `limits`: of the processes
    of plugins. `results`: folders of records, in which plugins have nothing to write.
    """

    def __init__(
        self,
        store: str | Path,
        registry: Registry,
        device: str = "cpu",
        *,
        checks: bool = False,
        arithmetic: str | None = None,
        limits: Limits | None = None,
        results: tuple[Path, ...] = (),
    ) -> None:
        self.store = Store(store, arithmetic)
        self.limits = limits or Limits()
        self.results = results
        self.registry = registry
        self.device = device
        self.checks = checks
        self._tried: dict[str, PluginFailure | None] = {}  # data sets of plugins -> how they failed to open
        self.gpu_share = 0.0  # of the device, that the present task was given

    @lru_cache(maxsize=4)  # noqa: B019 (a workspace lives as long as its process)
    def data(self, spec: str) -> Data:
        """The data set, opened when it is first used. One that a plugin gives is opened in a process of its own first
        (bench/artifacts/tried.py), which raises PluginFailure where it has no end, or a bad one."""
        parsed, root = parse(self.registry, "dataset", spec), self.store.root / "datasets"
        if parsed.plugin.foreign:
            self._try(spec, parsed, root)
        return Data(parsed, root)

    def _try(self, text: str, spec: Spec, root: Path) -> None:
        """Once: what took until its limit takes it no second time."""
        if text not in self._tried:
            try:
                try_to_open(spec, root, self.limits)
                self._tried[text] = None
            except PluginFailure as failure:
                self._tried[text] = failure
        before = self._tried[text]
        if before is not None:
            raise before

    @lru_cache(maxsize=4)  # noqa: B019
    def described(self, dataset: DatasetRef) -> Data:
        """The data set, opened; its training split is the one that was described."""
        data = self.data(dataset.spec)
        if self.checks:
            self.same(dataset, "train", data.dataset.train().digest(), dataset.train_digest)
        return data

    @staticmethod
    def same(dataset: DatasetRef, split: str, digest: str, described: str) -> None:
        """Raise MachineError unless both digests are equal."""
        if digest != described:
            raise MachineError(
                f"dataset '{dataset.spec}': the {split} split on one machine differs from that on another (digests "
                f"{digest[:8]} and {described[:8]}). Install the same versions of the packages that it is made with."
            )

    @cached_property
    def packages(self) -> dict[str, str]:
        """Versions of what this project depends on: a data set may be drawn or decoded by any of them."""
        names = [r.split(";")[0].split(">")[0].strip() for r in requires("condensebench") or () if "extra ==" not in r]
        return {name: version(name) for name in sorted(names)}


def read_condensed(ws: Workspace, condensed: CondensedRef) -> Artifact:
    """The condensed set from the store: the arrays `images` and `labels`; `indices` of real images, and `soft_labels`
    where the method hands them in."""
    return read(ws.store.root / condensed.address)
