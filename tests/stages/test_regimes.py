"""Hard, stored and online labels, of one teacher and of several, through a whole run; Ray is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.artifacts.describe import describe, released_dataset_digest
from bench.artifacts.duplicates import set_digest
from bench.artifacts.refs import Workspace
from bench.artifacts.store import read
from bench.driver.on_ray.stage_table import STAGES
from bench.driver.outcome import Outcome, attempt
from bench.driver.prepared import trial_states
from bench.driver.walk import Run
from bench.labels import label_file
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.records import files
from bench.records.files import Record
from bench.stages import isolation
from bench.stages.condense import condense
from bench.stages.label import Labelling
from bench.stages.teach import teach
from bench.stages.train import train_student
from bench.teachers.ensemble import label_view
from bench.teachers.teacher_files import teachers_digest
from bench.trials.cell import cell_recipe
from bench.trials.plan import Grid, Plan
from bench.trials.trial import Trial
from bench.views.parameters import batch_bounds
from tests.worlds.run import DATASET, PROTOCOL, World, make_world

TWO = '["small-teacher-v1", "small-convnet-teacher-v1"]'
ASKS = """
import numpy as np

def select(train, ipc, ctx):
    assert ctx.logits().shape == (len(train.labels), train.num_classes)
    return np.concatenate([train.class_indices(c)[:ipc] for c in range(train.num_classes)])
