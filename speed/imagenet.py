"""The engine at ImageNet's number of files: 1,281,167 in 1,000 classes, of 8 pixels, linked to a few hundred.

Everything but the network is the engine's own: listing, digests, the decoded cache, features, scores of training
dynamics, two selections in processes of their own, the condensed set and its facts, and a record. The teacher and the
network of the dynamics are stubs: one matrix. Memory is held to a law, bytes for each image of the split; nothing of it
depends on pixels or epochs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from bench.artifacts import duplicates
from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace, read_condensed
from bench.plugins.registry import discover
from bench.records import files
from bench.records.schema import CondensedSet, Record
from bench.seeds import numpy_generator
from bench.stages import isolation
from bench.stages.condense import condense
from bench.stages.context import HarnessContext
from bench.studies.stored.real_size import LISTED
from bench.teachers.teacher_files import TeacherRef
from bench.trials.trial import Trial
from speed.row import Row

TRAIN, TEST, CLASSES = 1_281_167, 50_000, 1000
QUICK = 3000, 1000, 100
SIDE, DISTINCT = 8, 499  # pixels; different files
WIDTH = 32  # of the stub's features
EPOCHS, IPC = 10, 10
LEAST = 300 * 2**20  # bytes that any split may take: processes, libraries that come late, blocks of work
PER_IMAGE = LISTED  # bytes an image, by the arithmetic of bench/studies/stored/real_size.py; no pixels, no rows
OF_FEATURES = 8 * WIDTH  # bytes an image in the process of a method: pages of features, its own array of them


class Stub(torch.nn.Module):
    """Pixels times a fixed matrix."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        rng = numpy_generator("speed", "imagenet")
        self.first = torch.nn.Parameter(torch.from_numpy(rng.standard_normal((3 * SIDE**2, WIDTH), np.float32)))
        self.head = torch.nn.Parameter(torch.from_numpy(rng.standard_normal((WIDTH, classes), np.float32)))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [n, WIDTH]."""
        return images.flatten(1) @ self.first

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [n, classes]."""
        return self.features(images) @ self.head


def link_tree(folder: Path, split: str, images: int, classes: int, drawn: list[Path]) -> None:
    """Hard links, as many in each class as can be, with names as long as those of ImageNet."""
    for label in range(classes):
        place = folder / split / f"n{label:08d}"
        place.mkdir(parents=True)
        for number in range(label, images, classes):
            os.link(drawn[number % len(drawn)], place / f"n{label:08d}_{number}.JPEG")


