"""The order in which the values of images lie: that of the network's weights, and no bit of a result follows it."""

from __future__ import annotations

import pytest
import torch

from bench.protocol.recipe import Augment, Recipe
from protocols.networks import build
from tests.worlds.lessons import CLASSES, CROP_MIX, N, feed, hard, online, run, same, weights

DATA = (
    torch.randint(0, 256, (N, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)),
    torch.arange(N) % CLASSES,
)
RECIPES = {
    "crop, cutmix": hard(2, augment=CROP_MIX),
    "cutmix per batch": hard(2, augment=Augment(mix="cutmix", mix_unit="batch")),
    "mixup": hard(2, augment=Augment(crop_scale=(0.5, 1.0), mix="mixup")),
    "flip, cutout": hard(2, augment=Augment(flip=0.5, cutout=0.5)),
    "online": online(2),
}


def last(images: torch.Tensor) -> bool:
    """Whether the channels of a pixel are neighbours in memory."""
    return images.is_contiguous(memory_format=torch.channels_last)


def network(name: str, seed: int) -> torch.nn.Module:
    """A small student or teacher of 16 px."""
    more = {"width": 4} if name == "convnet" else {}
    return build(name, channels=3, size=16, num_classes=CLASSES, seed=seed, **more)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_batches_lie_as_the_weights_do(recipe: Recipe):
    teacher = (lambda x: torch.zeros(len(x), CLASSES)) if recipe.labels == "online" else None
    for memory_format, channels_last in (("device", True), ("channels_last", True), ("contiguous", False)):
        source = feed(recipe.model_copy(update={"memory_format": memory_format}), teacher=teacher, data=DATA)
        assert {last(x) for x, _ in source.epoch(0)} == {channels_last}


def test_what_a_siamese_operation_reads_stays_as_it_was(monkeypatch: pytest.MonkeyPatch):
    read: list[bool] = []
    monkeypatch.setattr("bench.training.feed.operate", lambda x, *_: read.append(x.is_contiguous()) or x)
    list(feed(hard(1, siamese=("color", "crop"), augment=CROP_MIX), data=DATA).epoch(0))
    assert len(read) == 5
    assert all(read)


@pytest.mark.parametrize("name", ["convnet", "dc_convnet", "resnet"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_students_learn_the_same_whichever_way_batches_lie(name: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch):
    """As the convolution brings them into the order of its weights."""
    teacher = network(name, 2).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    more = {"teacher": teacher} if recipe.labels == "online" else {}
    results = []
    for _ in range(2):
        student = network(name, 1)
        log = run(student, recipe, data=DATA, **more)
        results.append((log.losses, weights(student)))
        monkeypatch.setattr("bench.training.feed.channels_come_last", lambda *_: False)
    (losses, laid), (others, not_laid) = results
    assert losses == others
    assert same(laid, not_laid)
