"""A method that learns in steps goes on after a kill to the same bits, and says how far it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.artifacts.describe import describe
from bench.artifacts.refs import CondensedRef, DatasetRef, Workspace, read_condensed
from bench.confinement.plugin_limits import PluginFailure
from bench.errors import PluginError
from bench.plugins.registry import discover
from bench.stages.condense import condense
from bench.stages.steps import State, steps
from bench.studies.stored.store_contents import holdings
from bench.teachers.teacher_files import UnusedTeacher
from bench.training.course import Course
from bench.training.standing import Standing
from methods import _published_matching
from methods.synthesis import dc_paper, dsa_paper
from tests.worlds.fakes import FakeContext, digits, trained_teacher
from tests.worlds.kills import keep_every_epoch
from tests.worlds.run import World, make_world

STEPS = 6
# Keeps a checkpoint after every step. Where a file exists, it falls in the fourth, once.
LEARNER = """
import signal

import torch

from bench.api import Condensed
from bench.training import course

for name in ("KEEP_EVERY", "KEEP_SHARE"):
    setattr(course, name, 0.0)


def synthesize(train, ipc, ctx):
    stream, losses = ctx.torch("noise"), []
    images = torch.full((train.num_classes * ipc, 1, train.size, train.size), {start}, requires_grad=True)
    optimizer = torch.optim.Adam([images], lr=5.0)
    state = {{"images": images, "optimizer": optimizer, "stream": stream, "losses": losses}}
    for step in ctx.steps({steps}, state):
        if step == 3 and os.path.exists({fall!r}):
            os.remove({fall!r})
            {end}
        log("step", step)
        optimizer.zero_grad()
        loss = ((images - 100 - 40 * torch.randn(images.shape, generator=stream)) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    labels = torch.arange(train.num_classes).repeat_interleave(ipc)
    values = images.detach().clamp(0, 255).round().to(torch.uint8)
    return Condensed(values, labels, provenance={{"losses": len(losses), "sum": sum(losses)}})
"""
KILL, RAISE = "os.kill(os.getpid(), signal.SIGKILL)", 'raise MemoryError("full")'


@pytest.fixture
def world(tmp_path: Path) -> World:
    """With the method `learner`."""
    small = make_world(tmp_path)
    write_learner(small)
    return small


def write_learner(world: World, *, end: str = RAISE, start: float = 20.0) -> None:
    source = LEARNER.format(steps=STEPS, fall=str(world.root / "fall"), end=end, start=start)
    world.add("learner.py", source)


def opened(world: World, store: str) -> tuple[Workspace, DatasetRef]:
    ws = Workspace(world.root / store, discover(world.plugins))
    return ws, describe(ws, "tiny")


def learnt(world: World, store: str, *, falls: bool = False) -> CondensedRef:
    """The set of `learner` for two images a class; with `falls` it falls on the way."""
    if falls:
        (world.root / "fall").touch()
    ws, dataset = opened(world, store)
    return condense(ws, "learner", dataset, UnusedTeacher("small-teacher-v1"), 2, 0)


def steps_done(world: World) -> list[int]:
    return [int(what.split()[1]) for _, _, what in world.log() if what.startswith("step")]


def checkpoints(world: World, store: str) -> list[Path]:
    return list((world.root / store / "checkpoints").glob("*/0/state.safetensors"))


def values(world: World, store: str, condensed: CondensedRef) -> bytes:
    ws, _ = opened(world, store)
    return np.asarray(read_condensed(ws, condensed).arrays["images"]).tobytes()


def test_a_run_goes_on_where_the_last_one_was_stopped_and_the_set_is_the_same(world: World) -> None:
    whole = learnt(world, "whole")
    with pytest.raises(PluginFailure, match="full"):
        learnt(world, "cut", falls=True)
    assert len(checkpoints(world, "cut")) == 1
    assert steps_done(world)[STEPS:] == [0, 1, 2]
    again = learnt(world, "cut")
    assert steps_done(world)[STEPS:] == [*range(STEPS)]  # three before the stop, three after it
    assert values(world, "cut", again) == values(world, "whole", whole)
    assert again.provenance == whole.provenance
    assert again.random
    assert not list((world.root / "cut/checkpoints").iterdir())


def test_a_process_that_is_killed_is_followed_by_one_that_goes_on(world: World) -> None:
    write_learner(world, end=KILL)
    whole, cut = learnt(world, "whole"), learnt(world, "cut", falls=True)
    assert steps_done(world) == [*range(STEPS)] * 2
    assert values(world, "cut", cut) == values(world, "whole", whole)
    assert not list((world.root / "cut/checkpoints").iterdir())


def test_other_code_does_not_go_on_with_it(world: World) -> None:
    with pytest.raises(PluginFailure, match="full"):
        learnt(world, "cut", falls=True)
    write_learner(world, start=30.0)
    learnt(world, "cut")
    assert steps_done(world) == [0, 1, 2, *range(STEPS)]


@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_a_checkpoint_that_cannot_be_read_is_none(world: World, damage: bytes | None) -> None:
    whole = values(world, "whole", learnt(world, "whole"))
    with pytest.raises(PluginFailure, match="full"):
        learnt(world, "cut", falls=True)
    (file,) = checkpoints(world, "cut")
    file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)  # None: cut off
    assert values(world, "cut", learnt(world, "cut")) == whole
    assert steps_done(world)[-STEPS:] == [*range(STEPS)]


def test_a_loop_within_a_loop_is_refused(world: World) -> None:
    nested = "for step in ctx.steps(2, {}):\n        list(ctx.steps(2, {}))"
    world.add("nested.py", f"def select(train, ipc, ctx):\n    {nested}\n")
    ws, dataset = opened(world, "cut")
    with pytest.raises(PluginFailure, match="a loop stands within a loop"):
        condense(ws, "nested", dataset, UnusedTeacher("small-teacher-v1"), 2, 0)


def test_the_store_tells_of_a_checkpoint_that_was_left(world: World) -> None:
    with pytest.raises(PluginFailure, match="full"):
        learnt(world, "cut", falls=True)
    assert any("checkpoints" in str(each) for each in holdings(world.root / "cut"))


# --- one loop, in this process ---------------------------------------------------------------------------------------


def parts() -> dict[str, object]:
    """One of every kind that a state may have; nothing in it is as it begins."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return {
        "images": torch.zeros(2, 3),
        "network": network,
        "trainer": torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9),
        "stream": torch.Generator().manual_seed(5),
        "losses": [],
    }


