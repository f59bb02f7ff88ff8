"""Labels of a method as the training loop reads them: a row for each image, the same in every view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bench.labels.learned import LearnedLabels
from bench.protocol.recipe import Augment, Loss, Recipe
from tests.worlds.lessons import CLASSES, SGD, SIZE, N, close, feed, hard, network, run, same, task, weights

CERTAIN = 60.0  # logits of a class that softmax gives a probability of one
CROP = Augment(crop_scale=(0.5, 1.0))


def learned(loss: Loss, **more: Any) -> Recipe:
    return hard(**{"labels": "learned", "loss": loss, "augment": CROP, **more})


def reader(labels: torch.Tensor, recipe: Recipe) -> LearnedLabels:
    return LearnedLabels(labels.numpy(), recipe, size=SIZE, mirror=False, coordinates=("story", 0))


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    return CERTAIN * torch.nn.functional.one_hot(labels, CLASSES).float()


@pytest.mark.parametrize("siamese", [(), ("scale", "rotate")])
@pytest.mark.parametrize("name", ["soft-ce", "kl"])
@pytest.mark.trains
def test_certain_labels_of_the_classes_train_the_student_of_class_labels(name: Any, siamese: Any) -> None:
    """The same images in the same views and order: only then do the weights come out alike."""
    _, labels = task()
    of_classes, of_method = network(norm=False), network(norm=False)
    run(of_classes, hard(augment=CROP, siamese=siamese, optimizer=SGD))
    recipe = learned(Loss(name=name), siamese=siamese, optimizer=SGD)
    run(of_method, recipe, reader=reader(one_hot(labels), recipe))
    assert close(weights(of_classes), weights(of_method), atol=1e-5)


def test_squared_error_takes_the_labels_as_they_are() -> None:
    values = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(2))
    recipe = learned(Loss(name="mse"))
    batches = list(feed(recipe, reader(values, recipe)).epoch(1))
    given = torch.cat([target.logits for _, target in batches if target.logits is not None])
    assert len(given) == N
    assert sorted(map(tuple, given.tolist())) == sorted(map(tuple, values.tolist()))


def test_every_epoch_shows_another_view_and_the_same_label() -> None:
    values = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(2))
    recipe = learned(Loss(name="mse"), epochs=3, batch=N)
    shown = feed(recipe, reader(values, recipe))
    epochs = [next(iter(shown.epoch(epoch))) for epoch in range(3)]
    by_label = [x[torch.argsort(target.logits[:, 0])] for x, target in epochs if target.logits is not None]
    assert not torch.equal(by_label[0], by_label[1])
    assert len({tuple(target.classes.bincount().tolist()) for _, target in epochs}) == 1


@pytest.mark.trains
def test_half_precision_labels_train_as_their_values_do_and_take_half_the_bytes() -> None:
    values = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(2)).half()
    trained = []
    for labels in (values, values.float()):
        recipe, student = learned(Loss(name="soft-ce")), network()
        run(student, recipe, reader=reader(labels, recipe))
        trained.append(weights(student))
        assert reader(labels, recipe).sizes()["total"] == N * CLASSES * labels.element_size()
    assert same(*trained)


def test_what_does_not_go_with_learned_labels_is_refused_by_the_recipe() -> None:
    with pytest.raises(ValidationError, match="belong to one image each"):
        learned(Loss(name="kl"), augment=Augment(mix="cutmix"))
    with pytest.raises(ValidationError, match="does not go with labels = 'learned'"):
        learned(Loss())
    with pytest.raises(ValidationError, match="views"):
        learned(Loss(name="kl"), views=3)


@pytest.mark.trains
def test_without_a_reader_nothing_is_trained() -> None:
    with pytest.raises(Exception, match="no stored label set"):
        run(network(), learned(Loss(name="kl")))
    assert np.isfinite(run(network(), hard()).losses).all()