"""


class Inline:
    """Runs every stage at once in this process, and remembers what each asked for."""

    jobs = 2

    def __init__(self, ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ws, self._monkeypatch = ws, monkeypatch
        self.calls: list[tuple[str, tuple, tuple[str, ...]]] = []

    async def run(self, stage: str, *args: Any, needs: tuple[str, ...] = (), **_: Any) -> Outcome:
        self.calls.append((stage, args, needs))
        self._monkeypatch.setattr(isolation, "_method_code_ran", False)  # stands for a process of its own
        return attempt(STAGES[stage].function, self.ws, *args)

    async def during(self, work: Awaitable[Any]) -> None:
        await work

    def needed(self, stage: str) -> set[str]:
        return {address.partition("/")[0] for name, _, needs in self.calls if name == stage for address in needs}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = make_world(tmp_path)
    for name, regime, teacher, more in (
        ("one-online", "online", '"small-teacher-v1"', ""),
        ("two-online", "online", TWO, 'ensemble = "norm-mean"\nteacher_mode = "train"'),
        ("imagenet-online", "online", '"small-teacher-v1"', 'normalisation = "imagenet"'),
        ("two-stored", "stored", TWO, 'ensemble = "norm-mean"\naugment = { mix = "cutmix", mix_unit = "batch" }'),
    ):
        text = PROTOCOL.format(labels=regime, views=2 if regime == "stored" else 0, loss="kl")
        made.add(f"{name}.toml", text.replace('"small-teacher-v1"', teacher) + more)
    return made


def run(world: World, monkeypatch: pytest.MonkeyPatch, name: str, **grid: Any) -> tuple[list[Record], Inline]:
    ws = Workspace(world.root / "store", discover(world.plugins))
    executor: Any = Inline(ws, monkeypatch)
    asked = {"methods": ["first"], "ipcs": [2], "replicates": 1, **grid}
    plan = Plan([Grid(datasets=["tiny"], protocols=[name], **asked)])
    results = world.root / name
    asyncio.run(Run(ws, executor, results, ()).all(plan.trials(ws.registry)))
    assert set(trial_states(ws, plan.trials(ws.registry), files.load(results).records).values()) == {"done"}
    return files.load(results).records, executor


def digest_of(world: World, *names: str) -> str:
    ws = Workspace(world.root / "store", discover(world.plugins))
    dataset = describe(ws, "tiny")
    return teachers_digest([teach(ws, name, dataset) for name in names])


# --- what a record tells ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "regime", "compressor"),
    [("quick-hard", "hard", None), ("quick-soft", "stored", "none"), ("one-online", "online", None)],
)
def test_a_record_tells_the_regime_and_how_the_student_was_measured(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str, regime: str, compressor: str | None
) -> None:
    (record,), executor = run(world, monkeypatch, name)
    assert (record.status, record.labels, record.trial["compressor"]) == ("ok", regime, compressor)
    fixed = definition.load(executor.ws.registry, name)
    recipe = fixed.recipe(dataset="tiny", ipc=2, student="convnet:width=4", classes=3)
    assert record.recipe == recipe.digest
    assert (record.epochs, record.measured_after, record.test_opened, record.num_test) == (2, 2, 1, 24)
    assert (record.steps, record.images_seen) == (2 * len(batch_bounds(6, 8)), 12)
    assert record.environment["threads"] == str(torch.get_num_threads())
    assert (record.bytes_labels is None) == (regime != "stored")
    # Under class labels nothing here asks for a teacher, so none was made and none is named.
    assert record.made_by["teacher"] == (None if regime == "hard" else digest_of(world, "small-teacher-v1"))


@pytest.mark.parametrize(("compressor", "counted"), [("none", False), ("svd", True)])
def test_a_record_tells_how_many_labels_were_no_probabilities(
    world: World, monkeypatch: pytest.MonkeyPatch, compressor: str, counted: bool
) -> None:
    (record,), _ = run(world, monkeypatch, "quick-soft", compressors=[compressor], budgets=["1x"] if counted else [])
    assert (record.invalid_labels is not None) == counted
    if record.invalid_labels is not None:
        assert (record.invalid_labels.values, record.invalid_labels.rows) == (0, 0)  # it was the logits
        asked = "quant:bits=2,domain=probabilities"
        found, executor = run(world, monkeypatch, "quick-soft", compressors=[asked], budgets=["1x"], replicates=2)
        labels = next(args[3] for stage, args, _ in executor.calls if stage == "evaluate")
        blobs = [read(executor.ws.store.root / ref.address).arrays["blob"].tobytes() for ref in labels]
        module = parse(executor.ws.registry, "compressor", asked).plugin.module
        expected = np.sum([module.invalid(blob) for blob in blobs], axis=0)
        for each in [each for each in found if each.trial["compressor"] == asked]:
            assert each.invalid_labels is not None
            assert [each.invalid_labels.values, each.invalid_labels.rows] == expected.tolist()
        assert expected[1] > 0


def test_a_record_tells_what_the_condensed_set_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (record,), executor = run(world, monkeypatch, "quick-hard")
    (ref,) = (args[2] for stage, args, _ in executor.calls if stage == "evaluate")
    arrays = read(executor.ws.store.root / ref.address).arrays
    assert record.condensed is not None
    assert record.condensed.digest == set_digest(arrays["images"], arrays["labels"])
    assert record.condensed.per_class == (2, 2)
    told = record.condensed
    assert (told.repeated, told.in_test_exact, told.in_test_near, told.train_in_test) == (0, 0, 0, 0)


def test_test_images_in_the_training_split_are_told_as_the_data_sets_fault(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("tiny.py", DATASET.replace("np.random.default_rng(len(split))", "np.random.default_rng(0)"))
    (record,), _ = run(world, monkeypatch, "quick-hard")
    assert record.condensed is not None
    assert record.condensed.train_in_test == 24  # the test split is the beginning of the training split
    assert record.condensed.in_test_exact == 6


def test_a_test_split_that_is_opened_more_often_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train_student

    def peeking(ws: Workspace, *args: Any, **options: Any) -> Any:
        ws.data("tiny").test_images()
        return plain(ws, *args, **options)

    monkeypatch.setattr("bench.stages.evaluate.train_student", peeking)
    (record,), _ = run(world, monkeypatch, "quick-hard")
    assert record.test_opened == 2


def test_a_trial_that_fails_or_cannot_be_done_still_tells_its_regime_and_recipe(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = run(world, monkeypatch, "quick-soft", compressors=["svd"], budgets=["1B"])
    assert [(record.status, record.labels) for record in found] == [("infeasible", "stored")]
    assert found[0].recipe is not None
    world.add("broken.py", "def select(train, ipc, ctx):\n    raise ValueError('no')\n")
    ws = Workspace(world.root / "store", discover(world.plugins))
    executor: Any = Inline(ws, monkeypatch)
    plan = Plan([Grid(datasets=["tiny"], protocols=["one-online"], methods=["broken"], ipcs=[2], replicates=1)])
    asyncio.run(Run(ws, executor, world.root / "failed", ()).all(plan.trials(ws.registry)))
    (failed,) = files.load(world.root / "failed").records
    assert (failed.status, failed.labels) == ("failed", "online")
    assert failed.recipe is not None


# --- several teachers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two-online", "two-stored"])
def test_all_teachers_of_a_protocol_are_made_once_and_label_together(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found, executor = run(world, monkeypatch, name, methods=["first", "chance"], replicates=2)
    assert [record.status for record in found] == ["ok"] * 4
    both = digest_of(world, "small-teacher-v1", "small-convnet-teacher-v1")
    assert {record.made_by["teacher"] for record in found} == {both}
    asked = [args[0] for stage, args, _ in executor.calls if stage == "teach"]
    assert sorted(asked) == ["small-convnet-teacher-v1", "small-teacher-v1"]
    world.add("asks.py", ASKS)
    _, executor = run(world, monkeypatch, name, methods=["asks"])
    first = {args[2].digest for stage, args, _ in executor.calls if stage == "condense"}
    assert first == {digest_of(world, "small-teacher-v1")}  # what methods see


def test_online_labels_store_nothing_and_take_the_teachers_to_the_student(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,), executor = run(world, monkeypatch, "two-online")
    assert record.bytes_labels is None
    assert record.bytes_labels_reference is None
    assert {stage for stage, _, _ in executor.calls} == {"describe", "teach", "condense", "evaluate"}
    assert executor.needed("evaluate") == {"condensed", "teacher"}
    assert executor.needed("condense") == set()  # the method asks for none
    world.add("asks.py", ASKS)
    _, executor = run(world, monkeypatch, "two-online", methods=["asks"])
    assert executor.needed("condense") == {"teacher"}


def test_stored_labels_take_the_teachers_to_the_encoder_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, executor = run(world, monkeypatch, "two-stored")
    assert executor.needed("encode_labels") == {"condensed", "teacher"}
    assert executor.needed("evaluate") == {"condensed", "labels"}


def test_shards_take_what_they_share_from_the_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on another machine: the first shard's labels travel there. Without a shared part nobody waits."""
    world.add("common.py", COMMON)
    monkeypatch.setattr(label_file, "shard_sizes", lambda n, *_: [3, n - 4, 1])
    for compressor, waits in (("common", True), ("none", False)):
        found, executor = run(world, monkeypatch, "quick-soft", compressors=[compressor])
        assert found[-1].status == "ok", found[-1].error
        needs = [set(needed) for stage, _, needed in executor.calls if stage == "encode_labels"]
        of_labels = [{address for address in some if address.startswith("labels/")} for some in needs]
        assert of_labels[0] == set()
        assert of_labels[1] == of_labels[2]
        assert len(of_labels[1]) == waits


