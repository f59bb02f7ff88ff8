"""Teachers that label together, held against loops that say in plain words what the sources do."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.labels.making import label_views, teacher_logits
from bench.protocol.recipe import Recipe
from bench.teachers.ensemble import Ensemble, Member, ensemble_of, label_view, scales, stored_batches, view_norms
from bench.training.peak_memory import PeakMemory
from bench.views.parameters import Views
from bench.views.render import normalise, render
from tests.worlds.fakes import SmallNet, digits

MEAN, STD = (0.3,), (0.35,)
OTHER_MEAN, OTHER_STD = (0.5,), (0.2,)
N, CLASSES = 47, 10


def net(number: int) -> nn.Module:
    """An untrained network, none like the other, whose batch norms have statistics of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(number)
        made = SmallNet(1, CLASSES, width=4 + number)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2)
        with torch.no_grad():
            made.head.weight.mul_(number + 1)  # logits of very different size, which norm-mean evens out
    return made.eval().requires_grad_(False)


def members(count: int = 3) -> list[Member]:
    """The last one is normalised otherwise."""
    made = [Member(net(number), MEAN, STD) for number in range(count)]
    return [*made[:-1], Member(made[-1].model, OTHER_MEAN, OTHER_STD)] if count > 1 else made


def views_of(unit: str, mix: str = "cutmix", images: int = N, count: int = 2) -> Views:
    recipe = Recipe.model_validate(
        {
            "labels": "stored",
            "views": count,
            "epochs": 1,
            "batch": 10,
            "loss": {"name": "kl"},
            "augment": {"crop_scale": (0.4, 1.0), "mix": mix, "mix_unit": unit},
        }
    )
    return label_views(recipe, images, protocol="p", dataset="digits", size=8, mirror=True)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return digits().images(np.arange(N))


def naive_label(
    teachers: Sequence[Member], images: torch.Tensor, views: Views, k: int, *, norm_mean: bool, train_mode: bool
) -> torch.Tensor:
    """Batch by batch, teacher by teacher, as the published scripts do; float64 where they combine."""
    result = torch.zeros(len(images), CLASSES, dtype=torch.float64)
    for rows in stored_batches(views, k):
        blocks = []
        for teacher in teachers:
            model = copy.deepcopy(teacher.model)  # whatever train mode does to it is gone with it
            model.train(train_mode)
            shown = render(images, views[k], rows, mean=teacher.mean, std=teacher.std)
            with torch.no_grad():
                blocks.append(model(shown).double())
        if norm_mean:
            norms = [float(block.pow(2).sum().sqrt()) for block in blocks]
            target = sum(norms) / len(norms)
            blocks = [block * (target / norm) for block, norm in zip(blocks, norms, strict=True)]
        for row, index in enumerate(rows):
            result[index] = sum(block[row] for block in blocks) / len(blocks)
    return result


WAYS = [(False, False), (True, False), (False, True), (True, True)]


@pytest.mark.parametrize("unit", ["image", "batch"])
@pytest.mark.parametrize(("norm_mean", "train_mode"), WAYS)
def test_labels_are_those_of_the_plain_loop(images: torch.Tensor, norm_mean: bool, train_mode: bool, unit: str) -> None:
    views = views_of(unit)
    expected = [
        naive_label(members(), images, views, k, norm_mean=norm_mean, train_mode=train_mode) for k in range(len(views))
    ]
    ensemble = Ensemble(members(), norm_mean=norm_mean, train_mode=train_mode)
    found = torch.stack([label_view(ensemble, images, views, k, np.arange(N)) for k in range(len(views))])
    torch.testing.assert_close(found.double(), torch.stack(expected), rtol=1e-5, atol=1e-5)
    halves = teacher_logits(
        Ensemble(members(), norm_mean=norm_mean, train_mode=train_mode), images, views, np.arange(N)
    )
    assert torch.equal(halves, found.transpose(0, 1).to(torch.float16))


