"""Methods that use several networks: which ones is part of what a condensed set is, and of what a record tells."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from bench.artifacts.describe import describe
from bench.artifacts.refs import CondensedRef, Workspace
from bench.artifacts.store import arrays_digest, read
from bench.confinement.plugin_limits import PluginFailure
from bench.driver.prepared import trial_states
from bench.engine import ENGINE_VERSION
from bench.errors import PluginError, UserError
from bench.fingerprint import digest
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages import condense as stage
from bench.stages.origins import OriginDigests
from bench.stages.teach import teach
from bench.teachers import network_choice, teacher_files
from bench.trials.trial import Trial
from tests.worlds.plugins import write

SEVERAL = "gvbsm:backbones=2,iterations=2"  # a step for each network
ALONE = "gvbsm:backbones=1,iterations=1"
OTHER = "small-convnet-teacher-v1"  # the second network of digits

ASKS = '''
"""Asks for several networks."""
import numpy as np

DECLARATION
def select(train, ipc, ctx, *, many: int = 2, name: str = "x"):
    assert len(ctx.teachers(many)) == many
    return np.concatenate([train.class_indices(c)[:ipc] for c in range(train.num_classes)])
'''


def workspace(root: Path, *plugins: Path) -> Workspace:
    return Workspace(root, discover(plugins))


def condense(ws: Workspace, method: str) -> CondensedRef:
    dataset = describe(ws, "digits")
    return stage.condense(ws, method, dataset, teach(ws, "small-teacher-v1", dataset), 1, 0)


def trial(method: str) -> Trial:
    return Trial(
        dataset="digits",
        protocol="small-hard-v1",
        method=method,
        compressor=None,
        budget=None,
        ipc=1,
        student="convnet:width=16",
        replicate=0,
    )


@pytest.fixture
def other_weights(tmp_path: Path) -> Path:
    """A copy of the shipped teachers in which the second network of digits went another way in training."""
    folder = tmp_path / "teachers"
    shutil.copytree(teacher_files.FOLDER, folder)
    path = folder / OTHER / "digits.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = file.metadata()["json"]
    tensors["classifier.weight"] = tensors["classifier.weight"].flip(1).contiguous()
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    before = text.split('"digest": "')[1][:64]
    save_file(tensors, path, metadata={"json": text.replace(before, arrays_digest(arrays))})
    return folder


@pytest.mark.trains
def test_two_different_backbones_never_share_a_condensed_set(tmp_path, other_weights, monkeypatch):
    ws = workspace(tmp_path / "store")
    several, alone = condense(ws, SEVERAL), condense(ws, ALONE)
    monkeypatch.setattr(teacher_files, "FOLDER", other_weights)
    later = condense(ws, SEVERAL)
    assert later.address != several.address
    assert (read(ws.store.root / later.address).arrays["images"] != images(ws, several)).any()
    assert condense(ws, ALONE).address == alone.address  # the teacher is the same
    monkeypatch.undo()
    assert condense(ws, SEVERAL).address == several.address


def images(ws: Workspace, made: CondensedRef) -> Any:
    return read(ws.store.root / made.address).arrays["images"]


@pytest.mark.trains
def test_the_provenance_names_every_further_network_and_its_weights(tmp_path):
    ws = workspace(tmp_path)
    dataset = describe(ws, "digits")
    second = teach(ws, OTHER, dataset)
    made = condense(ws, SEVERAL)
    assert made.provenance["backbones"] == [
        {"recipe": OTHER, "network": "convnet", "digest": second.digest},
    ]
    assert made.backbones == digest([second.digest])
    alone = condense(ws, ALONE)
    assert "backbones" not in alone.provenance
    assert alone.backbones is None


@pytest.mark.trains
def test_the_place_of_a_set_made_with_the_teacher_alone_is_what_it_was(tmp_path):
    ws = workspace(tmp_path)
    dataset = describe(ws, "digits")
    teacher = teach(ws, "small-teacher-v1", dataset)
    for method in ("random", "sre2l:iterations=1"):
        inputs = {
            "engine": ENGINE_VERSION,
            "dataset": dataset.digest,
            "teacher": teacher.digest,
            "method": method,
            "code": parse(ws.registry, "method", method).plugin.digest,
            "ipc": 1,
            "replicate": 0,
        }
        assert condense(ws, method).address == f"condensed/{digest(inputs)[:32]}.safetensors"


def test_a_record_is_stale_where_a_backbone_is_another_and_only_there(tmp_path, other_weights, monkeypatch):
    ws = workspace(tmp_path / "store")
    dataset = describe(ws, "digits")
    trials = [trial(SEVERAL), trial(ALONE), trial("random")]
    records = [record(each, OriginDigests(ws).known(each)) for each in trials]
    assert records[0].made_by["backbones"] == digest([teach(ws, OTHER, dataset).digest])
    assert all("backbones" not in each.made_by for each in records[1:])
    assert list(trial_states(ws, trials, records).values()) == ["done", "done", "done"]
    monkeypatch.setattr(teacher_files, "FOLDER", other_weights)
    assert list(trial_states(ws, trials, records).values()) == ["stale", "done", "done"]


def record(of: Trial, made_by: Mapping[str, str | None]) -> Any:
    return SimpleNamespace(id=of.id, made_by=dict(made_by), status="ok")


def test_a_network_that_was_never_made_here_is_not_known_before_the_run(tmp_path):
    ws = workspace(tmp_path)
    dataset = describe(ws, "heldout:of=digits")
    teacher = SimpleNamespace(digest="0" * 64, scale="")
    assert network_choice.made_before(ws.store, ws.registry, dataset, teacher, 2) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declaration", "method", "passes"),
    [
        ("BACKBONES = 2", "asks", True),
        ('BACKBONES = "many"', "asks:many=3", True),
        ("BACKBONES = 2", "asks:many=3", False),
        ("", "asks", False),
        ("", "asks:many=1", True),
    ],
)
def test_a_method_says_beforehand_how_many_networks_it_uses(tmp_path, declaration, method, passes):
    plugin = write(tmp_path / "asks.py", ASKS.replace("DECLARATION", declaration))
    ws = workspace(tmp_path / "store", plugin)
    if passes:
        assert condense(ws, method).images == 10
    else:
        with pytest.raises(PluginFailure, match=r"does not declare that it uses \d networks.*BACKBONES = "):
            condense(ws, method)


@pytest.mark.parametrize("declaration", ['BACKBONES = "few"', 'BACKBONES = "name"'])
def test_a_declaration_that_names_no_count_is_refused_when_the_plugin_is_read(tmp_path, declaration):
    plugin = write(tmp_path / "asks.py", ASKS.replace("DECLARATION", declaration))
    with pytest.raises(PluginError, match="names no parameter of select whose default is a whole number"):
        discover([plugin])


def test_more_networks_than_the_data_set_has_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match="9 backbones were asked for; data set 'digits' has 4"):
        condense(workspace(tmp_path), "gvbsm:backbones=9")


@pytest.mark.parametrize("choice", ["0", "-1", "", "a+a", "A", "+", "small-teacher-v1+", "1000"])
def test_what_is_no_choice_of_networks_is_refused(tmp_path, choice):
    with pytest.raises(UserError, match=r"method 'gvbsm.*is no choice of backbones. Type a number from 1"):
        condense(workspace(tmp_path), f"gvbsm:backbones={choice}")


def test_an_unknown_network_is_refused_with_what_is_near(tmp_path):
    with pytest.raises(UserError, match="small-convnet-teacher-v1"):
        condense(workspace(tmp_path), "gvbsm:backbones=teacher+small-convnet-teacher-v2")


@pytest.mark.trains
def test_networks_are_chosen_by_name_and_order(tmp_path):
    """The ensembles of EDC's tables 11 to 13 are choices of members: with the teacher, without it, in any order."""
    ws = workspace(tmp_path)
    named = condense(ws, f"gvbsm:backbones={OTHER}+teacher,iterations=2")
    assert [each["recipe"] for each in named.provenance["backbones"]] == [OTHER]
    turned = condense(ws, SEVERAL)
    assert turned.backbones == named.backbones
    assert turned.address != named.address  # the teacher comes second
    without = condense(ws, f"gvbsm:backbones={OTHER},iterations=2")
    assert without.backbones == named.backbones
    everything = condense(ws, "gvbsm:backbones=all,iterations=1")
    assert len(everything.provenance["backbones"]) == 3
