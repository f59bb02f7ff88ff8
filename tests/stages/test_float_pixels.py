"""A condensed set of float pixels goes through every stage as it is: never rounded, never clipped, counted by value."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.artifacts.duplicates import condensed_facts, set_digest
from bench.artifacts.pixels import nearest_levels
from bench.artifacts.refs import Workspace
from bench.driver.on_ray.stage_table import STAGES
from bench.driver.outcome import Outcome, attempt
from bench.driver.walk import Run
from bench.errors import UserError
from bench.labels.label_file import image_bytes
from bench.plugins.registry import discover
from bench.protocol.recipe import Augment
from bench.records import files
from bench.records.files import Record
from bench.stages import isolation
from bench.teachers.ensemble import Ensemble, Member
from bench.trials.plan import Grid, Plan
from bench.views.parameters import Views
from bench.views.render import normalise, render
from tests.worlds.fakes import SmallNet
from tests.worlds.lessons import MEAN, SIZE, STD, N, feed, hard, network, online, run, same, soft, task, weights
from tests.worlds.lessons import stored as stored_labels
from tests.worlds.run import PROTOCOL, World, make_world

ANYTHING = (
    Augment(),
    Augment(crop_scale=(0.5, 1), mix="cutmix"),
    Augment(crop_scale=(0.5, 1), mix="mixup", mix_unit="batch"),
    Augment(pad=0.125, cutout=0.25),
)


def unclipped(seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """The lesson with pixels between the levels, below black and above white."""
    images, labels = task()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return images.float() + 40 * noise, labels


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", ANYTHING, ids=["plain", "crop, cutmix", "crop, mixup", "pad, cutout"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_floats_that_are_whole_levels_train_the_same_student_to_the_bit(augment: Augment, kind: torch.dtype) -> None:
    images, labels = task()
    trained = []
    for pixels in (images, images.to(kind)):
        student = network()
        log = run(student, hard(augment=augment), data=(pixels, labels))
        trained.append((log.losses, weights(student)))
    assert trained[0][0] == trained[1][0]
    assert same(trained[0][1], trained[1][1])


@pytest.mark.parametrize("limit", [None, 0])  # of bytes up to which normalised sources are kept: floats always are
def test_students_see_float_pixels_neither_rounded_nor_clipped(
    monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    if limit is not None:
        monkeypatch.setattr("bench.training.feed._SOURCE", limit)
    images, labels = unclipped()
    assert float(images.min()) < -20
    assert float(images.max()) > 275
    wanted = (images.double() / 255 - MEAN[0]) / STD[0]
    shown = torch.cat([x for x, _ in feed(hard(), data=(images, labels)).epoch(0)]).double()
    for image in shown:
        assert float((wanted - image).abs().amax(dim=(1, 2, 3)).min()) < 1e-5


def test_stored_and_online_labels_train_on_floats_too() -> None:
    data = unclipped()
    for recipe, more in ((soft(), {"reader": stored_labels()}), (online(), {"teacher": network(norm=False, seed=5)})):
        assert all(np.isfinite(run(network(), recipe, data=data, **more).losses))


def test_randaugment_is_refused_for_floats_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"RandAugment, which is defined on whole grey levels .* float32 pixels"):
        run(network(), hard(augment=Augment(randaugment_ops=2)), data=unclipped())
    run(network(), hard(epochs=1, augment=Augment(randaugment_ops=2)), data=task())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_student_is_never_trained_on_what_is_no_number(value: float) -> None:
    images, labels = unclipped()
    images[4, 0, 1, 1] = value
    with pytest.raises(UserError, match="must be finite"):
        run(network(), hard(), data=(images, labels))


def test_images_that_were_never_brought_to_grey_levels_are_refused() -> None:
    images, labels = unclipped()
    for small in (images / 255, normalise(images, MEAN, STD)):
        with pytest.raises(UserError, match=r"Hand in 255 \* \(images \* std \+ mean\)"):
            run(network(), hard(), data=(small, labels))
    run(network(), hard(epochs=1), data=(torch.zeros_like(images), labels))


# --- labels -----------------------------------------------------------------------------------------------------------


def test_teachers_label_float_views_as_each_of_them_is_normalised() -> None:
    images, _ = unclipped()
    views = Views(Augment(crop_scale=(0.5, 1), mix="cutmix"), N, SIZE, mirror=True, batch=5, seed=2, count=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nets = [SmallNet(1, 3, 4).eval().requires_grad_(False) for _ in range(2)]
    members = [Member(nets[0], MEAN, STD), Member(nets[1], (0.1,), (0.5,))]
    ensemble, rows = Ensemble(members), np.arange(5, 17)
    for view in views:
        answers = ensemble.say(images, view, rows)
        for member, answer in zip(members, answers, strict=True):
            seen = normalise(images, member.mean, member.std)
            assert torch.equal(answer, member.model(render(seen, view, rows, mean=member.mean, std=member.std)))
    others = images + 9
    assert not torch.equal(ensemble.say(others, views[0], rows), ensemble.say(images, views[0], rows))
    whole = images.round().clamp(0, 255)
    assert torch.equal(ensemble.say(whole, views[1], rows), ensemble.say(whole.to(torch.uint8), views[1], rows))


# --- what is counted and told -----------------------------------------------------------------------------------------


def test_floats_take_the_bytes_of_their_values() -> None:
    images = torch.zeros(10, 3, 8, 8)
    assert image_bytes(images) == 10 * 3 * 8 * 8 * 4
    assert image_bytes(images.half()) == 10 * 3 * 8 * 8 * 2


def test_the_digest_of_a_set_tells_floats_from_levels_and_the_smallest_change() -> None:
    images, labels = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8), np.zeros(1, np.int64)
    floats = images.astype(np.float32)
    moved = floats.copy()
    moved[0, 0, 3, 3] = np.nextafter(moved[0, 0, 3, 3], np.float32(np.inf))
    swapped = floats.astype(">f4")
    digests = [set_digest(each, labels) for each in (images, floats, floats.astype(np.float16), moved)]
    assert len(set(digests)) == 4
    assert set_digest(swapped, labels) == digests[1]


def test_a_test_image_stays_one_after_its_normalisation_was_undone() -> None:
    rng = np.random.default_rng(0)
    test = rng.integers(0, 256, (20, 1, 8, 8)).astype(np.uint8)
    normalised = (test[:4].astype(np.float32) / 255 - np.float32(0.286)) / np.float32(0.353)
    undone = (normalised * np.float32(0.353) + np.float32(0.286)) * 255
    assert not np.array_equal(undone, test[:4])
    own = rng.normal(127, 90, (2, 1, 8, 8)).astype(np.float32)
    near = test[4:5] + rng.uniform(1, 3, (1, 1, 8, 8)).astype(np.float32)
    images = np.concatenate([undone, own, near.clip(0, 255), own[:1]])
    facts = condensed_facts(images, np.arange(8) % 2, test, classes=2, train_in_test=0)
    assert (facts["in_test_exact"], facts["in_test_near"], facts["repeated"]) == (4, 1, 2)
    assert nearest_levels(np.array([-3.0, 0.4, 0.6, 254.5, 300.0])).tolist() == [0, 0, 1, 254, 255]


# --- a whole run ------------------------------------------------------------------------------------------------------

FLOATS = """
import torch