@pytest.mark.parametrize(("norm_mean", "train_mode"), WAYS)
def test_shards_carry_the_labels_of_the_whole_set(images: torch.Tensor, norm_mean: bool, train_mode: bool) -> None:
    views = views_of("batch")
    ensemble = Ensemble(members(), norm_mean=norm_mean, train_mode=train_mode)
    for k in range(len(views)):
        whole = label_view(ensemble, images, views, k, np.arange(N))
        norms = view_norms(ensemble, images, views, k) if norm_mean and not train_mode else None
        for start, stop in ((0, 1), (1, 20), (20, N)):
            part = label_view(ensemble, images, views, k, np.arange(start, stop), norms)
            torch.testing.assert_close(part, whole[start:stop], rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not begin a peak anew")
@pytest.mark.parametrize("train_mode", [False, True])
def test_what_labelling_of_photographs_takes_does_not_grow_with_their_number(train_mode: bool) -> None:
    """Of 224 px, where a teacher's batch of 250 images would take a GiB; but for the whole batches of batch statistics,
    of which the images stay."""
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, CLASSES)).requires_grad_(False)
    ensemble = Ensemble([Member(pooled, (0.5,) * 3, (0.5,) * 3)], train_mode=train_mode)
    image = 4 * 3 * 224 * 224

    def peak(n: int) -> int:
        pictures = torch.zeros(n, 3, 224, 224, dtype=torch.uint8)
        recipe = Recipe(
            epochs=1, batch=n, views=1, labels="stored", loss={"name": "kl"},
            augment={"crop_scale": (0.4, 1.0), "mix": "cutmix"},
        )  # fmt: skip
        views = label_views(recipe, n, protocol="p", dataset="photographs", size=224, mirror=True)
        memory = PeakMemory()
        assert label_view(ensemble, pictures, views, 0, np.arange(n)).shape == (n, CLASSES)
        return memory.above()

    peak(20)  # libraries are loaded
    small, large = peak(40), peak(440)  # far apart: a peak moves by 30 MB from one run to the next
    assert (large - small) / 400 < (1.5 if train_mode else 0.25) * image
    assert large < (image * 440 if train_mode else 0) + 100 * 2**20


@pytest.mark.parametrize("train_mode", [False, True])
def test_a_teacher_that_is_asked_online_sees_a_batch_of_photographs_in_few_images_a_pass(train_mode: bool) -> None:
    """But for batch statistics, which are those of the whole batch."""
    sizes: list[int] = []
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, CLASSES)).requires_grad_(False)
    pooled.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    ensemble = Ensemble([Member(pooled, (0.5,) * 3, (0.5,) * 3)], train_mode=train_mode)
    for side, split in ((224, [20, 20, 5]), (64, [45]), (32, [45])):
        sizes.clear()
        x = torch.randn(45, 3, side, side)
        said = ensemble.online((0.4,) * 3, (0.5,) * 3)(x)
        assert sizes == ([45] if train_mode else split)
        change = (0.4 - 0.5) / 0.5  # to the teacher's normalisation
        torch.testing.assert_close(said, pooled(x + change), rtol=1e-4, atol=1e-4)


def test_norms_are_one_for_each_teacher_and_stored_batch(images: torch.Tensor) -> None:
    views = views_of("batch")
    found = view_norms(Ensemble(members(), norm_mean=True), images, views, 0)
    assert found.shape == (3, len(stored_batches(views, 0)))
    first = stored_batches(views, 0)[0]
    alone = members()[1].model(render(images, views[0], first, mean=MEAN, std=STD))
    torch.testing.assert_close(found[1, 0], alone.norm())


@pytest.mark.parametrize("mix", ["none", "cutmix"])
@pytest.mark.parametrize("images", [1, 7, 10, 11, 47])
def test_every_image_stands_in_one_stored_batch_of_two_or_more(images: int, mix: str) -> None:
    for unit in ("image", "batch"):
        views = views_of(unit, mix, images)
        for k in range(len(views)):
            batches = stored_batches(views, k)
            assert sorted(np.concatenate(batches)) == list(range(images))
            assert max(map(len, batches)) <= 11  # a left-over image joins the batch before it
            assert min(map(len, batches)) >= min(2, images)


