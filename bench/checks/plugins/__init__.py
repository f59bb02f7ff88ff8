"""`check plugins`: methods, compressors and data sets are held to their contracts."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`checks_for` and `errors`, where tests that version 0.1 wrote look for them."""
    if name in ("checks_for", "errors"):
        from bench.checks.plugins import check_plugins

        return getattr(check_plugins, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
