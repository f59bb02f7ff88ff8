"""Ways to the test split: what a plugin's arguments lead to, and what it called.

Python hides nothing from one who looks for it, so this is a check and not a wall: it finds attributes, closures and
containers that lead to a test split, and calls into the data sets' code while a plugin runs, however it came by them.
It does not see a file that is read by other means.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from bench.artifacts.opened import sealed_test
from bench.checks.plugins import worlds
from bench.plugins.registry import ROOT

DEPTH = 12
LIMIT = 200_000  # objects looked at
# Nothing below these leads on: code is not state, and arrays hold numbers.
_LEAVES = (
    *(str, bytes, int, float, complex, bool, type(None), type, ModuleType, BuiltinFunctionType, CodeType),
    *(np.ndarray, np.dtype, torch.Tensor, torch.dtype, torch.device),
)
_SEALED = {worlds.open_test.__code__: "the test split of its data set", sealed_test.__code__: "the test split"}
_DATASETS = str(ROOT / "protocols" / "datasets") + os.sep
_LIBRARY = os.path.join("sklearn", "datasets") + os.sep
_WORLDS = worlds.load.__code__


def ways_to_the_test_split(**starts: Any) -> list[str]:
    """Paths such as `ctx._data.dataset.test` from objects to what opens a test split, the nearest first.

    Attributes, items, closures, defaults and bound objects are followed; module globals are not, since everything that
    is imported leads everywhere.
    """
    ways: list[str] = []
    queue = deque((value, name, 0) for name, value in starts.items())
    seen: set[int] = set()
    keep: list[Any] = []  # objects made on the way stay alive, so that no address is used twice
    while queue and len(seen) < LIMIT:
        value, path, depth = queue.popleft()
        if id(value) in seen or isinstance(value, _LEAVES):
            continue
        seen.add(id(value))
        keep.append(value)
        if isinstance(value, FunctionType) and value.__code__ is worlds.open_test.__code__:
            ways.append(path)
        elif depth < DEPTH:
            queue.extend((below, f"{path}{step}", depth + 1) for step, below in _below(value))
    return ways


def _below(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, FunctionType):
        names = value.__code__.co_freevars
        for name, cell in zip(names, value.__closure__ or (), strict=True):
            try:
                yield f".<{name}>", cell.cell_contents
            except ValueError:  # not filled yet
                continue
        yield from ((".<default>", default) for default in value.__defaults__ or ())
        yield from ((f".<{name}>", default) for name, default in (value.__kwdefaults__ or {}).items())
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]" if isinstance(key, (str, int)) else "[...]", item) for key, item in value.items())
        yield from (("[key]", key) for key in value)
    else:
        named = getattr(value, "__dict__", {})
        if isinstance(named, dict):
            yield from ((f".{name}", item) for name, item in named.items())
        yield from (("[...]", item) for item in gc.get_referents(value) if item is not named)


@contextmanager
def watched_calls() -> Iterator[list[str]]:
    """Collect what was called of the data sets' code, in this thread and in those that start meanwhile."""
    called: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (what := _forbidden(frame.f_code)) and what not in called:
            called.append(what)

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)
        threading.setprofile(before)


def _forbidden(code: CodeType) -> str | None:
    if code in _SEALED:
        return f"it opened {_SEALED[code]}"
    if code is _WORLDS:
        return "it loaded its data set again, test split and all"
    if code.co_filename.startswith(_DATASETS):
        return f"it called {code.co_name} of protocols/datasets/{code.co_filename[len(_DATASETS) :]}"
    if _LIBRARY in code.co_filename and code.co_name.startswith(("load_", "fetch_")):
        return f"it called {code.co_name} of sklearn.datasets"
    return None
