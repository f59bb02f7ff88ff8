"""A pool of stored batches in training: what is drawn is stored, uniformly, with its own images and labels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.api import SoftLabels
from bench.errors import PluginError
from bench.labels.label_file import LabelFile
from bench.labels.pool import BatchViews, common
from bench.labels.reader import EncodedLabels
from bench.protocol.recipe import Augment, Loss, Recipe
from bench.seeds import numpy_generator
from bench.training.feed import Feed
from bench.views.parameters import Views, batch_bounds
from methods.compressors import lpld

N, K, C, BATCH = 20, 12, 6, 8  # batches of 8, 8 and 4 images
VIEWS = Views(Augment(mix="cutmix", mix_unit="batch"), N, 8, mirror=True, batch=BATCH, seed=5, count=K)
LOGITS = torch.from_numpy(np.random.default_rng(0).standard_normal((N, K, C)).astype(np.float16))
CTX = SimpleNamespace(numpy=lambda *name: numpy_generator("pool", *name))


def reader(budget: int, shards: int = 1, **options) -> EncodedLabels:
    blobs = []
    for part in np.array_split(np.arange(N), shards):
        labels = SoftLabels(LOGITS[part], torch.zeros(len(part), dtype=torch.int64), VIEWS, part)
        blobs.append(lpld.encode(labels, budget // shards, CTX, unit="batch", **options))
    return EncodedLabels(LabelFile(VIEWS.to_bytes(), b"", tuple(blobs)), lpld, N, "lpld")


def feed(labels: EncodedLabels, draw: str, epochs: int = 1) -> Feed:
    images = torch.arange(N).reshape(N, 1, 1, 1).expand(N, 1, 8, 8).to(torch.uint8)
    recipe = Recipe.model_construct(
        **{**dict(Recipe.model_construct()), "labels": "stored", "epochs": epochs, "batch": BATCH, "draw": draw,
           "views": K, "loss": Loss(name="kl", temperature=1.0), "augment": VIEWS.augment}
    )  # fmt: skip
    return Feed(
        images, torch.zeros(N, dtype=torch.int64), recipe, coordinates=("test",), mean=(0.5,), std=(0.5,), mirror=True,
        device=torch.device("cpu"), reader=labels, block_bytes=1 << 20,
    )  # fmt: skip


@pytest.mark.parametrize("draw", ["batch", "epoch"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("order", ["random", "first"])
def test_every_step_shows_labels_that_are_stored(order: str, shards: int, draw: str) -> None:
    labels = reader(1800, shards, order=order)
    stored = torch.softmax(LOGITS.float(), 2).reshape(-1, C)
    seen = 0
    made = feed(labels, draw, epochs=10)
    for epoch in range(10):
        for images, target in made.epoch(epoch):
            assert torch.isfinite(images).all()
            for row in target.probabilities:
                assert torch.isclose(stored, row, atol=1e-5).all(1).any()
            seen += 1
    assert seen == 30
    assert np.isfinite(float(made.offset))


def test_a_step_shows_one_batch_with_its_own_labels() -> None:
    labels = reader(1800)
    bounds = batch_bounds(N, BATCH)
    made = feed(labels, "batch", epochs=20)
    for epoch in range(20):
        for step, (_, target) in enumerate(made.epoch(epoch)):
            view, batch = divmod(int(made._plan[3 * epoch + step]), 3)
            assert batch < 2  # the short one is not drawn
            rows = VIEWS[view].order[slice(*bounds[batch])]
            expected = torch.softmax(LOGITS[rows, view].float(), 1)
            torch.testing.assert_close(target.probabilities, expected, atol=1e-5, rtol=1e-4)


def test_draws_are_uniform_over_the_pool_and_repeat() -> None:
    labels = reader(1800)
    pool = labels.available
    assert 3 < len(pool) < 2 * K
    count = np.bincount(np.searchsorted(pool, feed(labels, "batch", epochs=400)._plan), minlength=len(pool))
    assert count.sum() == 1200
    mean = 1200 / len(pool)
    assert np.abs(count - mean).max() < 5 * np.sqrt(mean)


def test_a_whole_pool_is_the_views_as_they_are() -> None:
    labels = reader(1 << 20)
    assert len(labels.views) == K
    assert labels.available.tolist() == list(range(K))
    torch.testing.assert_close(labels.rows(range(K)), LOGITS.float())


def test_a_batch_view_shows_its_batch_at_every_place() -> None:
    batches = BatchViews(VIEWS)
    assert len(batches) == 3 * K
    for number in (0, 4, 8):
        view, batch = divmod(number, 3)
        images = VIEWS[view].order[slice(*batch_bounds(N, BATCH)[batch])].tolist()
        shown = batches[number].order
        for start, stop in batch_bounds(N, BATCH):
            assert set(shown[start:stop].tolist()) <= set(images)
        assert shown[: len(images)].tolist() == images[:BATCH]


def test_shards_without_a_batch_in_common_are_told() -> None:
    with pytest.raises(PluginError, match="no stored batch in common"):
        common([np.array([[0, 1]]), np.array([[1, 0]])], "lpld")
