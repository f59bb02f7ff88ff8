"""Everything that has to be fast on a GPU, as shares of the bare limit, by wall time in one run.

Without a CUDA device the full sizes are not measured, and the rows say so; `--quick` runs all of it on the processor in
miniature, which shows that it runs and nothing else. What cannot be done on a GPU stands in a row of its own.

- a student: images a second through bench.training.loop beside forward, backward and optimiser step on one resident
  batch of the same precision and memory format; as it is, with batches made ahead, compiled, and with CUDA graphs.
- labels: teacher logits of a condensed set's views beside the teacher's forward pass on one resident batch.
- decompositions: those of `python -m speed batched`, which compressors hand to the device.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bench.labels.making import teacher_logits
from bench.protocol.recipe import Augment, Optimizer, Recipe
from bench.teachers.ensemble import TEACHER_BATCH, Ensemble, Member
from bench.training import speed_ups
from bench.training.arithmetic import arithmetic, forward_pass, place
from bench.training.loop import make_optimizer, train
from bench.views.parameters import Views, batch_bounds
from protocols.networks import build
from speed import batched
from speed.row import Row

HALF = (0.5, 0.5, 0.5)
AUGMENT = Augment(crop_scale=(0.4, 1.0), mix="cutmix")
OPTIMIZER = Optimizer(name="sgd", lr=0.1, momentum=0.9)
NO_GPU = "no CUDA device: never run on a GPU"
ON_PROCESSOR = "the greedy computes on the processor, in NumPy and float64: its exactness is what its records rest on"


@dataclass(frozen=True)
class Case:
    """A student at one size."""

    network: str
    size: int
    classes: int
    batch: int
    n: int  # images
    epochs: int
    bar: float

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.network.rpartition(':')[2]} at {self.size} px, batch {self.batch}"


CASES = (
    Case("torchvision:resnet18", 32, 10, 128, 12_800, 2, 0.85),
    Case("torchvision:resnet50", 224, 1000, 128, 1_280, 2, 0.9),
)
MINIATURES = (
    Case("convnet", 16, 10, 8, 24, 2, 0.85),
    Case("torchvision:shufflenet_v2_x0_5", 64, 20, 4, 8, 1, 0.9),
)


def measure(quick: bool = False) -> list[Row]:
    """The rows; on a machine without a GPU those of the full sizes hold no figure."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cases = MINIATURES if quick else CASES
    rows = []
    for case in cases:
        for precision in ("fp32", "bf16"):
            rows += _student(case, precision, device, quick)
    rows.append(_labels(cases[-1], device, quick))
    rows.append(Row("SCORE's greedy on the device", float("nan"), "x", None, True, ON_PROCESSOR))
    return rows + batched.measure(quick)


def _student(case: Case, precision: str, device: torch.device, quick: bool) -> list[Row]:
    """The loop beside a bare step. The bar is for batches that are made ahead: that changes no bit."""
    whats = {
        (): ("as it is", None),
        ("prefetch",): ("batches made ahead", case.bar),
        ("compile", "prefetch"): ("compiled", None),
        ("graphs", "prefetch"): ("CUDA graphs", None),
    }
    rows, bare = [], 0.0
    for chosen, (what, bar) in whats.items():
        title = f"{case.name}, {precision}, {what}: share of a bare step"
        if device.type == "cpu" and (not quick or "compile" in chosen or "graphs" in chosen):
            rows.append(Row(title, float("nan"), "", None, True, NO_GPU))
            continue
        recipe = Recipe.model_validate(
            {
                "labels": "hard", "epochs": case.epochs, "batch": case.batch, "augment": AUGMENT,
                "optimizer": OPTIMIZER, "precision": precision, "memory_format": "channels_last",
            }
        )  # fmt: skip
        bare = bare or _best(_bare(case, recipe, device), device)
        ours = _with(chosen, _ours(case, recipe, device), device)
        note = f"bare {1 / bare:,.0f} images/s, loop {1 / ours:,.0f}; {_name(device)}"
        rows.append(Row(title, bare / ours, "", bar, True, note))
    return rows


def _network(case: Case) -> nn.Module:
    name, _, rest = case.network.partition(":")
    return build(f"{name}:{rest}" if rest else name, channels=3, size=case.size, num_classes=case.classes, seed=0)


def _images(case: Case) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (case.n, 3, case.size, case.size), dtype=torch.uint8, generator=generator)


def _bare(case: Case, recipe: Recipe, device: torch.device) -> Callable[[], int]:
    student = _network(case).train()
    place(student, recipe, device)
    optimizer, call = make_optimizer(student, recipe.optimizer), forward_pass(student, recipe, device)
    x = torch.randn(case.batch, 3, case.size, case.size, device=device).to(memory_format=torch.channels_last)
    y = torch.arange(case.batch, device=device) % case.classes
    steps = case.epochs * len(batch_bounds(case.n, case.batch))

    def run() -> int:
        with arithmetic(recipe, device):
            for _ in range(steps):
                F.cross_entropy(call(x), y).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        return steps * case.batch

    return run


def _ours(case: Case, recipe: Recipe, device: torch.device) -> Callable[[], int]:
    student, images, labels = _network(case), _images(case), torch.arange(case.n) % case.classes

    def run() -> int:
        log = train(
            student, images, labels, recipe, coordinates=("speed", 0), mean=HALF, std=HALF, mirror=True, device=device
        )
        return log.images_seen

    return run


def _labels(case: Case, device: torch.device, quick: bool) -> Row:
    """Labels of four views of a set by one teacher, views made and logits brought back, beside its forward pass."""
    title = f"labels by {case.name.partition(',')[0]}: share of a bare teacher"
    if device.type == "cpu" and not quick:
        return Row(title, float("nan"), "", None, True, NO_GPU)
    teacher, images = _network(case).eval().requires_grad_(False).to(device), _images(case).to(device)
    views = Views(AUGMENT, case.n, case.size, mirror=True, batch=case.batch, seed=1, count=4)
    piece = min(case.n, TEACHER_BATCH)
    x, ensemble = torch.randn(piece, 3, case.size, case.size, device=device), Ensemble([Member(teacher, HALF, HALF)])

    @torch.no_grad()
    def bare() -> int:
        for _ in range(len(views) * -(-case.n // piece)):
            teacher(x)
        return len(views) * -(-case.n // piece) * piece

    def ours() -> int:
        teacher_logits(ensemble, images, views, np.arange(case.n))
        return len(views) * case.n

    limit, seconds = _best(bare, device), _best(ours, device)
    note = f"bare {1 / limit:,.0f} images/s, labels {1 / seconds:,.0f}; {_name(device)}"
    return Row(title, limit / seconds, "", 0.9, True, note)


def _with(chosen: Sequence[str], run: Callable[[], int], device: torch.device) -> float:
    """`_best` with these speed-ups."""
    before = os.environ.get(speed_ups.VARIABLE, "")
    speed_ups.place_speed_ups(chosen)
    try:
        return _best(run, device)
    finally:
        speed_ups.place_speed_ups(filter(None, before.split(",")))


def _best(run: Callable[[], int], device: torch.device) -> float:
    """Least seconds an image, of three runs after one that starts the device's libraries and compiles."""
    run()
    seconds = []
    for _ in range(3):
        _wait(device)
        start = time.perf_counter()
        images = run()
        _wait(device)
        seconds.append((time.perf_counter() - start) / images)
    return min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "the processor, in miniature"
