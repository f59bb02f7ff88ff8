"""What `run` does before it runs: the protocols that it uses are released as they are, and not withdrawn.

Canaries that passed are remembered in the store for as long as nothing changes that could move them: the harness's
code, the lock's entry, the installed libraries, the processor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import machine
from bench.artifacts.store import Store
from bench.errors import LockError, UserError
from bench.finding import Finding
from bench.lock import differences, errata, lock_file
from bench.lock.canary_process import CanaryProcess
from bench.lock.lock_file import Lock
from bench.plugins.registry import Registry
from bench.protocol.definition import load
from bench.records import files

CODE = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy")


def guard(registry: Registry, protocols: Iterable[str], store: Path, lock_path: Path = lock_file.PATH) -> None:
    """Check the released ones of `protocols`. One that was never released, or that --plugin gives under a name of its
    own, is let through: its results are unofficial.

    Args:
        registry: where the protocols' files are.
        protocols: ids; a miniature is checked as what it is a miniature of, an own protocol as what it extends.
        store: folder of the artifacts.
        lock_path: of lock.json; the protocol files, errata.toml and teachers/ lie beside it.

    Raises:
        LockError: something differs from what the lock holds.
        UserError: a protocol was withdrawn.
    """
    present = lock_file.read(lock_path)
    named = {text.partition(":")[0] for text in protocols}
    unreleased = (named - present.protocols.keys()) & set(registry.protocol_names())
    names = sorted(named.union(*(load(registry, name).parents for name in unreleased)))
    _refuse_withdrawn(registry, names, lock_path)
    used = [name for name in names if name in present.protocols]
    if not used:
        return
    findings = differences.changed_defaults(present, lock_path)
    _stop_at(findings)  # under other defaults every unedited file looks edited
    for name in used:
        findings += differences.changed_protocol(name, present, lock_path)
    _stop_at(dict.fromkeys(findings))
    with CanaryProcess(present) as canaries:
        for name in used:
            _try_canaries(name, present, Store(store), canaries)


def _refuse_withdrawn(registry: Registry, names: list[str], lock_path: Path) -> None:
    path = lock_path.with_name("errata.toml")
    for name in sorted({each.protocol for each in errata.read(path)} & set(names) & set(registry.protocol_names())):
        withdrawal = errata.withdrawn(name, load(registry, name).digest, path)
        if withdrawal is not None:
            raise UserError(f"Protocol {name} was withdrawn on {withdrawal.date}: {withdrawal.reason}")


def _try_canaries(name: str, present: Lock, store: Store, canaries: CanaryProcess) -> None:
    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        _stop_at(canaries.moved(name))
        return {}, {"passed": files.now()}

    store.get("canaries", passed_under(name, present), make)


def _stop_at(findings: Iterable[Finding]) -> None:
    if message := "\n".join(f"{finding.where}: {finding.message}" for finding in findings):
        raise LockError(message)


def passed_under(name: str, present: Lock) -> dict[str, Any]:
    """Everything that can move the canaries of a protocol."""
    return {
        "protocol": name,
        "entry": present.protocols[name].model_dump(mode="json"),
        "tolerance": present.tolerance,
        "code": _content(CODE),
        "libraries": {library: version(library) for library in LIBRARIES},
        "environment": {key: value for key, value in machine.environment().items() if key != "instructions"},
    }


@cache
def _content(folder: Path) -> str:
    """Hex sha256 of all code in a folder."""
    content = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        content.update(file.relative_to(folder).as_posix().encode())
        content.update(file.read_bytes())
    return content.hexdigest()