def walk(state: dict, course: Course, until: int = 6) -> list[int]:
    """Learn a little at every step, up to a step that is not done."""
    done = []
    for step in steps(course, 6, state, dict, lambda _: None):
        if step == until:
            break
        batch = torch.randn(5, 3, generator=state["stream"])
        state["trainer"].zero_grad()
        loss = (state["network"](batch) - 1).square().mean()
        loss.backward()
        state["trainer"].step()
        if step == 4:
            state["trainer"].param_groups[0]["lr"] = 0.01  # a schedule's step
        state["images"].add_(batch[:2])
        state["losses"].append(loss.item())
        done.append(step)
    return done


def bits(state: dict) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in State(6, state).tensors().items()}


@pytest.mark.parametrize("until", [1, 3, 5])
def test_every_kind_of_part_is_restored_to_the_bit(tmp_path: Path, monkeypatch, until: int) -> None:
    keep_every_epoch(monkeypatch)
    whole, cut, again = parts(), parts(), parts()
    assert walk(whole, Course()) == [*range(6)]
    assert walk(cut, Course(folder=tmp_path / "kept"), until) == [*range(until)]
    assert walk(again, Course(folder=tmp_path / "kept")) == [*range(until, 6)]
    assert bits(again) == bits(whole)


def test_a_checkpoint_of_another_state_is_none_and_changes_nothing(tmp_path: Path, monkeypatch) -> None:
    keep_every_epoch(monkeypatch)
    walk(parts(), Course(folder=tmp_path / "kept"), 3)
    other = {**parts(), "images": torch.zeros(2, 4)}
    before = bits(other)
    loop = steps(Course(folder=tmp_path / "kept"), 6, other, dict, lambda _: None)
    assert next(loop) == 0
    assert bits(other) == before


