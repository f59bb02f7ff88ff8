"""Releasing protocols: the only way in which protocols/lock.json grows. What stands there is never written anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import LockError, UserError, unknown
from bench.finding import as_text
from bench.lock import differences, lock_file
from bench.lock.canary import LIBRARY_NETWORKS, network, run
from bench.lock.check_protocols import check_file
from bench.lock.lock_file import Canary, Lock, Released
from bench.plugins.registry import Registry, discover
from bench.protocol.definition import Protocol
from bench.protocol.miniature import all_cells, short, structures, written
from bench.protocol.recipe import Recipe

DIGITS = 12  # significant ones of what the lock holds, far below every tolerance


def release(names: Sequence[str], path: Path = lock_file.PATH, registry: Registry | None = None) -> str:
    """Add protocols to the lock, all of them or none; returns what to tell.

    Args:
        names: ids; each is a file NAME.toml beside the lock.
        path: of the lock.
        registry: what the files may name; None: what this project offers.

    Raises:
        LockError: an id is released already, or something differs from what the lock holds.
        UserError: a file is not there, leaves a value out, or fails `check protocols`; or its digest was withdrawn.
    """
    registry = registry or discover()
    present = lock_file.read(path)
    for name in names:
        if name in present.protocols:
            raise LockError(
                f"{name} was released on {present.protocols[name].released}; a released protocol never changes. For "
                f"other values copy its file to {path.parent / differences.next_version(name)}.toml, edit it and "
                "release that."
            )
        _file(name, path)  # before the canaries, which take seconds
    if broken := differences.everything(present, path):
        raise LockError(f"Nothing is released while the lock is broken.\n{as_text(broken, str(path))}")
    protocols = [_checked(name, path, registry) for name in dict.fromkeys(names)]
    for protocol in protocols:
        for parent in protocol.parents:
            if parent not in present.protocols and parent not in names:
                raise LockError(
                    f"{protocol.name} extends {parent}, which is not released, so its values could still change. "
                    f"Release both: condensebench lock --release {parent} --release {protocol.name}"
                )
    teachers = {teacher for protocol in protocols for teacher in differences.teacher_names(protocol)}
    added = Lock(
        tolerance=present.tolerance,
        defaults=_grown(present.defaults, differences.recipe_defaults(Recipe)),
        teachers={
            **{name: differences.teacher_digest(path.parent / "teachers" / f"{name}.toml") for name in teachers},
            **present.teachers,
        },
        networks={**{name: _rounded(network(name)) for name in LIBRARY_NETWORKS}, **present.networks},
        protocols={**present.protocols, **{protocol.name: _entry(protocol) for protocol in protocols}},
    )
    lock_file.write(added, path)
    lines = [f"{p.name}: {p.digest}, {len(added.protocols[p.name].canaries)} canaries" for p in protocols]
    return "\n".join([*lines, f"Released in {path}. Commit it together with the files."])


def _file(name: str, path: Path) -> Path:
    file = path.parent / f"{name}.toml"
    if not file.is_file():
        raise UserError(unknown("protocol file", name, (p.stem for p in path.parent.glob("*-v*.toml"))))
    return file


def _checked(name: str, path: Path, registry: Registry) -> Protocol:
    file = _file(name, path)
    errors = [finding for finding in check_file(file, registry, path) if finding.severity == "error"]
    if errors:
        raise UserError(f"{name} cannot be released.\n{as_text(errors, str(file))}")
    return differences.load(file)


def _entry(protocol: Protocol) -> Released:
    today = datetime.now(UTC).date()
    cells = structures(all_cells(protocol))
    return Released(digest=protocol.digest, released=today, canaries=tuple(_canary(cell) for cell in cells))


def _canary(cell: Any) -> Canary:
    recipe, teachers = short(cell.recipe), min(cell.teachers, 2)
    outcome = run(recipe, teachers)
    return Canary(
        cell=cell.at,
        resolved=cell.resolved,
        recipe=written(recipe),
        teachers=teachers,
        losses=_rounded(outcome.losses),
        test_loss=_rounded([outcome.test_loss])[0],
        weights=_rounded([outcome.weights])[0],
    )


def _grown(locked: dict[str, Any], present: dict[str, Any]) -> dict[str, Any]:
    """What is locked, and the fields that are new."""
    both = {key: _grown(locked[key], present[key]) for key in locked if isinstance(locked[key], dict)}
    return {**present, **locked, **both}


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
