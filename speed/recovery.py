"""How long image recovery takes: 100 images of `glyphs`, one a class, 200 steps, the small teacher, one thread.

What a method does before its first step counts: the statistics of the training split (LPLD, G-VBSM, EDC), RDED's crops
(EDC). G-VBSM and EDC recover from the small teacher alone here, since the others of their networks have other costs.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages.context import HarnessContext
from bench.stages.method_call import build_condensed
from bench.stages.teach import teach
from speed.row import Row

BAR = 60.0  # seconds
METHODS = ("sre2l", "cda", "dwa", "lpld", "gvbsm:backbones=1", "edc:backbones=1")


def measure(quick: bool = False) -> list[Row]:
    """CPU seconds of every method; `quick` takes 2 steps."""
    iterations = 2 if quick else 200
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace(Path(folder), discover())
        dataset = describe(ws, "glyphs")
        teacher = teach(ws, "small-teacher-v1", dataset)
        rows = []
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
            start = time.process_time()
            condensed = build_condensed(spec, ws.described(dataset).train, 1, ctx)
            seconds = time.process_time() - start
            note = f"{condensed.provenance['teacher_top1']:.0%} are their class to the teacher"
            rows.append(
                Row(f"recovery: {method}, 100 glyphs, {iterations} steps", seconds, "s", BAR, False, note),
            )
    return rows
