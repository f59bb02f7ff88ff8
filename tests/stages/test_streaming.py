"""A split need not fit into memory: what is made of it is the same to the bit, and the peak does not grow with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.artifacts import split_images
from bench.artifacts.ahead import ahead
from bench.artifacts.describe import describe
from bench.artifacts.duplicates import condensed_facts, near
from bench.artifacts.refs import Workspace
from bench.artifacts.split_images import SplitImages, training_images
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.protocol.recipe import Augment, Recipe
from bench.stages.context import HarnessContext
from bench.teachers.dynamics import scores_of
from bench.training.loop import evaluate
from bench.training.loop import train as train_network
from bench.training.networks import build_network
from tests.worlds import ROOT
from tests.worlds.plugins import write

# Images that are computed from their number: the source takes no memory, however many there are.
DRAWN = '''
"""Images that are drawn when they are read."""

import hashlib

import numpy as np

from bench.api import Dataset


class Drawn:
    def __init__(self, n, side, split):
        self.n, self.side, self.split = n, side, split
        self.labels = np.arange(n) % 5

    def __len__(self):
        return self.n

    def read(self, indices):
        at = np.arange(3 * self.side**2, dtype=np.uint32).reshape(3, self.side, self.side)
        number = np.asarray(indices, np.uint32)[:, None, None, None] + self.split
        return ((at * (number % 251 + 1) * 7 + number * 13) >> 3).astype(np.uint8)

    def digest(self):
        return hashlib.sha256(f"{self.n} {self.side} {self.split}".encode()).hexdigest()


def load(root, *, n: int = 100, side: int = 16):
    half = (0.5, 0.5, 0.5)
    return Dataset(5, 3, side, side, True, half, half, lambda: Drawn(n, side, 0), lambda: Drawn(n, side, 5000))
'''


class Opened:
    """A drawn data set, and contexts over it whose teacher is a small network."""

    def __init__(self, folder: Path, spec: str) -> None:
        self.ws = Workspace(folder / "store", discover([write(folder / "drawn.py", DRAWN)]))
        self.dataset = describe(self.ws, spec)
        self.data, self.scratch = self.ws.described(self.dataset), folder

    def context(self) -> HarnessContext:
        ref: Any = SimpleNamespace(identity="tiny", normalisation="dataset")
        context = HarnessContext(
            store=self.ws.store, registry=self.ws.registry, data=self.data, dataset_digest=self.dataset.digest,
            teacher=ref, coordinates=("streaming",), scratch=self.scratch, device="cpu", normalisation="dataset",
        )  # fmt: skip
        d = self.data.dataset
        spec = parse(self.ws.registry, "network", "convnet:width=4")
        network = build_network(spec, channels=3, size=d.size, classes=5, seed=1)
        context.__dict__["teacher"] = network.eval().requires_grad_(False)
        return context


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return Opened(tmp_path_factory.mktemp("small"), "drawn:n=300")


# --- the same bits ---------------------------------------------------------------------------------------------------


def test_features_logits_and_soft_labels_are_those_of_the_whole_split(small: Opened) -> None:
    context, images = small.context(), small.data.train.images(np.arange(300))
    assert np.array_equal(context.logits(), context._predict(images).numpy())
    assert np.array_equal(context.features(), context._predict(images, features=True).numpy())
    for cutmix in (False, True):
        whole = context.soft_labels(images, 3, cutmix=cutmix)
        assert np.array_equal(context.soft_labels(None, 3, cutmix=cutmix), whole)


@pytest.mark.parametrize("augment", [Augment(flip=0.5, pad=0.125), Augment(crop_scale=(0.3, 1.0), mix="cutmix")])
def test_a_network_learns_the_same_from_a_split_that_is_read(
    small: Opened, augment: Augment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.training.feed._SOURCE", 0)  # as for splits that are too large to be normalised at once
    monkeypatch.setattr("bench.training.feed._WHOLE", 0)
    recipe = Recipe(epochs=2, batch=32, augment=augment, views=0, labels="hard", loss={"name": "ce"})
    weights = []
    for limit in (split_images.IN_MEMORY, 0):
        monkeypatch.setattr(split_images, "IN_MEMORY", limit)
        given = training_images(small.data.train)
        assert isinstance(given, SplitImages) == (limit == 0)
        network = build_network(
            parse(small.ws.registry, "network", "convnet:width=4"), channels=3, size=16, classes=5, seed=3
        )
        log = train_network(
            network, given, torch.from_numpy(np.array(small.data.train.labels)), recipe,
            coordinates=("streaming",), mean=(0.5,) * 3, std=(0.5,) * 3, mirror=True,
        )  # fmt: skip
        weights.append([log.losses, *(tensor.numpy().tobytes() for tensor in network.state_dict().values())])
    assert weights[0] == weights[1]


def test_rows_that_are_expected_are_read_ahead_and_others_come_all_the_same(
    small: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, threads = small.data.train, list[str]()
    images = SplitImages(split)
    original = type(split).images
    monkeypatch.setattr(
        type(split),
        "images",
        lambda self, rows: threads.append(threading.current_thread().name) or original(self, rows),
    )
    requests = [np.array([3, 1]), np.array([7]), np.array([9, 9, 2]), np.array([0])]
    images.expect(requests)
    for rows in (requests[0], np.array([5]), *requests[1:], np.array([8])):
        assert torch.equal(images[torch.from_numpy(rows)], original(split, rows))
    assert sorted(name.startswith("split-images") for name in threads) == [False] * 2 + [True] * 4
    assert torch.equal(images[3], original(split, [3])[0])


@pytest.mark.parametrize("cutmix", [False, True])
def test_labels_of_a_split_are_read_ahead_however_few_images_a_pass_has(
    small: Opened, cutmix: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    split, threads = small.data.train, list[str]()
    original, elsewhere = type(split).images, Opened(tmp_path, "drawn:n=300").context()
    whole = small.context().soft_labels(split.images(np.arange(300)), 2, cutmix=cutmix)
    monkeypatch.setattr("bench.training.footprint.PASS_PIXELS", 70 * 16 * 16)
    monkeypatch.setattr("bench.views.render._TOGETHER", 30 * 4 * 3 * 16 * 16)
    monkeypatch.setattr(
        type(split),
        "images",
        lambda self, rows: threads.append(threading.current_thread().name) or original(self, rows),
    )
    said = elsewhere.soft_labels(None, 2, cutmix=cutmix)
    np.testing.assert_allclose(said.astype(float), whole.astype(float), atol=2e-3)
    assert all(name.startswith("split-images") for name in threads)
    pieces = 3 + 3 + 1  # of a batch of 150 images: passes of 70, 70 and 10
    assert len(threads) == (2 * 2 * 2 * pieces if cutmix else 2)  # batches, views, images and their partners


def test_parts_come_in_order_and_few_are_read_ahead() -> None:
    read: list[int] = []

    def reading(part: int) -> int:
        read.append(part)
        if part == 6:
            raise OSError("gone")
        return 10 * part

    parts = ahead(reading, range(9), depth=2)
    assert [next(parts) for _ in range(3)] == [0, 10, 20]
    assert len(read) <= 6
    with pytest.raises(OSError, match="gone"):
        list(parts)


def test_scores_of_dynamics_are_those_of_its_probabilities(
    small: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the probabilities are there or the network is trained for the scores alone; in blocks of any size."""
    whole = small.context().dynamics(2)
    assert whole.shape == (2, 300, 5)
    monkeypatch.setattr("bench.teachers.dynamics.BLOCK", 250)  # several blocks, the last one short
    read = small.context().dynamics_scores(2)
    elsewhere = Opened(tmp_path, "drawn:n=300").context()
    trained = elsewhere.dynamics_scores(2)
    labels = small.data.train.labels
    for epoch in range(2):
        for name, values in scores_of(whole[epoch], labels).items():
            assert np.array_equal(getattr(read, name)[epoch], values)
            assert np.array_equal(getattr(trained, name)[epoch], values)
        one_hot = np.eye(5)[labels]
        lengths = np.linalg.norm(whole[epoch].astype(np.float64) - one_hot, axis=1)
        np.testing.assert_allclose(read.error[epoch], lengths, rtol=1e-12)
        others = np.where(one_hot > 0, -1, whole[epoch].astype(np.float64)).max(axis=1)
        np.testing.assert_array_equal(read.margin(epoch), whole[epoch][np.arange(300), labels].astype(float) - others)
        np.testing.assert_array_equal(read.correct(epoch), whole[epoch][np.arange(300), labels] > others)
    assert not list((small.ws.store.root / "checkpoints").iterdir())


