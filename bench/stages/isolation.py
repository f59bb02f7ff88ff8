"""Whether code of a method has run in this process: such a process never opens a test split."""

from __future__ import annotations

import os

_method_code_ran = False


def method_code_begins() -> None:
    """Code of a method runs in this process from now on."""
    global _method_code_ran
    _method_code_ran = True


def refuse_after_method_code() -> None:
    """Raise RuntimeError where a method has run in this process."""
    if _method_code_ran:
        raise RuntimeError(f"process {os.getpid()} has run a method's code; it must not open a test split")
