"""What a process has but once, and a plugin may leave changed: generators, settings, and functions of libraries."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Name -> how to read it, how to put it back.
_Kinds = Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]]
GENERATORS: _Kinds = {
    "random": (random.getstate, random.setstate),
    "numpy.random": (np.random.get_state, np.random.set_state),
    "torch": (torch.get_rng_state, torch.set_rng_state),
}
SETTINGS: _Kinds = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's deterministic mode": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "numpy's error handling": (np.geterr, lambda state: np.seterr(**state)),
}
# Where a replaced function would change what others compute: these, and the modules of this project.
LIBRARIES = (
    "builtins", "math", "random", "time", "os", "json", "hashlib", "numpy", "numpy.linalg", "numpy.random",
    "torch", "torch.linalg", "torch.nn", "torch.nn.functional", "torch.optim",
)  # fmt: skip
FOLLOWS = ("torch", "Storage")  # torch binds it anew with its default dtype
SHOWN = 3
_TORCH = str(Path(torch.__file__).parent)


class Snapshot:
    """All of it, as it is now."""

    def __init__(self) -> None:
        self._generators, self._settings = _texts(GENERATORS), _texts(SETTINGS)
        self._functions = dict(_functions())

    def moved_generators(self) -> list[str]:
        """The global generators that were advanced or seeded since."""
        return [name for name, state in _texts(GENERATORS).items() if state != self._generators[name]]

    def changed_settings(self) -> list[str]:
        """The settings that changed since, and the functions that were replaced, as a message names them."""
        settings = [name for name, state in _texts(SETTINGS).items() if state != self._settings[name]]
        replaced = [f"{where}.{name}" for where, name in self._replaced()]
        more = [f"{len(replaced) - SHOWN} more functions"] if len(replaced) > SHOWN else []
        return [*settings, *replaced[:SHOWN], *more]

    def put_functions_back(self) -> None:
        """Let every replaced function be what it was."""
        holders = dict(_holders())
        for where, name in self._replaced():
            setattr(holders[where], name, self._functions[where, name])

    def _replaced(self) -> list[tuple[str, str]]:
        now = dict(_functions())
        return [key for key, was in self._functions.items() if not _same(was, now.get(key))]


@contextmanager
def put_back() -> Iterator[None]:
    """What the block changes is put back, so that one plugin's bad manners spoil no other's check."""
    before = {name: read() for name, (read, _) in (*GENERATORS.items(), *SETTINGS.items())}
    snapshot = Snapshot()
    try:
        yield
    finally:
        snapshot.put_functions_back()
        for name, (_, put) in (*GENERATORS.items(), *SETTINGS.items()):
            put(before[name])


def _holders() -> Iterator[tuple[str, Any]]:
    """Name and object of every module that is watched, of this project's classes, and of two of torch's."""
    yield from (("torch.Tensor", torch.Tensor), ("torch.nn.Module", torch.nn.Module))
    for where, module in list(sys.modules.items()):
        ours = where.startswith(("bench.", "protocols."))
        if ours or where in LIBRARIES:
            yield where, module
        for name, value in list(vars(module).items()) if ours else ():
            if isinstance(value, type) and value.__module__ == where:
                yield f"{where}.{name}", value


def _same(was: Any, now: Any) -> bool:
    """Whether it is the same function, or torch has wrapped its own, as some of its modules do when they are loaded."""
    if now is was:
        return True
    code = getattr(now, "__code__", None)
    return getattr(now, "__wrapped__", None) is was and code is not None and code.co_filename.startswith(_TORCH)


def _functions() -> Iterator[tuple[tuple[str, str], Any]]:
    """(module or class, name) and object of every function and class."""
    for where, holder in _holders():
        for name, value in _names(holder):
            if callable(value) and (where, name) != FOLLOWS:
                yield (where, name), value


def _names(holder: Any) -> list[tuple[str, Any]]:
    """What a module holds, or a class with what it inherits: a name that is set on a class hides that of its base."""
    layers = reversed(holder.__mro__) if isinstance(holder, type) else [holder]
    return list({name: value for layer in layers for name, value in list(vars(layer).items())}.items())


def _texts(kinds: _Kinds) -> dict[str, str]:
    return {name: _text(read()) for name, (read, _) in kinds.items()}


def _text(state: Any) -> str:
    if isinstance(state, torch.Tensor):
        return state.numpy().tobytes().hex()
    if isinstance(state, tuple | list):
        return repr([part.tobytes() if isinstance(part, np.ndarray) else part for part in state])
    return repr(state)