def test_a_single_class_has_no_other() -> None:
    scores = scores_of(np.ones((3, 1), np.float16), np.zeros(3, np.int64))
    assert (scores["other"].tolist(), scores["error"].tolist()) == ([0, 0, 0], [0, 0, 0])


def test_near_images_are_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    test = rng.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    moved = np.clip(test[::3].astype(int) + rng.integers(-4, 5, test[::3].shape), 0, 255).astype(np.uint8)
    images = np.concatenate([rng.integers(0, 256, (20, 3, 16, 16), dtype=np.uint8), moved, test[:2]])
    labels = np.arange(len(images)) % 4
    expected = condensed_facts(images, labels, test, classes=4, train_in_test=0)
    assert (expected["in_test_exact"], expected["in_test_near"]) == (2, 14)
    monkeypatch.setattr("bench.artifacts.duplicates.BLOCK_BYTES", 3 * test[0].nbytes)
    monkeypatch.setattr("bench.artifacts.duplicates._PAIRS", 15)
    assert condensed_facts(images, labels, test, classes=4, train_in_test=0) == expected
    floats = condensed_facts(images.astype(np.float32), labels, test, classes=4, train_in_test=0)
    assert {**floats, "digest": expected["digest"]} == expected
    assert not near(images[:0], test).any()