from bench.api import Condensed


def synthesize(train, ipc, ctx, *, kind: str = "float32", shift: float = 0.0):
    rows = [row for c in range(train.num_classes) for row in train.class_indices(c)[:ipc]]
    images = train.images(rows).to(getattr(torch, kind)) - shift
    return Condensed(images.requires_grad_() if kind == "float32" else images, torch.as_tensor(train.labels[rows]))
"""


class Inline:
    """Runs every stage at once in this process."""

    jobs = 2

    def __init__(self, ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ws, self._monkeypatch = ws, monkeypatch

    async def run(self, stage: str, *args: Any, **_: Any) -> Outcome:
        self._monkeypatch.setattr(isolation, "_method_code_ran", False)  # stands for a process of its own
        return attempt(STAGES[stage].function, self.ws, *args)

    async def during(self, work: Awaitable[Any]) -> None:
        await work


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[tuple[str, str], Record]]:
    """Records by protocol and method: the same images as levels, as floats, and as floats that lie below black."""
    world = make_world(tmp_path_factory.mktemp("world"))
    world.add("floats.py", FLOATS)
    online_labels = PROTOCOL.format(labels="online", views=0, loss="kl")
    world.add("quick-online.toml", online_labels)
    world.add("quick-rand.toml", online_labels + "augment = { randaugment_ops = 1 }")
    ws = Workspace(world.root / "store", discover(world.plugins))
    with pytest.MonkeyPatch.context() as patch:
        executor: Any = Inline(ws, patch)
        names = ["first", "floats", "floats:kind=float16", "floats:kind=float64", "floats:shift=90.5"]
        protocols = ["quick-hard", "quick-soft", "quick-online", "quick-rand"]
        plan = Plan([Grid(datasets=["tiny"], protocols=protocols, methods=names, ipcs=[2], replicates=1)])
        asyncio.run(Run(ws, executor, world.results, ()).all(plan.trials(ws.registry)))
    lines = files.load(world.results).records
    return world, {(line.trial["protocol"], line.trial["method"]): line for line in lines}


@pytest.mark.parametrize("protocol", ["quick-hard", "quick-soft", "quick-online"])
def test_a_run_gives_floats_of_whole_levels_the_result_of_the_levels(records: Any, protocol: str) -> None:
    _, by_name = records
    levels, floats, half = (by_name[protocol, name] for name in ("first", "floats", "floats:kind=float16"))
    assert levels.status == floats.status == half.status == "ok"
    results = [(each.accuracy, each.test_loss, each.train_loss) for each in (levels, floats, half)]
    assert results[0] == results[1] == results[2]
    assert (floats.bytes_images, half.bytes_images) == (6 * 64 * 4, 6 * 64 * 2)
    assert [each.provenance.get("pixels") for each in (levels, floats, half)] == [None, "float32", "float16"]
    assert levels.condensed
    assert floats.condensed
    assert levels.condensed.digest != floats.condensed.digest
    assert levels.condensed.in_test_near == floats.condensed.in_test_near


def test_pixels_below_black_reach_the_store_and_the_student(records: Any) -> None:
    world, by_name = records
    line = by_name["quick-hard", "floats:shift=90.5"]
    assert line.status == "ok"
    assert line.test_loss != by_name["quick-hard", "floats"].test_loss
    sets = [path for path in (world.root / "store" / "condensed").iterdir() if path.suffix == ".safetensors"]
    lowest = [read_images(world, path).min() for path in sets]
    assert min(lowest) < -30


def read_images(world: World, path: Path) -> np.ndarray:
    from bench.artifacts.store import read

    return read(path).arrays["images"]


def test_what_floats_cannot_do_is_a_failed_record_with_one_sentence(records: Any) -> None:
    _, by_name = records
    assert by_name["quick-rand", "first"].status == "ok"
    refused = by_name["quick-rand", "floats"]
    assert refused.status == "failed"
    assert refused.error
    assert "RandAugment" in refused.error.message
    double = by_name["quick-hard", "floats:kind=float64"]
    assert double.error
    assert "images must be uint8 [6, 1, 8, 8], or float32 or float16 in grey levels" in double.error.message
