"""Published weights: the right file for the right images, or a message that says what to do. Nothing is downloaded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.api import Dataset
from bench.artifacts import opened
from bench.artifacts.opened import Data
from bench.artifacts.store import Store
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.plugins.spec import Spec, parse
from bench.teachers import loaded, pretrained, teacher_files, weights
from bench.teachers.ensemble import Member
from bench.training.networks import build_network

WEIGHTS = "torchvision:shufflenet_v2_x0_5:IMAGENET1K_V1"
SIZE = 72  # the smallest that leaves shufflenet a map of some pixels and is no small image


class Source:
    """Ten images of a thousand classes, each with the class that `label` says."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (10, 3, SIZE, SIZE)).astype(np.uint8)[indices]

    def digest(self) -> str:
        return hashlib.sha256(self.labels.tobytes()).hexdigest()


def data_of(labels: np.ndarray, **changed: Any) -> Data:
    source = Source(labels)
    fields = {"num_classes": 1000, "channels": 3, "size": SIZE, "source_size": SIZE, "mirror": True, **changed}
    dataset = Dataset(**fields, mean=(0.5,) * 3, std=(0.5,) * 3, train=lambda: source, test=lambda: source)
    plugin: Any = SimpleNamespace(
        name="photos", path=Path("photos.py"), parameters={}, constants={}, module=None, digest="0"
    )
    data = Data(Spec(plugin, {}), Path())
    vars(data)["dataset"] = dataset
    return data


@pytest.fixture(scope="module")
def network() -> nn.Module:
    spec = parse(discover(), "network", "torchvision:shufflenet_v2_x0_5")
    return build_network(spec, channels=3, size=SIZE, classes=1000, seed=7).eval()


@pytest.fixture(scope="module")
def answers(network: nn.Module) -> np.ndarray:
    """What the network says of the images, in ImageNet's normalisation: the classes for which it is always right."""
    images = torch.from_numpy(Source(np.zeros(10)).read(np.arange(10)))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return loaded.predict(network, images, mean=mean, std=std).argmax(dim=1).numpy()


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Any) -> SimpleNamespace:
    """A folder that stands for torchvision's server, with one file whose name tells its hash."""
    plain = tmp_path / "plain.pth"
    torch.save(network.model.state_dict(), plain)
    name = f"net-{hashlib.sha256(plain.read_bytes()).hexdigest()[:8]}.pth"
    server, here = tmp_path / "server", tmp_path / "torch" / "hub" / "checkpoints"
    server.mkdir()
    plain.rename(server / name)
    meta = {"categories": ["x"] * 1000, "_metrics": {"ImageNet-1K": {"acc@1": 60.0}}}
    entry = SimpleNamespace(url=(server / name).as_uri(), meta=meta)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(pretrained, "find_weights", lambda _: entry)
    monkeypatch.setattr(opened, "check_classes", lambda *_: None)  # ten test images for a thousand classes
    return SimpleNamespace(server=server / name, here=here / name)


def make(labels: np.ndarray, store: Path, **changed: Any) -> tuple[teacher_files.TeacherRef, Data]:
    registry, data = discover(), data_of(labels, **changed)
    recipe = teacher_files.TeacherRecipe(
        "photos-v1", parse(registry, "network", "torchvision:shufflenet_v2_x0_5"), None, WEIGHTS
    )
    return weights.make(Store(store), data, recipe, data.dataset.train().digest()), data


def test_downloaded_weights_become_a_teacher_that_sees_imagenets_normalisation(
    published: SimpleNamespace, network: nn.Module, answers: np.ndarray, tmp_path: Path
) -> None:
    ref, data = make(answers, tmp_path / "store")
    assert published.here.is_file()
    assert (ref.accuracy, ref.normalisation, ref.shipped) == (1.0, "imagenet", False)
    member = loaded.member(ref, Store(tmp_path / "store"), discover(), data)
    assert isinstance(member, Member)
    assert member.mean == (0.485, 0.456, 0.406)
    assert not member.model.training
    assert all(torch.equal(a, b) for a, b in zip(member.model.parameters(), network.parameters(), strict=True))
    published.server.unlink()  # from now on the store has it
    published.here.unlink()
    assert make(answers, tmp_path / "store")[0] == ref


def test_classes_in_another_order_are_found(published: SimpleNamespace, answers: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"60\.0% on ImageNet-1K, and 0\.0% on the test split.*torchvision's order"):
        make((answers + 1) % 1000, tmp_path / "store")
    assert not list((tmp_path / "store").rglob("*.safetensors"))


def test_without_a_network_the_message_says_which_file_goes_where(
    published: SimpleNamespace, answers: np.ndarray, tmp_path: Path
) -> None:
    url = published.server.as_uri()
    away = published.server.rename(tmp_path / "away.pth")
    with pytest.raises(UserError) as caught:
        make(answers, tmp_path / "store")
    assert f"put the file {url} at {published.here}" in str(caught.value)
    published.here.parent.mkdir(parents=True, exist_ok=True)
    away.rename(published.here)  # as the message says
    assert make(answers, tmp_path / "store")[0].accuracy == 1.0


def test_a_file_that_is_not_the_published_one_is_refused(
    published: SimpleNamespace, answers: np.ndarray, tmp_path: Path
) -> None:
    published.here.parent.mkdir(parents=True)
    published.here.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"is not what torchvision publishes.*Delete the file"):
        make(answers, tmp_path / "store")
    published.here.unlink()
    published.server.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"cannot be had: invalid hash value"):
        make(answers, tmp_path / "store")


@pytest.mark.parametrize("changed", [{"num_classes": 10}, {"channels": 1}, {"size": 64}])
def test_weights_for_other_images_are_refused(
    published: SimpleNamespace, answers: np.ndarray, tmp_path: Path, changed: dict[str, int]
) -> None:
    with pytest.raises(UserError, match=r"are for 1000 classes of colour images of more than 64 px; this data set has"):
        make(answers, tmp_path / "store", **changed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet18", "must read torchvision:MODEL:NAME"),
        ("timm:resnet18:V1", "must read torchvision:MODEL:NAME"),
        ("torchvision:resnet19:IMAGENET1K_V1", "torchvision has no model 'resnet19'"),
        ("torchvision:resnet18:IMAGENET1K_V3", "did you mean IMAGENET1K_V1?"),
        ("torchvision:resnet18:OWN", "it has IMAGENET1K_V1"),
    ],
)
def test_names_that_torchvision_has_not_are_told(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        pretrained.find_weights(text)
    assert message in str(caught.value)


def test_names_that_torchvision_has_lead_to_a_file_with_its_hash_and_accuracy() -> None:
    entry = pretrained.find_weights("torchvision:resnet18:IMAGENET1K_V1")
    assert entry.url.endswith("resnet18-f37072fd.pth")
    assert entry.meta["_metrics"]["ImageNet-1K"]["acc@1"] == 69.758