COMMON = '''
"""Labels as they are; what shards share is the number of images that were fitted on."""

import numpy as np
import torch

TAKES_BUDGET = False


def fit(labels, budget_bytes, ctx):
    return bytes([labels.shape[0]])


def encode(labels, budget_bytes, ctx, *, shared=b""):
    assert shared == bytes([3])
    return bytes(labels.shape) + labels.logits.half().numpy().tobytes()


def decode(blob, rows=None, *, shared=b""):
    assert shared == bytes([3])
    whole = torch.from_numpy(np.frombuffer(blob[3:], np.float16).reshape(tuple(blob[:3])).copy())
    return whole if rows is None else whole[:, list(rows)]
'''


def test_what_teaches_and_how_it_is_seen_changes_what_is_learnt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {name: run(world, monkeypatch, name)[0][0].train_loss for name in ("one-online", "two-online")}
    other = run(world, monkeypatch, "imagenet-online")[0][0]
    assert len({*losses.values(), other.train_loss}) == 3
    again = run(world, monkeypatch, "two-online")[0][0]
    assert again.train_loss == losses["two-online"]  # no statistics drift from one trial into the next


def test_an_edited_teacher_makes_the_records_of_its_ensemble_stale(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, executor = run(world, monkeypatch, "two-online")
    trials = Plan([Grid(["tiny"], ["two-online"], ["first"], ipcs=[2], replicates=1)]).trials(executor.ws.registry)
    assert set(trial_states(executor.ws, trials, found).values()) == {"done"}
    world.add("two-online.toml", (world.root / "plugins" / "two-online.toml").read_text().replace("convnet-", "wide-"))
    ws = Workspace(world.root / "store", discover(world.plugins))
    assert set(trial_states(ws, trials, found).values()) == {"stale"}


# --- labels made in shards -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("ensemble", ["mean", "norm-mean"])
def test_shards_in_the_store_are_parts_of_the_whole_labels(
    world: World, monkeypatch: pytest.MonkeyPatch, ensemble: str, mode: str
) -> None:
    ws = Workspace(world.root / "store", discover(world.plugins))
    dataset = describe(ws, "tiny")
    labellers = [teach(ws, name, dataset) for name in ("small-teacher-v1", "small-convnet-teacher-v1")]
    condensed = condense(ws, "first", dataset, labellers[0], 6, 0)
    trial = Trial("tiny", "two-stored", "first", 6, "none", None, "convnet:width=4", 0)
    _, recipe = cell_recipe(ws.registry, trial, 3)
    recipe = recipe.model_copy(update={"ensemble": ensemble, "teacher_mode": mode})
    whole = Labelling(ws, "two-stored", recipe, dataset, labellers, condensed).raw(0)
    assert whole.shape == (18, 2, 3)
    monkeypatch.setattr(label_file, "shard_sizes", lambda *_: [7, 7, 4])
    parts = Labelling(ws, "two-stored", recipe, dataset, labellers, condensed)
    logits = torch.cat([parts.raw(shard).logits for shard in (2, 0, 1)])
    torch.testing.assert_close(logits[np.r_[4:18, 0:4]], whole.logits, rtol=2**-10, atol=2**-10)
    kept = sorted(path.parent.name for path in ws.store.root.rglob("*.safetensors") if "label" in path.parent.name)
    assert kept.count("label-norms") == (1 if (ensemble, mode) == ("norm-mean", "eval") else 0)
    expected = [label_view(parts.ensemble, parts.images, parts.views, k, np.arange(18)) for k in range(2)]
    torch.testing.assert_close(whole.logits.float(), torch.stack(expected, dim=1), rtol=2**-10, atol=2**-10)


def test_the_released_digest_of_a_data_set_is_that_of_its_description(tmp_path: Path) -> None:
    ws = Workspace(tmp_path, discover())
    assert released_dataset_digest("digits") == describe(ws, "digits").digest
    assert released_dataset_digest("glyphs") == released_dataset_digest("glyphs:classes=100") is not None
    assert released_dataset_digest("glyphs:classes=7") is None
    assert released_dataset_digest("nobody-knows") is None


def test_data_sets_of_this_project_share_no_image_between_their_splits(tmp_path: Path) -> None:
    assert describe(Workspace(tmp_path, discover()), "digits").train_in_test == 0