def test_stored_batches_are_those_that_the_student_is_shown_or_a_mixture_of_classes() -> None:
    drawn_by_batch = views_of("batch")
    order = drawn_by_batch[1].order
    assert order is not None
    assert np.array_equal(np.concatenate(stored_batches(drawn_by_batch, 1)), order)
    by_image = views_of("image")
    shuffled = [np.concatenate(stored_batches(by_image, k)) for k in (0, 1)]
    assert not np.array_equal(shuffled[0], np.arange(N))
    assert not np.array_equal(*shuffled)


def test_one_teacher_is_itself_however_it_is_combined(images: torch.Tensor) -> None:
    views, (alone,) = views_of("batch"), members(1)
    plain = label_view(Ensemble([alone]), images, views, 0, np.arange(N))
    assert torch.equal(label_view(Ensemble([alone], norm_mean=True), images, views, 0, np.arange(N)), plain)
    assert torch.equal(plain, alone.model(render(images, views[0], np.arange(N), mean=MEAN, std=STD)))


def test_batch_statistics_never_drift_and_leave_the_rest_in_eval_mode(images: torch.Tensor) -> None:
    class Dropping(SmallNet):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(super().forward(images), 0.5, self.training)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropping = Dropping(1, CLASSES).eval()
    before = {name: value.clone() for name, value in dropping.state_dict().items() if "running" not in name}
    label = Ensemble([Member(dropping, MEAN, STD)], train_mode=True).online(MEAN, STD)
    x = normalise(images, MEAN, STD)
    first = label(x)
    label(x + 3)
    assert torch.equal(label(x), first)
    assert not torch.allclose(label(x[:20]), first[:20])  # the batch decides
    after = dropping.state_dict()
    assert not any("running" in name for name in after)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(("norm_mean", "train_mode"), WAYS)
def test_online_labels_are_those_of_each_teacher_in_its_own_normalisation(
    images: torch.Tensor, norm_mean: bool, train_mode: bool
) -> None:
    label = Ensemble(members(), norm_mean=norm_mean, train_mode=train_mode).online(MEAN, STD)
    found = label(normalise(images, MEAN, STD))
    blocks = []
    for teacher in members():
        model = teacher.model.train(train_mode)
        with torch.no_grad():
            blocks.append(model(normalise(images, teacher.mean, teacher.std)).double())
    if norm_mean:
        target = sum(block.norm() for block in blocks) / len(blocks)
        blocks = [block * (target / block.norm()) for block in blocks]
    torch.testing.assert_close(found.double(), sum(blocks) / len(blocks), rtol=1e-4, atol=1e-4)
    assert found.dtype == torch.float32


def test_online_labels_carry_no_gradients(images: torch.Tensor) -> None:
    x = normalise(images, MEAN, STD).requires_grad_()
    assert not Ensemble(members()).online(MEAN, STD)(x).requires_grad


def test_colour_images_are_renormalised_channel_by_channel() -> None:
    class Identity(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

    x = torch.randint(0, 256, (4, 3, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    here, there = ((0.1, 0.5, 0.9), (0.2, 0.3, 0.4)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    label = Ensemble([Member(Identity(), *there)]).online(*here)
    torch.testing.assert_close(label(normalise(x, *here)), normalise(x, *there).flatten(1), rtol=1e-5, atol=1e-5)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6))
def test_scaled_norms_are_all_their_mean(norms: list[float]) -> None:
    given_norms = torch.tensor(norms, dtype=torch.float64)
    torch.testing.assert_close(given_norms * scales(given_norms), given_norms.mean().expand(len(norms)))


def test_a_teacher_that_says_nothing_stays_silent() -> None:
    assert scales(torch.tensor([0.0, 2.0])).tolist() == [0.0, 0.5]
    assert scales(torch.zeros(2)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("values", "norm_mean", "train_mode"),
    [({}, False, False), ({"ensemble": "norm-mean"}, True, False), ({"teacher_mode": "train"}, False, True)],
)
def test_a_recipe_decides_how_teachers_are_combined(values: dict[str, Any], norm_mean: bool, train_mode: bool) -> None:
    recipe = Recipe.model_validate({"labels": "online", "epochs": 1, "batch": 2, "loss": {"name": "kl"}, **values})
    made = ensemble_of(members(), recipe)
    assert (made.norm_mean, made.train_mode) == (norm_mean, train_mode)