@pytest.mark.parametrize("state", [{"rate": 0.1}, {"losses": [1.0, "a"]}, {"": [1.0]}, {"a/b": [1.0]}])
def test_what_cannot_be_kept_is_refused_before_the_first_step(state: dict) -> None:
    with pytest.raises(PluginError, match="of the state"):
        steps(Course(), 3, state, dict, lambda _: None)


def test_rates_that_a_loop_sets_are_restored_in_the_groups_that_it_holds(tmp_path: Path, monkeypatch) -> None:
    """Floats, tensors and pairs, as torch's schedulers set them too."""
    keep_every_epoch(monkeypatch)

    def learn(folder: Path | None, until: int = 6) -> torch.Tensor:
        torch.manual_seed(1)
        images = torch.randn(4, requires_grad=True)
        optimizer = torch.optim.Adam([images], lr=torch.tensor(0.5), betas=(0.5, 0.9))
        (group,) = optimizer.param_groups
        for step in steps(Course(folder=folder), 6, {"images": images, "adam": optimizer}, dict, lambda _: None):
            if step == until:
                break
            optimizer.zero_grad()
            images.square().sum().backward()
            optimizer.step()
            group["lr"].mul_(0.5)
            group["betas"] = (group["betas"][0] * 0.9, 0.9)
        return images.detach()

    whole = learn(None)
    learn(tmp_path / "kept", until=3)
    assert torch.equal(learn(tmp_path / "kept"), whole)


def test_buffers_that_a_module_does_not_save_are_kept(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    module.register_buffer("mean", torch.ones(2), persistent=False)
    assert "module/mean" in State(1, {"module": module}).tensors()


def test_a_long_loop_says_how_far_it_is(monkeypatch) -> None:
    keep_every_epoch(monkeypatch)
    standings: list[Standing | None] = []
    walk(parts(), Course("method learner on tiny", watch=standings.append, unit="step"))
    assert [each.epoch for each in standings if each] == [1, 2, 3, 4, 5, 6]
    assert str(standings[1]).startswith("method learner on tiny: step 2 of 6, ")
    assert "steps/s" in str(standings[1])


# --- the published gradient matching ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [dc_paper, dsa_paper])
@pytest.mark.parametrize("calls", [25, 47])  # of ten a step: within the first network, and within the second
def test_dc_and_dsa_go_on_to_the_same_bits(tmp_path: Path, monkeypatch, method, calls: int) -> None:
    keep_every_epoch(monkeypatch)
    few = {"iterations": 6, "width": 4, "batch": 8, "outer": 3, "inner": 1, "momentum": 0.5}
    train = digits()

    def context(scratch: Path) -> FakeContext:
        return FakeContext(train, trained_teacher(8), scratch=scratch)

    whole = method.synthesize(train, 1, context(tmp_path / "whole"), **few)
    gradients, seen = _published_matching.real_gradients, []

    def falls(*arguments):
        seen.append(arguments)
        if len(seen) > calls:
            raise MemoryError
        return gradients(*arguments)

    monkeypatch.setattr(_published_matching, "real_gradients", falls)
    with pytest.raises(MemoryError):
        method.synthesize(train, 1, context(tmp_path / "cut"), **few)
    monkeypatch.setattr(_published_matching, "real_gradients", lambda *a: (seen.append(a), gradients(*a))[1])
    seen.clear()
    again = method.synthesize(train, 1, context(tmp_path / "cut"), **few)
    assert len(seen) == 60 - 10 * (calls // 10)
    assert torch.equal(again.images, whole.images)
    assert again.provenance == whole.provenance
