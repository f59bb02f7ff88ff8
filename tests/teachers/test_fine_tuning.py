"""A teacher that is trained on from weights of others: what it starts from, what is drawn anew, what it is told by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bench.artifacts.refs import DatasetRef, Workspace
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages.teach import teach
from bench.teachers import loaded
from bench.teachers.state_files import file_digest, fitted, read_state
from bench.teachers.teacher_files import TeacherRef, read_recipe
from bench.training.networks import build_network
from tests.worlds.plugins import write

NETWORK = "resnet:width=16"
STILL = "epochs = 1\nbatch = 100\nnormalisation = 'dataset'\n[recipe.optimizer]\nname = 'sgd'\nlr = 1e-9"
SHORT = "epochs = 1\nbatch = 100\nnormalisation = 'dataset'\n[recipe.optimizer]\nname = 'adamw'\nlr = 1e-3"


def recipe(folder: Path, state: dict[str, torch.Tensor], training: str, *, name: str = "tuned", more: str = "") -> Path:
    """A recipe beside a file with these weights."""
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "net.safetensors")
    head = (
        f'network = "{NETWORK}"\nweights = "file:net.safetensors"\nsha256 = "{file_digest(folder / "net.safetensors")}"'
    )
    return write(folder / f"{name}.toml", f"{head}\n{more}\n[recipe]\n{training}\n")


def taught(digits: tuple[Workspace, DatasetRef], path: Path) -> tuple[TeacherRef, dict[str, torch.Tensor]]:
    """The teacher and its weights."""
    ws, dataset = digits
    own = Workspace(ws.store.root, discover([path]))
    ref = teach(own, path.stem, dataset)
    return ref, loaded.load(ref, own.store, own.registry, own.described(dataset)).state_dict()


def network(*, channels: int = 1, classes: int = 10) -> torch.nn.Module:
    return build_network(parse(discover(), "network", NETWORK), channels=channels, size=8, classes=classes, seed=5)


def other(**changed: int) -> dict[str, torch.Tensor]:
    """The weights of a network for other images or classes."""
    return network(**changed).state_dict()


@pytest.mark.trains
def test_training_starts_from_the_weights(digits: Any, state: Any, tmp_path: Path) -> None:
    """At a rate of next to nothing nothing moves, and the teacher is as good as the one that gave the weights."""
    ref, weights = taught(digits, recipe(tmp_path, state, STILL))
    learnt = [name for name in state if "running" not in name and "batches" not in name]
    assert max((weights[name] - state[name].half()).abs().max() for name in learnt) < 1e-3
    ws, dataset = digits
    assert ref.accuracy == pytest.approx(teach(ws, "small-teacher-v1", dataset).accuracy, abs=0.02)


@pytest.mark.trains
def test_from_weights_it_is_another_teacher_than_from_scratch(digits: Any, state: Any, tmp_path: Path) -> None:
    tuned = taught(digits, recipe(tmp_path, state, SHORT))[0]
    scratch = write(tmp_path / "scratch.toml", f'network = "{NETWORK}"\n[recipe]\n{SHORT}\n')
    drawn = taught(digits, scratch)[0]
    assert tuned.digest != drawn.digest
    assert tuned.accuracy > drawn.accuracy
    moved = {name: tensor + 1e-3 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    again = taught(digits, recipe(tmp_path / "moved", moved, SHORT))[0]
    assert again.digest != tuned.digest


@pytest.mark.parametrize("keys", ["name", "order"])
def test_the_classifier_and_the_first_convolution_may_be_of_other_data(digits: Any, keys: str) -> None:
    ws, dataset = digits
    target, given = network(), other(channels=3, classes=30)
    start = fitted(given, target, ws.described(dataset).dataset, "here", keys, redrawn=True)
    own = target.state_dict()
    first = next(name for name, tensor in own.items() if tensor.ndim == 4)
    drawn = {first, "classifier.weight", "classifier.bias"}
    assert all(torch.equal(start[name], own[name] if name in drawn else given[name]) for name in own)


def test_the_weights_of_a_teacher_that_ships_are_a_file_like_any_other(digits: Any, tmp_path: Path) -> None:
    """Its file keeps counts of batches as lists of one."""
    ws, dataset = digits
    shipped = teach(ws, "small-teacher-v1", dataset)
    path = tmp_path / "plain.toml"
    content = shipped.path(ws.store)
    lines = (
        f'network = "{NETWORK}"', f'weights = "file:{content}"', f'sha256 = "{file_digest(content)}"',
        'normalisation = "dataset"',
    )  # fmt: skip
    ref, weights = taught(digits, write(path, "\n".join(lines)))
    assert ref.accuracy == pytest.approx(shipped.accuracy)
    kept = read_state(content)
    assert all(torch.equal(weights[name].half().flatten(), tensor.half().flatten()) for name, tensor in kept.items())


def test_a_tensor_without_dimensions_that_does_not_fit_is_told(digits: Any, state: Any) -> None:
    ws, dataset = digits
    for name in ("classifier.bias", "stem.0.weight", "stem.1.num_batches_tracked"):
        odd = {**state, name: torch.zeros(()) if state[name].ndim else torch.zeros(3, 2)}
        for redrawn in (False, True):
            with pytest.raises(UserError, match=r"tensors of other shapes"):
                fitted(odd, network(), ws.described(dataset).dataset, "here", redrawn=redrawn)


def test_nothing_else_is_drawn_anew(digits: Any, state: Any, tmp_path: Path) -> None:
    narrow = build_network(
        parse(discover(), "network", "resnet:width=8"), channels=1, size=8, classes=10, seed=5
    ).state_dict()
    with pytest.raises(UserError, match="tensors of other shapes than the network's"):
        taught(digits, recipe(tmp_path / "narrow", narrow, SHORT))
    lacking = {name: tensor for name, tensor in state.items() if name != "classifier.bias"}
    with pytest.raises(UserError, match=r"it lacks classifier\.bias"):
        taught(digits, recipe(tmp_path / "lacking", lacking, SHORT))


def test_without_a_training_other_classes_are_refused_and_the_way_out_is_told(digits: Any, tmp_path: Path) -> None:
    ws, dataset = digits
    with pytest.raises(UserError, match=r"the weights are for 30 classes.* or add a \[recipe\] that trains on"):
        fitted(other(classes=30), network(), ws.described(dataset).dataset, "here")


def test_the_normalisation_is_that_of_the_training(state: Any, tmp_path: Path) -> None:
    path = recipe(tmp_path, state, SHORT, more='normalisation = "imagenet"')
    with pytest.raises(UserError, match=r"the normalisation stands in \[recipe\]"):
        read_recipe(path, discover(), "digits", 10)
    path = recipe(tmp_path, state, SHORT.replace("'dataset'", "'imagenet'"))
    assert read_recipe(path, discover(), "digits", 10).normalisation == "imagenet"