def draw(folder: Path) -> list[Path]:
    """The files that are linked to."""
    folder.mkdir()
    pixels = numpy_generator("speed", "pixels").integers(0, 256, (DISTINCT, SIDE, SIDE, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return [folder / f"{number}.png" for number in range(DISTINCT)]


def peak(who: int = resource.RUSAGE_SELF) -> int:
    """Bytes that the process, or the largest of its children, has held at most."""
    return resource.getrusage(who).ru_maxrss * 1024


class Course:
    """The steps, with CPU seconds of this process and its children, and the peak above the start."""

    def __init__(self, images: int) -> None:
        self.rows: list[Row] = []
        self._images, self._start = images, peak()

    def step(self, what: str, work: Callable[[], Any]) -> Any:
        """Do one of them."""
        before, began = os.times(), time.perf_counter()
        value = work()
        after, wall = os.times(), time.perf_counter() - began
        seconds = sum(after[:4]) - sum(before[:4])
        each = f"{1e6 * seconds / self._images:.0f} us an image"
        note = f"{wall:.1f} s by the clock; {each}; memory up to here: {self.peak():.0f} MiB"
        self.rows.append(Row(what, seconds, "s of CPU", None, False, note))
        return value

    def peak(self) -> float:
        """MiB above the start."""
        return (peak() - self._start) / 2**20

    def law(self) -> Row:
        """The peak beside what the law allows."""
        allowed = (LEAST + PER_IMAGE * self._images) / 2**20
        note = f"law: {LEAST / 2**20:.0f} MiB and {PER_IMAGE} B an image; {self._images:,} images"
        return Row("memory above the start", self.peak(), "MiB", allowed, False, note)


@contextmanager
def stubs(classes: int) -> Iterator[None]:
    """No network is trained or loaded."""
    stub = Stub(classes).eval().requires_grad_(False)

    def fit(*_: Any, on_epoch_end: Callable[[int, torch.nn.Module], None], **__: Any) -> torch.nn.Module:
        for epoch in range(EPOCHS):
            on_epoch_end(epoch, stub)
        return stub

    with (
        mock.patch("bench.teachers.loaded.load", return_value=stub),
        mock.patch("bench.teachers.dynamics.fit", fit),
        mock.patch.object(isolation, "_method_code_ran", False),
    ):
        yield


def run(folder: Path, train: int, test: int, classes: int) -> list[Row]:
    """All steps in a folder that is empty."""
    course = Course(train)
    drawn = draw(folder / "drawn")
    tree = folder / "data" / "links"
    link_tree(tree, "train", train, classes, drawn)
    link_tree(tree, "test", test, classes, drawn)
    spec = f"imagefolder:of=links,size={SIDE},resize={SIDE}"
    with mock.patch.dict(os.environ, CONDENSEBENCH_DATA=str(folder / "data")), stubs(classes):
        ws = Workspace(folder / "store", discover())
        dataset = course.step("describe: list, hash, compare the splits", lambda: describe(ws, spec))
        course.step("describe again, in another process", lambda: _elsewhere(folder / "store", spec))
        data = ws.described(dataset)
        course.step("decode into the cache", lambda: data.train._source.prepare())  # type: ignore[attr-defined]
        ref = TeacherRef("teacher/stub.safetensors", False, "convnet:width=4", "0" * 64, 0.5)
        context = HarnessContext(
            store=ws.store, registry=ws.registry, data=data, dataset_digest=dataset.digest, teacher=ref,
            coordinates=("speed",), scratch=folder, device="cpu",
        )  # fmt: skip
        course.step("features", context.features)
        course.step(f"scores of dynamics, {EPOCHS} epochs", lambda: context.dynamics_scores(EPOCHS))
        sets = {
            method: course.step(
                f"{method}: selection of {IPC} a class (CPU without the process of the method)",
                partial(condense, ws, method, dataset, ref, IPC, 0),
            )
            for method in ("herding", "el2n", "random")
        }
        images, _ = data.test_images()
        arrays = read_condensed(ws, sets["herding"]).arrays
        facts = course.step(
            "facts of the condensed set",
            lambda: duplicates.condensed_facts(
                arrays["images"], arrays["labels"], images, classes=classes, train_in_test=dataset.train_in_test
            ),
        )
        record = _record(spec, classes, sets["herding"], facts)
        course.step("the record", lambda: files.append(folder / "records.jsonl", record))
    children = peak(resource.RUSAGE_CHILDREN) / 2**20
    allowed = (2 * LEAST + (PER_IMAGE + OF_FEATURES) * train) / 2**20
    method = Row("memory of the largest process of a method", children, "MiB", allowed, False, "libraries included")
    return [*course.rows, course.law(), method]


def _elsewhere(store: Path, spec: str) -> None:
    """Describe the data set in another process. Raises RuntimeError where that fails."""
    process = multiprocessing.get_context("fork").Process(target=describe, args=(Workspace(store, discover()), spec))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the process that describes {spec} again ended with exit code {process.exitcode}")


def _record(dataset: str, classes: int, condensed: Any, facts: dict[str, Any]) -> Record:
    trial = Trial(dataset, "standard-hard-adamw-v1", "herding", IPC, None, None, "torchvision:resnet18", 0)
    return Record(
        id=trial.id,
        trial={**trial.as_dict(), "id": trial.id},
        status="infeasible",  # no student is trained here, so there is no result
        smallest_bytes=1,
        made_by={},
        num_classes=classes,
        num_images=condensed.images,
        bytes_images=condensed.bytes_images,
        condensed=CondensedSet(**facts),
        provenance=dict(condensed.provenance),
    )


def measure(quick: bool = False) -> list[Row]:
    """All steps at ImageNet's size; quick: at 3,000 files. In a process of its own, whose memory is theirs alone."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = QUICK if quick else (TRAIN, TEST, CLASSES)
        command = [sys.executable, "-m", "speed.imagenet", folder, *map(str, sizes)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [Row(**values) for values in json.loads(done.stdout.splitlines()[-1])]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([vars(row) for row in run(Path(sys.argv[1]), *map(int, sys.argv[2:]))]))
