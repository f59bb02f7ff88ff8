"""Conduct, the same for methods and compressors: a call depends on its arguments and seeds, and leaves no trace.

An ordinary call is made a few times under watch: with the global generators seeded alike, seeded otherwise, and for
other replicates. What it changed is put back, so that one plugin's bad manners spoil no other's check.
"""

from __future__ import annotations

import os
import random
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from bench.checks.plugins.kit import Call, Subject, error_text
from bench.checks.plugins.process_state import Snapshot, put_back
from bench.checks.plugins.reach import watched_calls, ways_to_the_test_split


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
        _ = subject.plugin.module  # what an import does is not the call's doing: Subject.import_changed
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
        stack.enter_context(_environment_put_back())
        stack.enter_context(put_back())
        call: Call = stack.enter_context(subject.call(replicate))
        random.seed(globally)
        np.random.seed(globally)  # noqa: NPY002 (the global generator is what is watched)
        torch.default_generator.manual_seed(globally)
        before, snapshot = call.lent(), Snapshot()
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
        seen.generators, seen.settings = snapshot.moved_generators(), snapshot.changed_settings()
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
    if moved := subject.import_moved:
        yield f"its import moved the global generator of {' and '.join(moved)}. {advice}"
    if watched.first.generators:
        yield f"it moved the global generator of {' and '.join(watched.first.generators)}. {advice}"
    if watched.first.result == watched.again.result != watched.otherwise.result:
        yield f"its result changes when the global generators are seeded differently. {advice}"


def leaves_the_process_as_it_was(subject: Subject) -> Iterator[str]:
    """Current folder, environment variables, torch's and numpy's settings, functions of libraries and of this project;
    by its import too."""
    if changed := subject.import_changed:
        yield f"its import changed {', '.join(changed)}. Leave it as it is: others run after it."
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
def _environment_put_back() -> Iterator[None]:
    environment = dict(os.environ)
    try:
        yield
    finally:
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
