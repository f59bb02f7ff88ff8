"""Functions that numba compiles."""

from __future__ import annotations

from collections.abc import Callable

from numba import njit


def compiled(function: Callable) -> Callable:
    """Compiled when first called, and kept on disk where that can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither beside its file nor in the user's cache folder
        return njit(nogil=True)(function)
