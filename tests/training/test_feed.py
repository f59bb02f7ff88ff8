"""Batches: which images come when, in which view, with which labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.errors import UserError
from bench.protocol.recipe import Augment, Loss, Recipe
from bench.views.parameters import Views
from bench.views.pasting import pasted
from bench.views.render import finish, render
from tests.worlds.lessons import (
    CLASSES,
    CROP_MIX,
    MEAN,
    SIZE,
    STD,
    N,
    feed,
    hard,
    network,
    online,
    run,
    same,
    soft,
    stored,
    task,
)


@pytest.mark.parametrize(
    "augment",
    [
        Augment(crop_scale=(0.5, 1)),
        CROP_MIX,
        Augment(mix="mixup", mix_unit="batch"),
        Augment(crop_scale=(0.5, 1), mix_unit="batch"),
        Augment(randaugment_ops=2, pad=0.125, mix="cutmix"),
    ],
    ids=["crop", "crop, cutmix", "mixup per batch", "stored batches", "randaugment, pad, cutmix"],
)
def test_an_epoch_shows_every_image_once_in_its_view_with_its_own_labels(augment: Augment):
    reader = stored(5, augment=augment)
    source, (images, _) = feed(soft(7, augment), reader), task()
    for epoch in range(7):
        view = reader.views[epoch % 5]
        shown = render(images, view, np.arange(N), mean=MEAN, std=STD)
        wanted = torch.softmax(reader.logits[:, epoch % 5] / 4.0, dim=1)
        seen = []
        for x, target in source.epoch(epoch):
            rows = [int((target.probabilities[i] - wanted).abs().sum(1).argmin()) for i in range(len(x))]
            assert torch.allclose(x, shown[rows], atol=1e-5)
            assert torch.allclose(target.probabilities, wanted[rows], atol=1e-6)
            seen += rows
        assert sorted(seen) == list(range(N))
        if view.order is not None:
            assert seen == view.order.tolist()


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_labels_are_decoded_a_window_at_a_time_and_never_again_within_it(loss: str):
    reader, recipe = stored(5), soft(10, loss=Loss(name=loss))
    source = feed(recipe, reader, block_bytes=2 * 4 * N * CLASSES)
    for epoch in range(10):
        list(source.epoch(epoch))
    assert reader.asked == [[0], [1, 2], [3, 4], [0, 1], [2, 3], [4]]
    roomy = stored(5)
    source = feed(recipe, roomy)
    for epoch in range(10):
        list(source.epoch(epoch))
    assert roomy.asked[1:] == [[1, 2, 3, 4, 0]]


@pytest.mark.parametrize("unit", ["image", "batch"])
def test_pruned_labels_are_drawn_from_the_pool_batch_by_batch(unit: str):
    augment = Augment(crop_scale=(0.5, 1.0), mix="cutmix", mix_unit=unit)
    reader, (images, _) = stored(5, [1, 4], augment), task()
    source, used = feed(soft(6, augment), reader), []
    for epoch in range(6):
        for x, target in source.epoch(epoch):
            matches = []
            for view in (1, 4):
                wanted = torch.softmax(reader.logits[:, view] / 4.0, dim=1)
                gap = (target.probabilities[:, None] - wanted).abs().sum(2)
                if gap.min(1).values.max() < 1e-5:
                    rows = gap.argmin(1).numpy()
                    shown = render(images, reader.views[view], rows, mean=MEAN, std=STD)
                    assert torch.allclose(x, shown, atol=1e-5)
                    matches.append(view)
            assert len(matches) == 1
            used += matches
    assert {1, 4} == set(used)
    assert {view for asked in reader.asked for view in asked} == {1, 4}


def test_order_and_views_do_not_depend_on_the_images():
    """Two methods hand in different images: the student sees them in the same order and the same crops."""
    source = feed(hard(2, augment=CROP_MIX))
    other = feed(hard(2, augment=CROP_MIX))
    for (_, mine), (_, theirs) in zip(source.epoch(1), other.epoch(1), strict=True):
        assert torch.equal(mine.classes, theirs.classes)
        assert torch.equal(mine.lam, theirs.lam)


@pytest.mark.parametrize("unit", ["image", "batch"])
def test_boxes_that_are_pasted_give_the_bits_of_those_that_are_looked_up(unit: str, monkeypatch: pytest.MonkeyPatch):
    recipe, views = hard(3, augment=Augment(crop_scale=(0.5, 1.0), mix="cutmix", mix_unit=unit)), []

    def looked_up(base: torch.Tensor, rows: np.ndarray, partners: np.ndarray, boxes: np.ndarray) -> torch.Tensor:
        view = next(view for view in source._views if np.array_equal(view.mix_box[rows], boxes))
        views.append(view)
        return finish(base[rows], base[partners], view, rows)

    shown = []
    for way in (pasted, looked_up):
        monkeypatch.setattr("bench.training.feed.pasted", way)
        source = feed(recipe)
        shown.append([x for epoch in range(3) for x, _ in source.epoch(epoch)])
    assert len(views) >= 3
    assert all(torch.equal(one, other) for one, other in zip(*shown, strict=True))


BATCHWISE = Augment(crop_scale=(0.5, 1.0), mix="cutmix", mix_unit="batch")


def drawn(recipe: Recipe, k: int, available=None, replicate: int = 0) -> list[tuple[int, int, int]]:
    """(view, batch, images) of every step, read off the labels: image i has the logits (i, view) in that view."""
    reader, (images, classes) = stored(k, available, recipe.augment, recipe.batch), task()
    reader.logits = torch.cartesian_prod(torch.arange(float(N)), torch.arange(float(k))).view(N, k, 2)
    source, steps = feed(recipe, reader, replicate), []
    for epoch in range(recipe.epochs):
        for x, target in source.epoch(epoch):
            rows, at = target.logits[:, 0].long(), int(target.logits[0, 1])
            assert (target.logits[:, 1] == at).all()
            assert torch.equal(target.classes, classes[rows])
            assert torch.allclose(x, render(images, reader.views[at], rows.numpy(), mean=MEAN, std=STD), atol=1e-5)
            place = reader.views[at].order.tolist().index(int(rows[0]))
            assert reader.views[at].order[place : place + len(rows)].tolist() == rows.tolist()
            steps.append((at, place // recipe.batch, len(rows)))
    return steps


@pytest.mark.parametrize("augment", [BATCHWISE, Augment(mix_unit="batch")])
def test_a_pool_gives_any_stored_batch_at_any_step(augment: Augment):
    """23 images make 5 batches of 5, the last of 3: it gives way to the one before it, as in LPLD."""
    recipe = soft(80, augment, views=4, draw="batch", loss=Loss(name="mse"))
    steps = drawn(recipe, 4)
    assert len(steps) == 80 * 5
    assert {n for _, _, n in steps} == {5}
    counts = np.zeros((4, 4))
    for view, batch, _ in steps:
        counts[view, batch] += 1
    expected = np.tile([20, 20, 20, 40], (4, 1))  # 400 draws of 20 entries; the last two of a view fall together
    assert (abs(counts - expected) < 4 * np.sqrt(expected)).all()
    assert steps == drawn(recipe, 4) != drawn(recipe, 4, replicate=1)


def test_a_pruned_pool_gives_only_what_is_stored():
    steps = drawn(soft(40, BATCHWISE, draw="batch", loss=Loss(name="mse")), 5, [0, 3])
    assert {view for view, _, _ in steps} == {0, 3}
    assert {batch for _, batch, _ in steps} == {0, 1, 2, 3}


@pytest.mark.trains
def test_a_pool_keeps_its_number_of_steps_and_counts_what_was_seen():
    log = run(network(), soft(3, BATCHWISE, draw="batch"), reader=stored(5, augment=BATCHWISE))
    assert (log.steps, log.images_seen) == (3 * 5, 3 * 5 * 5)
    single = soft(3, BATCHWISE, draw="batch", batch=40)
    log = run(network(), single, reader=stored(5, augment=BATCHWISE, batch=40))
    assert (log.steps, log.images_seen) == (3, 3 * N)  # the only batch is short, and there is none before it


def test_views_without_batches_are_no_pool():
    with pytest.raises(UserError, match="stored batch by batch"):
        feed(soft(1, BATCHWISE, draw="batch"), stored(5, augment=CROP_MIX))


def test_online_labels_come_with_the_images_and_classes_of_hard_ones():
    teacher = network(norm=False)
    for augment in (CROP_MIX, BATCHWISE, Augment(randaugment_ops=1, pad=0.125)):
        asked = feed(online(2, augment=augment, loss=Loss(name="mse")), teacher=teacher)
        for epoch in range(2):
            for (x, target), (plain, wanted) in zip(
                asked.epoch(epoch), feed(hard(2, augment=augment)).epoch(epoch), strict=True
            ):
                assert torch.equal(x, plain)
                assert torch.equal(target.classes, wanted.classes)
                assert torch.equal(target.logits, teacher(x))


def test_randaugment_sees_raw_pixels_and_leaves_the_other_draws_alone():
    """With and without it the same images come in the same batches, flipped and cropped alike."""
    plain, changed = Augment(crop_scale=(0.5, 1.0)), Augment(crop_scale=(0.5, 1.0), randaugment_ops=2)
    views = [Views(each, N, SIZE, mirror=True, batch=5, seed=4, count=1)[0] for each in (plain, changed)]
    assert np.array_equal(views[0].box, views[1].box)
    assert np.array_equal(views[0].flip, views[1].flip)
    pairs = list(zip(feed(hard(1, augment=plain)).epoch(0), feed(hard(1, augment=changed)).epoch(0), strict=True))
    assert same([a.classes for (_, a), _ in pairs], [b.classes for _, (_, b) in pairs])
    moved = torch.cat([(a - b).abs().amax((1, 2, 3)) > 1e-3 for (a, _), (b, _) in pairs])
    assert moved.float().mean() > 0.5  # some operations do nothing, and crops hide some of the rest


def test_images_can_be_mixed_while_their_classes_are_not():
    """Rethinking, Tables 12 and 22: the same views as with mixed classes, and the class of the image itself whole."""
    mixing = Augment(mix="cutmix")
    mixed, plain = (feed(hard(2, augment=mixing, loss=Loss(mix_labels=mix))) for mix in (True, False))
    for (x, target), (again, whole) in zip(mixed.epoch(1), plain.epoch(1), strict=True):
        assert torch.equal(x, again)
        assert torch.equal(target.classes, whole.classes)
        assert target.others is not None
        assert (whole.others, whole.lam) == (None, None)
    with pytest.raises(ValueError, match="mix_labels"):
        hard(2, loss=Loss(mix_labels=False))
    with pytest.raises(ValueError, match="mix_labels"):
        soft(2, loss=Loss(name="kl", mix_labels=False))
    assert hard(2, augment=mixing, loss=Loss(mix_labels=True)).digest == hard(2, augment=mixing).digest
