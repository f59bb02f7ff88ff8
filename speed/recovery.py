"""How long image recovery takes: 100 images of `glyphs`, one a class, 200 steps, the small teacher, one thread.

What a method does before its first step counts: the statistics of the training split (LPLD, G-VBSM, EDC), RDED's crops
(EDC). G-VBSM and EDC recover from the small teacher alone here, since the others of their networks have other costs.
They match statistics of patches besides: torch.var_mean takes these one value after the other, in float64. Its share
is told. Sums in another order would be faster, and other bits than those of released records.

The limit is what the network alone takes: as many passes, forward or forward and back to the images, as the method
makes, measured bare in the same run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.nn.modules.module import register_module_forward_hook

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages.context import HarnessContext
from bench.stages.method_call import build_condensed
from bench.stages.teach import teach
from methods._recovery import survey
from speed.row import Row

BAR = 60.0  # seconds
TIMES = 2.5  # of the time that SRe2L takes in the same run
BATCH, TURNS = 100, 21  # images of a bare pass, and how many are timed
METHODS = ("sre2l", "cda", "dwa", "lpld", "gvbsm:backbones=1", "edc:backbones=1")


def measure(quick: bool = False) -> list[Row]:
    """CPU seconds of every method; `quick` takes 2 steps."""
    iterations = 2 if quick else 200
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace(Path(folder), discover())
        dataset = describe(ws, "glyphs")
        teacher = teach(ws, "small-teacher-v1", dataset)
        rows, first = list[Row](), 0.0
        for method in METHODS:
            more = f"{',' if ':' in method else ':'}iterations={iterations}"
            spec = parse(ws.registry, "method", method + more)
            ctx = HarnessContext(
                store=ws.store,
                registry=ws.registry,
                data=ws.described(dataset),
                dataset_digest=dataset.digest,
                teacher=teacher,
                coordinates=("speed", str(spec)),
                scratch=Path(folder),
                device="cpu",
            )
            passes = Passes(ctx.teacher)
            with mock.patch.object(survey, "patch_moments", Timed(survey.patch_moments)) as patches, passes:
                start = time.process_time()
                condensed = build_condensed(spec, ws.described(dataset).train, 1, ctx)
                seconds = time.process_time() - start
            what = f"recovery: {method}, 100 glyphs, {iterations} steps"
            note = f"{condensed.provenance['teacher_top1']:.0%} are their class to the teacher"
            rows.append(Row(what, seconds, "s", BAR, False, note))
            first = first or seconds
            if patches.seconds:
                rest = (seconds - patches.seconds) / first
                note = f"{patches.seconds:.1f} s are statistics of patches, forward alone; {rest:.2f} x without them"
                rows.append(Row(f"{what}: over sre2l's time", seconds / first, "x", TIMES, False, note))
            bare = passes.bare_seconds()
            rows.append(Row(f"{what}: share of bare passes", bare / seconds, "x", None, True, passes.note(bare)))
    return rows


class Passes:
    """Counts the images that go through networks of one class, and times as many passes of one of them alone."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._network, self._seen, self._shape = network, Counter[bool](), torch.Size()
        self.per_image: dict[bool, float] = {}

    def __enter__(self) -> None:
        self._handle = register_module_forward_hook(self._count)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _count(self, module: torch.nn.Module, inputs: tuple[Any, ...], _: Any) -> None:
        if type(module) is type(self._network):
            images = inputs[0]
            self._seen[images.requires_grad and torch.is_grad_enabled()] += len(images)
            self._shape = images.shape[1:]

    def bare_seconds(self) -> float:
        """CPU seconds of as many passes, 100 images each."""
        images = torch.zeros(BATCH, *self._shape).normal_(generator=torch.Generator().manual_seed(0))
        leaf = images.clone().requires_grad_()

        def forward() -> None:
            with torch.no_grad():
                self._network(images)

        def both() -> None:
            torch.autograd.grad(self._network(leaf).sum(), leaf)

        self.per_image = {False: _seconds(forward) / BATCH, True: _seconds(both) / BATCH}
        return sum(count * self.per_image[back] for back, count in self._seen.items())

    def note(self, seconds: float) -> str:
        """What was counted."""
        there, back = self._seen[False], self._seen[True]
        return f"{back:,} images forward and back, {there:,} forward alone: {seconds:.1f} s of the network"


def _seconds(work: Callable[[], None]) -> float:
    """CPU seconds of a call, the median of several."""
    times = []
    for _ in range(TURNS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


class Timed:
    """A function, and the CPU seconds that its calls took."""

    def __init__(self, function: Any) -> None:
        self._function, self.seconds = function, 0.0

    def __call__(self, *args: Any) -> Any:
        """Call it."""
        start = time.process_time()
        value = self._function(*args)
        self.seconds += time.process_time() - start
        return value
