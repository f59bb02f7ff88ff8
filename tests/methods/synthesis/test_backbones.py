"""G-VBSM and EDC on real digits, with several backbones; and the backbones that the harness lends."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.checks.plugins.workshop import Renamed, Workshop
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.protocol.definition import load
from bench.stages.context import HarnessContext
from bench.stages.teach import teach
from bench.teachers import network_choice, teacher_files, weights
from methods.synthesis import edc, gvbsm, rded
from tests.worlds.fakes import digits, digits_context

METHODS = pytest.mark.parametrize("method", [gvbsm, edc], ids=lambda m: m.__name__.rpartition(".")[2])


def make(method: ModuleType, ipc: int = 2, replicate: int = 0, **options):
    return method.synthesize(digits(), ipc, digits_context(replicate=replicate), **{"backbones": 2, **options})


@METHODS
def test_recovered_digits_are_taken_for_their_class(method):
    made = make(method, iterations=90, lr=0.1)
    assert made.images.dtype == torch.uint8
    assert made.images.shape == (20, 1, 8, 8)
    assert made.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert made.provenance["teacher_top1"] >= 0.9


@METHODS
def test_the_matching_loss_falls_in_trend(method):
    falls = make(method, iterations=80, lr=0.1, r_loss=0.05).provenance["matching_loss_by_tenth"]
    assert sum(falls[7:]) < 0.8 * sum(falls[:3])


@METHODS
def test_the_same_replicate_repeats_bit_for_bit_and_another_one_differs(method):
    first, again, other = (make(method, replicate=r, iterations=4).images for r in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@METHODS
def test_every_option_of_the_loss_changes_the_images(method):
    plain = make(method, iterations=8).images
    options = [{"r_loss": 0.0}, {"momentum": 0.0}, {"backbones": 1}, {"patch": 8}]
    options += (
        [{"drop": 0.9}]
        if method is gvbsm
        else [
            {"category": 0.0},
            {"weighting": "means"},
            {"flatness": 0.0},
            {"flat": "statistics"},
            {"flat": "sam"},
        ]
    )
    for changed in options:
        assert not torch.equal(make(method, iterations=8, **changed).images, plain), changed


def test_densification_acts_where_eigenvalues_are_close():
    """On a scale of pixels so small that they are: on the usual one the published term is almost always 0."""
    made = []
    for densify in (0.0, 1.0):
        context = digits_context()
        context.normalise = lambda images: (images.float() / 255 - 0.3) / 10  # type: ignore[method-assign]
        options = {"iterations": 8, "backbones": 1, "r_loss": 0.0}
        made.append(gvbsm.synthesize(digits(), 2, context, densify=densify, **options).images)
    assert not torch.equal(*made)


@METHODS
def test_wrong_arguments_are_refused(method):
    for argument, message in (
        ({"momentum": 1}, "momentum is 1; it must be at least 0 and below 1"),
        ({"patch": 0}, "patch is 0; it must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make(method, **argument)
    context = digits_context()
    context.teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match="neither a convolution nor a batch norm"):
        method.synthesize(digits(), 1, context, iterations=1, backbones=1)


def test_edc_starts_from_what_it_is_told_to():
    barely = {"iterations": 1, "lr": 1e-6}
    wanted = rded.synthesize(digits(), 2, digits_context()).images
    assert torch.equal(make(edc, **barely).images, wanted)
    known = {image.numpy().tobytes() for image in digits().images(range(len(digits())))}
    assert all(image.numpy().tobytes() in known for image in make(edc, init="real", **barely).images)
    noise = make(edc, init="noise", **barely).images
    assert not any(image.numpy().tobytes() in known for image in noise)
    with pytest.raises(ValueError, match='init is \'jpeg\'; it must be "rded", "real" or "noise"'):
        make(edc, init="jpeg")


# The backbones that the harness lends


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("store"), discover())


def context(ws: Workspace, recipe: str = "small-teacher-v1") -> HarnessContext:
    dataset = describe(ws, "digits")
    return HarnessContext(
        store=ws.store,
        registry=ws.registry,
        data=ws.data("digits"),
        dataset_digest=dataset.digest,
        teacher=teach(ws, recipe, dataset),
        coordinates=("condense", "mine", "digits", 1, 0),
        scratch=Path(),
        device="cpu",
    )


def test_the_teacher_comes_first_and_the_others_are_as_good_and_of_other_kinds(workspace):
    lent = context(workspace)
    four = lent.teachers(4)
    assert four[0] is lent.teacher
    assert lent.teachers(2)[1] is four[1]
    assert len({sum(p.numel() for p in net.parameters()) for net in four}) == 4
    assert not any(net.training or any(p.requires_grad for p in net.parameters()) for net in four)
    train = workspace.data("digits").train
    rows = np.arange(300)
    images, labels = lent.normalise(train.images(rows)), torch.as_tensor(train.labels[rows].copy())
    for net in four:
        assert float((net(images).argmax(dim=1) == labels).float().mean()) > 0.97
    assert not lent.asked_for_randomness


def test_more_backbones_than_there_are_is_a_message(workspace):
    with pytest.raises(UserError, match=r"9 backbones were asked for; data set 'digits' has 4 \(small-teacher-v1, "):
        context(workspace).teachers(9)


def test_another_teacher_is_not_lent_twice(workspace):
    lent = context(workspace, "small-convnet-teacher-v1").teachers(4)
    usual = context(workspace).teachers(4)
    weights = [{bytes(p.numpy().tobytes()) for p in net.parameters()} for net in lent]
    assert all(not a & b for i, a in enumerate(weights) for b in weights[:i])
    assert weights[3] == {bytes(p.numpy().tobytes()) for p in usual[0].parameters()}  # the usual teacher, last


def test_a_backbone_of_another_normalisation_takes_the_teachers_images(workspace, monkeypatch):
    plain = context(workspace).teachers(2)
    made = weights.make_unmeasured
    monkeypatch.setattr(weights, "make_unmeasured", lambda *a, **k: foreign(made(*a, **k)))

    def foreign(ref: teacher_files.TeacherRef) -> teacher_files.TeacherRef:
        return teacher_files.TeacherRef(ref.address, ref.shipped, ref.network, ref.digest, ref.accuracy, "imagenet")

    lent = context(workspace)
    images = workspace.data("digits").train.images(np.arange(5))
    mean, std = 0.449, 0.226  # of ImageNet, over its channels
    wanted = plain[1]((images.float() / 255 - mean) / std)
    assert torch.allclose(lent.teachers(2)[1](lent.normalise(images)), wanted, atol=1e-3)


def test_what_is_not_shipped_is_trained_once_and_without_the_test_split():
    shop = Workshop(discover())
    data = shop.data("plain")
    with shop.context(data, "mine", 0) as lent:
        net = lent.teachers(2)[1]
        files = list((shop.store.root / "backbone").glob("*.safetensors"))
        assert len(files) == 1
        stamp = files[0].stat().st_mtime_ns
    with shop.context(shop.data("plain"), "other", 1) as later:
        again = later.teachers(2)[1]
        renamed = Renamed(later, (2, 0, 1)).teachers(2)[1]
        images = later.normalise(data.train.images([0, 1]))
        assert torch.equal(renamed(images)[:, 2], net(images)[:, 0])
    assert files[0].stat().st_mtime_ns == stamp
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert data.opened == []


def test_the_lists_name_recipes_that_exist_and_follow_gvbsm():
    registry = discover()
    fixed = load(registry, "gvbsm-v1")
    for dataset in ("cifar10", "cifar100", "tiny-imagenet", "imagenet-1k"):
        listed = tuple(fixed.teachers(dataset))
        assert listed == network_choice.LISTED[dataset][: len(listed)]
    assert [len(network_choice.LISTED[each]) for each in ("cifar10", "cifar100", "imagenet-1k")] == [8, 8, 5]  # EDC's
    for recipes in network_choice.LISTED.values():
        for name in recipes:
            assert teacher_files.load_recipe(registry, name, "cifar10", 10).network
    assert tuple(fixed.teachers("glyphs")) == network_choice.SMALL
    assert tuple(fixed.teachers("imagenette")) == network_choice.SUBSET


def test_edc_has_the_values_of_the_paper_and_of_the_scripts_for_each_data_set():
    rows, parameters = edc.PUBLISHED, discover().get("method", "edc").parameters
    assert list(rows) == [
        name + source
        for name in ("imagenet1k", "imagenet10", "tinyimagenet", "cifar10", "cifar100")
        for source in ("", ", script")
    ]
    for name, row in rows.items():
        assert row.keys() <= parameters.keys(), name
        assert {"iterations", "r_loss", "backbones", "init", "flatness"} <= row.keys(), name
        assert (row["flatness"], row.get("category")) == ((0.0, None) if "script" in name else (0.25, 0.5)), name
    assert {name: row["backbones"] for name, row in rows.items() if name.startswith("cifar")} == dict.fromkeys(
        ("cifar10", "cifar10, script", "cifar100", "cifar100, script"), "all"
    )
    assert (rows["imagenet1k"]["iterations"], rows["imagenet1k, script"]["iterations"]) == (2000, 1000)
    assert (rows["imagenet10"]["iterations"], rows["imagenet10, script"]["iterations"]) == (2000, 50)
