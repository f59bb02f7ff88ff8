"""Protocol files: what is fixed for every cell."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`load`, where tests that version 0.1 wrote look for it."""
    if name == "load":
        from bench.protocol import definition

        return definition.load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
