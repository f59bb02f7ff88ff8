"""Checks of plugins and records: every rule has a name, every finding says where and what to do.

This face is what the tests import that `condensebench new` writes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.checks.plugins.check_plugins import checks_for, errors
    from bench.lock.check_protocols import check_file
    from bench.plugins.registry import discover
    from bench.protocol.definition import load

__all__ = ["check_file", "checks_for", "discover", "errors", "load"]

_PLACES = {
    "check_file": "bench.lock.check_protocols",
    "checks_for": "bench.checks.plugins.check_plugins",
    "discover": "bench.plugins.registry",
    "errors": "bench.checks.plugins.check_plugins",
    "load": "bench.protocol.definition",
}


def __getattr__(name: str) -> Any:
    """Imported when asked for: `check records` needs no torch, which the checks of plugins do."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
