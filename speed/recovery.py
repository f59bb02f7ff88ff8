"""How long image recovery takes: 100 images of `glyphs`, one a class, 200 steps, the small teacher, one thread.

What a method does before its first step counts: the statistics of the training split (LPLD, G-VBSM, EDC), RDED's crops
(EDC). G-VBSM and EDC recover from the small teacher alone here, since the others of their networks have other costs.
They match statistics of patches besides: torch.var_mean takes these one value after the other, in float64. Its share
is told. Sums in another order would be faster, and other bits than those of released records.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

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
            with mock.patch.object(survey, "patch_moments", Timed(survey.patch_moments)) as patches:
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
    return rows


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