# --- the peak --------------------------------------------------------------------------------------------------------

SCRIPT = """
import gc, json, resource, sys
from pathlib import Path
import numpy as np
import torch
from bench.artifacts import duplicates, opened, split_images
from bench.artifacts.duplicates import condensed_facts
from bench.stages.evaluate import loop
from bench.teachers import dynamics_recipes
from bench.training import feed
from tests.stages.test_streaming import Opened

torch.set_num_threads(1)
split_images.IN_MEMORY = opened.WHOLE = feed._SOURCE = feed._WHOLE = 0
duplicates.BLOCK_BYTES = 2**20  # both splits take several blocks
dynamics_recipes.SMALL = 10**6  # the small network of the embedded data sets

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB

def use(n, folder):
    world = Opened(Path(folder), f"drawn:n={n},side=40")
    context = world.context()
    context.features(), context.logits(), context.soft_labels(None, 2), context.dynamics_scores(1)
    images, labels = world.data.test_images()
    half = (0.5,) * 3
    assert loop.evaluate(context.teacher, images, labels, mean=half, std=half).n == n
    some = world.data.train.images(np.arange(10)).numpy()
    condensed_facts(some, np.arange(10), images, classes=5, train_in_test=0)
    gc.collect()

before = []
for n in map(int, sys.argv[2].split(",")):
    use(n, f"{sys.argv[1]}/{n}")
    before.append(peak())
print(json.dumps(before))
"""


@pytest.mark.trains
@pytest.mark.parametrize("n", [1300, 2100])
def test_nobody_asks_for_more_than_a_part_of_a_split(n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its size: features, logits, soft labels, training and its dynamics, evaluation, duplicates."""
    monkeypatch.setattr(split_images, "IN_MEMORY", 0)
    monkeypatch.setattr("bench.artifacts.opened.WHOLE", 0)
    world = Opened(tmp_path, f"drawn:n={n},side=8")
    reads: list[int] = []
    source = type(world.data.dataset.train())
    read = source.read
    monkeypatch.setattr(source, "read", lambda self, indices: reads.append(len(indices)) or read(self, indices))
    context = world.context()
    context.features(), context.logits(), context.soft_labels(None, 2), context.dynamics_scores(1)
    images, labels = world.data.test_images()
    half = (0.5,) * 3
    assert evaluate(context.teacher, images, labels, mean=half, std=half).n == n
    some = world.data.train.images(np.arange(10)).numpy()
    condensed_facts(some, np.arange(10), images[:200], classes=5, train_in_test=0)
    assert 1000 <= max(reads) < 1100 < n  # a block of batches of the training is 800 KiB of float images
    assert sum(reads) > 6 * n


@pytest.mark.slow
@pytest.mark.trains
def test_the_peak_of_what_is_made_of_a_split_does_not_grow_with_it(tmp_path: Path) -> None:
    sizes = (4500, 9000)  # both of more than the four parts of 1,000 images that stand in memory at once
    given_back = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back at once
    environment = {**os.environ, **given_back, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), ",".join(map(str, sizes))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout.splitlines()[-1])
    pixels = (sizes[1] - sizes[0]) * 3 * 40**2 / 2**20  # MiB of uint8; as floats four times as much
    assert large - small < 0.5 * pixels, f"{small:.0f} MiB, then {large:.0f} MiB; {pixels:.0f} MiB of pixels more"
