"""Conduct, the same for methods and compressors: a call depends on its arguments and seeds, and leaves no trace.

An ordinary call is made a few times under watch: with the global generators seeded alike, seeded otherwise, and for
other replicates. What it changed is put back, so that one plugin's bad manners spoil no other's check.
"""

from __future__ import annotations

import os
import random
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.checks.plugins.kit import Call, Subject, error_text
from bench.checks.plugins.reach import watched_calls, ways_to_the_test_split

# What a process has but once: name, how to read it, how to put it back.
_GENERATORS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "random": (random.getstate, random.setstate),
    "numpy.random": (np.random.get_state, np.random.set_state),
    "torch": (torch.get_rng_state, torch.set_rng_state),
}
_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's deterministic mode": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "numpy's error handling": (np.geterr, lambda state: np.seterr(**state)),
}


@dataclass
class Observation:
    """What one watched call did."""

    result: str | None = None  # digest of what came back; None if the call ended with an error
    error: str = ""  # that error
    asked_for_randomness: bool = False  # for a generator of the context
    generators: list[str] = field(default_factory=list)  # global ones, advanced or seeded
    settings: list[str] = field(default_factory=list)  # changed
    lent: list[str] = field(default_factory=list)  # changed
    files: list[str] = field(default_factory=list)  # left outside the scratch folder
    ways: list[str] = field(default_factory=list)  # from its arguments to the test split
    called: list[str] = field(default_factory=list)  # of the data sets' code


@dataclass(frozen=True)
class Conduct:
    """Watched calls of one plugin."""

    first: Observation
    again: Observation  # all as in the first
    otherwise: Observation  # the global generators seeded otherwise
    replicates: tuple[Observation, ...]  # other seeds from the context


_conducts: weakref.WeakKeyDictionary[Subject, Conduct] = weakref.WeakKeyDictionary()


def conduct(subject: Subject) -> Conduct:
    """Watched once for all the checks below."""
    if subject not in _conducts:
        _ = subject.plugin.module  # what an import does is not the call's doing
        first = observe(subject, closely=True)
        again, otherwise = observe(subject), observe(subject, globally=2)
        _conducts[subject] = Conduct(first, again, otherwise, tuple(observe(subject, replicate=r) for r in (1, 2, 3)))
    return _conducts[subject]


def observe(subject: Subject, *, replicate: int = 0, globally: int = 1, closely: bool = False) -> Observation:
    """Make an ordinary call with the global generators seeded by `globally`. `closely` looks for the test split too,
    which is slow."""
    seen = Observation()
    with ExitStack() as stack:
        folder = stack.enter_context(_own_folders())
        stack.enter_context(_put_back())
        call: Call = stack.enter_context(subject.call(replicate))
        random.seed(globally)
        np.random.seed(globally)  # noqa: NPY002 (the global generator is what is watched)
        torch.default_generator.manual_seed(globally)
        before, generators, settings = call.lent(), _states(_GENERATORS), _states(_SETTINGS)
        environment = dict(os.environ)
        if closely:
            seen.ways = ways_to_the_test_split(**call.arguments)
        with ExitStack() as watch:
            called = watch.enter_context(watched_calls()) if closely else []
            try:
                seen.result = call.run()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                seen.error = error_text(error, subject.plugin)
        seen.called, seen.asked_for_randomness = called, call.ctx.asked_for_randomness
        seen.generators, seen.settings = _changed(generators, _GENERATORS), _changed(settings, _SETTINGS)
        if Path.cwd() != folder / "current":
            seen.settings.append("the current folder")
        names = {key for key in {*environment, *os.environ} if environment.get(key) != os.environ.get(key)}
        seen.settings += [f"the environment variable {name}" for name in sorted(names)]
        seen.lent = [name for name, digest in call.lent().items() if digest != before[name]]
        seen.files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return seen


def leaves_global_generators_alone(subject: Subject) -> Iterator[str]:
    """Neither read from nor advanced: random, numpy.random and torch."""
    watched = conduct(subject)
    advice = "Draw from ctx.numpy('a name') or ctx.torch('a name')."
    if watched.first.generators:
        yield f"it moved the global generator of {' and '.join(watched.first.generators)}. {advice}"
    if watched.first.result == watched.again.result != watched.otherwise.result:
        yield f"its result changes when the global generators are seeded differently. {advice}"


def leaves_the_process_as_it_was(subject: Subject) -> Iterator[str]:
    """Current folder, environment variables, torch's and numpy's settings."""
    if changed := conduct(subject).first.settings:
        yield f"it changed {', '.join(changed)}. Put it back before returning (a with-block does)."


def leaves_what_it_is_given_as_it_was(subject: Subject) -> Iterator[str]:
    """Training images and labels, the teacher, or the labels that are encoded."""
    if changed := conduct(subject).first.lent:
        yield f"it changed {', '.join(changed)}, which others share. Work on a copy."


def leaves_no_files(subject: Subject) -> Iterator[str]:
    """Nothing in the current folder or in the folder for temporary files; ctx.scratch is free to use."""
    if files := conduct(subject).first.files:
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        yield f"it left {', '.join(files[:3])}{more} behind. Write to ctx.scratch, which is removed after the call."


def has_no_way_to_the_test_split(subject: Subject) -> Iterator[str]:
    """Neither in what it is handed nor in what it calls."""
    first = conduct(subject).first
    if first.ways:
        yield f"what it is handed leads to the test split: {first.ways[0]}"
    if first.called:
        yield f"while it ran, {'; '.join(first.called[:3])}. A plugin sees the training split alone."


def gives_the_same_twice(subject: Subject) -> Iterator[str]:
    """The same seed, the same bytes; without a generator from the context, the same for every seed."""
    watched = conduct(subject)
    if watched.first.result is None:
        yield f"an ordinary call ends with {watched.first.error}"
    elif watched.first.result != watched.again.result:
        yield "two calls with the same arguments and seeds give different results."
    elif not watched.first.asked_for_randomness and any(
        each.result != watched.first.result for each in watched.replicates
    ):
        yield "its result differs between replicates, though it asked the context for no generator."


@contextmanager
def _own_folders() -> Iterator[Path]:
    """A temporary folder that holds the current folder and that for temporary files."""
    before, temporary = Path.cwd(), tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="condensebench-watched-") as name:
        folder = Path(name).resolve()
        (folder / "current").mkdir()
        (folder / "temporary").mkdir()
        os.chdir(folder / "current")
        tempfile.tempdir = str(folder / "temporary")
        try:
            yield folder
        finally:
            tempfile.tempdir = temporary
            os.chdir(before)


@contextmanager
def _put_back() -> Iterator[None]:
    states = {name: pair[0]() for name, pair in (_GENERATORS | _SETTINGS).items()}
    environment = dict(os.environ)
    try:
        yield
    finally:
        for name, (_, put) in (_GENERATORS | _SETTINGS).items():
            put(states[name])
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)


def _states(what: Mapping[str, tuple[Callable[[], Any], Any]]) -> dict[str, str]:
    return {name: _text(read()) for name, (read, _) in what.items()}


def _changed(before: Mapping[str, str], what: Mapping[str, tuple[Callable[[], Any], Any]]) -> list[str]:
    return [name for name, state in _states(what).items() if state != before[name]]


def _text(state: Any) -> str:
    if isinstance(state, torch.Tensor):
        return state.numpy().tobytes().hex()
    return (
        repr([part.tobytes() if isinstance(part, np.ndarray) else part for part in state])
        if isinstance(state, (tuple, list))
        else repr(state)
    )
