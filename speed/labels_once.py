"""Labels of ImageNet size, made once: 10,000 images x 30 views x 1,000 classes, 600 MB, read by five compressors.

The images are crops of photographs, 32 pixels, so that a core labels 300,000 views in minutes. The teacher is an
ImageNet network (the extra `photos`): its logits are real, and those of one that sees little. Each compressor encodes
the set within 20x, from the raw labels in the store. Counted are the images that the teacher sees, and memory above
that of the network and of one batch in it. With `--quick`, 60 images and a stub in place of the network.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from bench.artifacts.describe import describe
from bench.artifacts.refs import CondensedRef, DatasetRef, Workspace
from bench.artifacts.store import Blocks
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.protocol.recipe import Augment, Loss, Recipe
from bench.seeds import numpy_generator
from bench.stages.label import Labelling
from bench.studies.label_sets import photos
from bench.teachers import loaded
from bench.teachers.ensemble import TEACHER_BATCH, Member
from bench.teachers.teacher_files import TeacherRef
from speed.row import Row

IMAGES, VIEWS, QUICK = 10_000, 30, 60
SIDE, CLASSES, BUDGET = 32, 1000, "20x"  # one component of 30 views takes more than 30x
COMPRESSORS = ("svd", "rsvd", "topk", "pq", "klt")
MOST = 1024.0  # MiB above the network
DATASET = '''
"""A data set of 1,000 classes whose training split is not looked at."""

import hashlib

import numpy as np

from bench.api import Dataset
from bench.sources import ArraySource


def load(root):
    source = ArraySource(np.zeros((1000, 3, 32, 32), np.uint8), np.arange(1000))
    half = (0.5, 0.5, 0.5)
    return Dataset(1000, 3, 32, 32, True, half, half, lambda: source, lambda: source)
'''


def crops(count: int) -> Any:
    """uint8 [1, 3, SIDE, SIDE] each: crops of the photographs."""
    paths = [photos._shipped(*place, name) for place, names in photos.PHOTOGRAPHS.items() for name in names.split()]
    wholes = [photos.photograph(path) for path in paths]
    rng = numpy_generator("speed", "crops")
    for number in range(count):
        whole = wholes[number % len(wholes)]
        top, left = rng.integers(0, whole.shape[1] - SIDE, 2)
        yield np.ascontiguousarray(whole[None, :, top : top + SIDE, left : left + SIDE])


def noise(count: int) -> Any:
    """uint8 [1, 3, SIDE, SIDE] each."""
    rng = numpy_generator("speed", "noise")
    for _ in range(count):
        yield rng.integers(0, 256, (1, 3, SIDE, SIDE), dtype=np.uint8)


def stub() -> torch.nn.Module:
    """A pooled linear network."""
    head = torch.nn.Linear(3 * 64, CLASSES)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), head).eval().requires_grad_(False)


class Sight:
    """A network, and how many images it has seen."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network, self.images = network, 0
        network.register_forward_hook(self._count)

    def _count(self, _: Any, given: tuple[torch.Tensor, ...], __: Any) -> None:
        self.images += len(given[0])


def encode_all(folder: Path, images: int, quick: bool) -> dict[str, Any]:
    """Label once, encode by every compressor; in a process of its own."""
    torch.set_num_threads(1)
    sight = Sight(stub() if quick else photos.network())
    (folder / "wide.py").write_text(DATASET, encoding="utf-8")
    ws = Workspace(folder / "store", discover([folder / "wide.py"]))
    dataset = describe(ws, "wide")

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        pixels = Blocks((images, 3, SIDE, SIDE), np.dtype(np.uint8), noise(images) if quick else crops(images))
        return {"images": pixels, "labels": np.arange(images) % CLASSES}, {}

    address = ws.store.relative(ws.store.get("condensed", {"images": images, "quick": quick}, make))
    condensed = CondensedRef(address, images, 0, 0.0, False, {})
    recipe = Recipe(
        epochs=VIEWS, batch=100, views=VIEWS, labels="stored", loss=Loss(name="kl"),
        augment=Augment(crop_scale=(0.4, 1.0), flip=0.5, mix="cutmix"),
    )  # fmt: skip
    ref = TeacherRef("teacher/none", False, "convnet", hashlib.sha256(str(quick).encode()).hexdigest(), 0.0)
    member, rows = Member(sight.network, photos.MEAN, photos.STD), []
    with torch.inference_mode():
        sight.network(torch.zeros(TEACHER_BATCH, 3, SIDE, SIDE))
    sight.images, before = 0, _peak()  # the network, and what a batch takes in it
    with mock.patch.object(loaded, "member", return_value=member):
        for compressor in COMPRESSORS:
            started = time.process_time()
            size = _encode(ws, dataset, condensed, recipe, ref, compressor)
            rows.append([compressor, time.process_time() - started, size, _peak() - before])
    return {"above": _peak() - before, "seen": sight.images, "rows": rows}


def _encode(
    ws: Workspace, dataset: DatasetRef, condensed: CondensedRef, recipe: Recipe, ref: TeacherRef, compressor: str
) -> int:
    """Bytes of the label file."""
    work, spec = Labelling(ws, "speed", recipe, dataset, [ref], condensed), parse(ws.registry, "compressor", compressor)
    total, shared = 0, None
    for shard in range(len(work.shards)):
        file = work.encode_shard(spec, BUDGET, shard, shared)
        shared = file.shared
        total += len(file.blobs[0]) + (len(file.shared) if shard == 0 else 0)
    return total


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB


def measure(quick: bool = False) -> list[Row]:
    """One row for each figure."""
    images = QUICK if quick else IMAGES
    if not quick:
        try:
            photos.network()
        except UserError as error:
            return [Row("labels made once, read by five compressors", math.nan, "", None, True, str(error))]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "speed.labels_once", folder, str(images), str(int(quick))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        figures = json.loads(done.stdout.splitlines()[-1])
    raw = images * VIEWS * CLASSES * 2 / 1e6
    what = f"{images:,} x {VIEWS} x {CLASSES:,} labels"
    return [
        Row(
            f"{what}: images that the teacher saw / images x views", figures["seen"] / (images * VIEWS), "x", 1.0, False
        ),
        Row(f"{what}: peak above the network", figures["above"], "MiB", MOST, False, f"raw labels: {raw:.0f} MB"),
        *(
            Row(f"{what}: {name} at {BUDGET}", seconds, "s of CPU", None, False, _note(size, peak))
            for name, seconds, size, peak in figures["rows"]
        ),
    ]


def _note(size: int, peak: float) -> str:
    return f"{size / 1e6:.1f} MB; peak up to then {peak:.0f} MiB"


if __name__ == "__main__":
    print(json.dumps(encode_all(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1")))
