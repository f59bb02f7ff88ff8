"""Which stages run, as workers tell it: in words, on one machine and through a cluster, until they end or die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.driver.on_ray import progress_mirror
from bench.driver.on_ray.executor import RayExecutor
from bench.driver.on_ray.stage_table import STAGES
from bench.driver.running_stages import RunningStage, name_of, running_stages, told
from bench.plugins.registry import discover
from bench.teachers.teacher_files import UnusedTeacher
from bench.training.progress_files import folder_sink, standings, tell_in
from bench.training.standing import Standing, watch_of_this_process
from bench.trials.trial import Trial
from tests.worlds.run import World, make_world

pytestmark = pytest.mark.usefixtures("ray_for_all")
TRIAL = Trial("digits", "small-soft-v1", "herding", 10, "svd", "10x", "convnet", 2)
DIGITS = SimpleNamespace(spec="digits")
SLOW = """
import time

import numpy as np


def select(train, ipc, ctx):
    log("begins")
    while {place!r} and __import__("os").path.exists({place!r}):
        time.sleep(0.05)
    return np.concatenate([train.class_indices(c)[:ipc] for c in range(train.num_classes)])
"""


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value


def test_every_stage_has_a_name_that_tells_what_it_works_on() -> None:
    args = {
        "describe": ("digits",),
        "teach": ("small-teacher-v1", DIGITS),
        "condense": ("herding", DIGITS, None, 10, 2),
        "encode_labels": (TRIAL, DIGITS, (), None, [0], None),
        "evaluate": (TRIAL, DIGITS, None, [], ()),
        "learning_curve": (TRIAL, DIGITS, None, [], (), 2),
    }
    assert args.keys() == STAGES.keys()
    assert {stage: name_of(stage, each) for stage, each in args.items()} == {
        "describe": "data set digits: opening, digests",
        "teach": "teacher small-teacher-v1 on digits",
        "condense": "method herding on digits, ipc 10, replicate 2",
        "encode_labels": "labels of herding on digits, ipc 10, small-soft-v1: svd@10x",
        "evaluate": f"student {TRIAL}",
        "learning_curve": f"student {TRIAL}",
    }


def test_a_stage_is_told_while_it_runs(tmp_path: Path) -> None:
    with told(folder_sink(tmp_path), "1", "condense", ("herding", DIGITS, None, 10, 0)):
        assert [stage.name for stage in running_stages(tmp_path).values()] == [
            "method herding on digits, ipc 10, replicate 0"
        ]
    assert running_stages(tmp_path) == {}


def test_a_stage_runs_where_nothing_can_be_told() -> None:
    def full(name: str, content: bytes | None) -> None:
        raise OSError("no space left on device")

    with told(full, "1", "describe", ("digits",)):
        ran = True
    assert ran


def test_what_is_told_through_ray_comes_out_as_files(tmp_path: Path) -> None:
    sink, mirror = progress_mirror.sink_at("ray:abc"), progress_mirror.ProgressMirror("abc", tmp_path)
    assert sink is not None
    try:
        tell_in(sink)
        watch = watch_of_this_process()
        assert watch is not None
        watch(Standing("teacher x on y", 1.5, 3, 10.0, 20.0))
        sink("1.stage", b'{"name": "method herding", "teller": "7-a"}')
        sink("2.stage", b'{"name": "method of a killed worker", "teller": "8-b"}')
        mirror._look()
        assert running_stages(tmp_path)["1"] == RunningStage("method herding", "7-a")
        assert [each.name for each in standings(tmp_path)] == ["teacher x on y"]
        watch(None)
        sink("1.stage", None)
        mirror.over.add("2.stage")
        mirror._look()
        assert list(tmp_path.iterdir()) == []
    finally:
        tell_in("")
        mirror.end(lost=False)
    assert progress_mirror.kv._internal_kv_list("abc:", namespace=progress_mirror.KV_NAMESPACE) == []


@pytest.mark.parametrize("address", [None, "auto"], ids=["one machine", "--ray-address"])
def test_a_stage_of_a_worker_is_seen_until_it_ends(tmp_path: Path, address: str | None) -> None:
    world: World = make_world(tmp_path)
    place = tmp_path / "go-on"
    place.touch()
    world.add("slow.py", SLOW.format(place=str(place)))
    progress = tmp_path / "progress"
    executor = RayExecutor(discover(world.plugins), tmp_path / "store", address=address, progress=progress)

    async def watched() -> list[str]:
        dataset = (await executor.run("describe", "tiny")).get()
        running = asyncio.ensure_future(
            executor.run("condense", "slow", dataset, UnusedTeacher("small-teacher-v1"), 1, 0)
        )
        names = await asyncio.to_thread(wait_for, lambda: [each.name for each in running_stages(progress).values()])
        place.unlink()
        outcome = await running
        assert outcome.status == "ok", outcome.message
        return names

    try:
        assert asyncio.run(watched()) == ["method slow on tiny, ipc 1, replicate 0"]
        assert wait_for(lambda: not running_stages(progress))
    finally:
        executor.close()
