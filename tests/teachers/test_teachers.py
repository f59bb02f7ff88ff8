"""Teachers: every recipe means something, shipped weights are those of their recipe, and what is made is made once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from torch.nn.modules.batchnorm import _BatchNorm

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.artifacts.store import arrays_digest
from bench.errors import UserError
from bench.fingerprint import digest
from bench.plugins.registry import Registry, discover
from bench.plugins.spec import parse
from bench.protocol.recipe import Recipe
from bench.stages.teach import teach
from bench.teachers import loaded, teacher_files, weights
from bench.teachers.teacher_files import FOLDER, TeacherRef, load_recipe, read_recipe, teachers_digest
from bench.training.networks import build_network

NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
ENSEMBLE = ("small-teacher-v1", "small-convnet-teacher-v1", "small-deep-teacher-v1", "small-wide-teacher-v1")
LITERATURE = {  # data sets that the family of a recipe is for, and their classes
    "small": ("digits", 10),
    "dc": ("fashion-mnist", 10),
    "cifar": ("cifar10", 10),
    "tiny": ("tiny-imagenet", 200),
    "imagenet": ("imagenet-1k", 1000),
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.fixture(scope="module")
def workspace(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("store"), registry)


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_trained_with_class_labels_or_has_published_weights(registry: Registry, name: str) -> None:
    dataset, classes = LITERATURE[name.partition("-")[0]]
    recipe = load_recipe(registry, name, dataset, classes)
    assert recipe.id == name
    if recipe.recipe is None:
        assert recipe.weights == f"{recipe.network}:IMAGENET1K_V1"
        assert recipe.normalisation == "imagenet"
    else:
        assert recipe.recipe.labels == "hard"
        assert recipe.weights is None


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "lr", "decay", "schedule"),
    [
        ("cifar-resnet18-v1", 200, 128, 0.1, 5e-4, "cosine"),
        ("tiny-resnet18-v1", 50, 256, 0.2, 1e-4, "cosine"),
        ("imagenet-subset-resnet18-v1", 90, 256, 0.1, 1e-4, "multistep"),
    ],
)
def test_the_literatures_teachers_have_its_values(
    registry: Registry, name: str, epochs: int, batch: int, lr: float, decay: float, schedule: str
) -> None:
    made = load_recipe(registry, name, "any", 10)
    recipe = made.recipe
    assert isinstance(recipe, Recipe)
    assert str(made.network) == "torchvision:resnet18"
    assert (recipe.epochs, recipe.batch, recipe.schedule.name) == (epochs, batch, schedule)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("sgd", lr, 0.9)
    assert (optimizer.weight_decay, optimizer.decay) == (decay, "all")
    assert recipe.augment.flip == 0.5
    if name.startswith("cifar"):
        assert recipe.augment.pad * 32 == 4
        assert recipe.augment.crop_scale == (1, 1)
    else:
        assert recipe.augment.crop_scale == (0.08, 1)
    assert recipe.schedule.warmup == (5 if name.startswith("tiny") else 0)
    assert recipe.schedule.milestones == ((30, 60) if schedule == "multistep" else ())


def test_an_unknown_recipe_names_the_nearest(registry: Registry) -> None:
    with pytest.raises(UserError, match="small-teacher-v1"):
        load_recipe(registry, "small-teacher-v2", "digits", 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('network = "convnet"', "a teacher recipe has the keys"),
        ('network = "convnet"\nweights = "torchvision:resnet18:IMAGENET1K_V1"', "belong to network = 'torchvision:r"),
        ('network = "torchvision:resnet18"\nweights = "torchvision:resnet18:BEST"', "no such weights"),
        ('network = "torchvision:resnet18"\nweights = 5', "must read torchvision:MODEL:NAME"),
        ('network = "convnet"\nweights = "x"\n[recipe]\nepochs = 1\nbatch = 1', "must read torchvision:MODEL:NAME"),
        ('network = "convnet"\nnormalisation = "dataset"\n[recipe]\nepochs = 1', "a teacher recipe has the keys"),
        ('network = "convnet"\n[recipe]\nepochs = 1\nbatch = 1\n[weights]\nx = 1', "must read torchvision:MODEL:NAME"),
        ('network = "convnet"\n[recipe]\nepochs = 1\nbatch = 0', "batch"),
        ('network = "convnet"\n[recipe]\nepochs = 1\nbatch = 1\ncolour = 1', "colour"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(registry: Registry, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "odd-v1.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_recipe(path, registry, "digits", 10)
    assert message in str(caught.value)
    assert str(path) in str(caught.value) or "weights '" in str(caught.value)


def test_what_stands_at_its_default_makes_no_other_teacher(registry: Registry, tmp_path: Path) -> None:
    def inputs(more: str) -> str:
        path = tmp_path / "own-v1.toml"
        path.write_text(f'network = "convnet"\n[recipe]\nepochs = 3\nbatch = 8\n{more}')
        return digest(read_recipe(path, registry, "digits", 10).inputs("0"))

    assert inputs("") == inputs("ema = 0.0\n[recipe.augment]\npad = 0\n")
    assert inputs("") != inputs("ema = 0.9\n")


# --- shipped weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENSEMBLE)
def test_digits_has_the_weights_of_a_whole_ensemble(workspace: Workspace, name: str) -> None:
    dataset = describe(workspace, "digits")
    ref = teach(workspace, name, dataset)
    assert ref.shipped
    path = ref.path(workspace.store)
    assert path.stat().st_size < 300_000
    assert path.stat().st_mode & 0o044 == 0o044  # everybody may read it
    data = workspace.described(dataset)
    model = loaded.load(ref, workspace.store, workspace.registry, data)
    assert any(isinstance(module, _BatchNorm) for module in model.modules())
    images, labels = data.test_images()
    logits = loaded.predict(model, images, mean=data.dataset.mean, std=data.dataset.std)
    assert float((logits.argmax(dim=1) == labels).float().mean()) == pytest.approx(ref.accuracy)
    assert ref.accuracy > 0.98


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [("digits", "b7005d9ed4420771"), ("mnist5k", "0e79ec7408337047"), ("glyphs", "90d07623b9c6f2b0")],
)
def test_the_first_teacher_of_every_embedded_data_set_never_changes(dataset: str, expected: str) -> None:
    path = teacher_files.shipped_path("small-teacher-v1", dataset)
    found = arrays_digest(load_file(path))
    assert found[:16] == expected
    with safe_open(path, "np") as file:
        assert json.loads(file.metadata()["json"])["digest"] == found


# --- made here -------------------------------------------------------------------------------------------------------


@pytest.mark.trains
def test_a_teacher_is_made_once_and_comes_out_the_same_in_another_store(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "quick-v1.toml"
    path.write_text('network = "convnet:width=4"\n[recipe]\nepochs = 1\nbatch = 64\nnormalisation = "imagenet"\n')
    recipe, refs = read_recipe(path, registry, "digits", 10), []
    for store in ("one", "one", "two"):
        ws = Workspace(tmp_path / store, registry)
        dataset = describe(ws, "digits")
        refs.append(weights.make(ws.store, ws.described(dataset), recipe, dataset.digest))
    assert refs[0] == refs[1] == refs[2]
    assert not refs[0].shipped
    assert refs[0].normalisation == "imagenet"
    member = loaded.member(refs[0], ws.store, registry, ws.described(dataset))
    assert member.mean == pytest.approx((0.449,))
    assert all(not parameter.requires_grad for parameter in member.model.parameters())
    monkeypatch.setattr(teacher_files, "FOLDER", tmp_path / "folder")
    shipped = weights.ship(refs[0], ws.store, recipe.id, "digits")
    assert shipped.parent == tmp_path / "folder" / "quick-v1"
    again = teacher_files.find(Workspace(tmp_path / "three", registry).store, recipe, "digits", dataset.digest)
    assert again is not None
    assert (again.shipped, again.digest, again.accuracy) == (True, refs[0].digest, refs[0].accuracy)


def test_weights_that_were_kept_under_the_former_code_digest_of_the_same_code_are_found(
    registry: Registry, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, dataset = load_recipe(registry, "small-teacher-v1", "digits", 10), describe(workspace, "digits")
    now, before = recipe.made_from(dataset.digest)
    with safe_open(teacher_files.shipped_path(recipe.id, "digits"), "pt") as file:
        weights = file.metadata()
    assert json.loads(weights["json"])["made_from"] == before != now == digest(recipe.inputs(dataset.digest))
    assert teacher_files.find(workspace.store, recipe, "digits", dataset.digest) is not None
    monkeypatch.setattr(teacher_files, "former", lambda _: ())
    assert teacher_files.find(workspace.store, recipe, "digits", dataset.digest) is None


def test_a_record_tells_one_digest_for_one_teacher_or_for_many() -> None:
    one, other = (TeacherRef("a", True, "convnet", letter * 64, 0.9) for letter in "ab")
    assert teachers_digest([one]) == "a" * 64
    expected = hashlib.sha256(f'["{"a" * 64}","{"b" * 64}"]'.encode()).hexdigest()
    assert teachers_digest([one, other]) == expected
    assert teachers_digest([other, one]) != expected


def test_logits_of_images_are_those_of_the_network_in_eval_mode(registry: Registry) -> None:
    model = build_network(parse(registry, "network", "convnet:width=4"), channels=1, size=8, classes=3, seed=0).train()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8)).astype(np.uint8))
    whole = loaded.predict(model, images, mean=(0.5,), std=(0.5,), batch=7)
    assert model.training
    alone = loaded.predict(model, images[:1], mean=(0.5,), std=(0.5,))
    torch.testing.assert_close(whole[:1], alone)
    assert loaded.predict(model, images, mean=(0.5,), std=(0.5,), features=True).shape == (30, 4)
