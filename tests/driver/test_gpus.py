"""GPUs without a GPU: pretended resources of Ray, and a device layer that only notes what is asked of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from click.testing import CliRunner

from bench.artifacts.refs import CondensedRef, DatasetRef
from bench.cli import cli
from bench.driver.faults import GPU_FULL
from bench.driver.on_ray import serving
from bench.driver.on_ray.executor import RayExecutor
from bench.driver.on_ray.stage_table import STAGES, Stage
from bench.driver.shares import GB, Share, Shares, unmet
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.teachers.teacher_files import TeacherRef
from bench.training import gpus
from bench.trials.trial import Trial
from tests.worlds.fake_gpus import fake_gpus, which_gpu
from tests.worlds.in_process import serve_in_process
from tests.worlds.plugins import write
from tests.worlds.run import make_world

DIGITS = DatasetRef("digits", "0" * 64, 10, 1, 8, False, 1437, "1" * 64, "2" * 64, 0)
IMAGENET = replace(DIGITS, spec="imagenet-1k", classes=1000, channels=3, size=224, train_images=1281167)
METHOD = '"""A method."""\n\n{constant}\n\ndef select(train, ipc, ctx):\n    return {body}\n'


def trial(**other) -> Trial:
    plain = {
        "dataset": "digits", "method": "random", "ipc": 10, "compressor": "rpca", "budget": "10x",
        "protocol": "small-soft-v1", "student": "convnet:width=16", "replicate": 0,
    }  # fmt: skip
    return Trial(**{**plain, **other})


def condensed(images: int) -> CondensedRef:
    return CondensedRef("condensed/a.safetensors", images, 1000, 1.0, False, {})


def by_name(network: str) -> TeacherRef:
    return TeacherRef("a", False, network, "3" * 64, 0.5)


# What a stage asks for


def test_small_students_share_a_gpu_and_large_ones_have_it_alone():
    shares = Shares(discover([]), gpu_memory=24 * GB)
    small, large = trial(), trial(protocol="standard-soft-v1", dataset="imagenet-1k", student="torchvision:resnet50")
    assert shares.of("evaluate", small, DIGITS, condensed(100), [], ()).gpus == 1 / 8
    assert 0.5 < shares.of("evaluate", large, IMAGENET, condensed(10_000), [], ()).gpus < 1.0
    assert Shares(discover([]), 12 * GB).of("evaluate", large, IMAGENET, condensed(10_000), [], ()).gpus == 1.0


def test_a_larger_gpu_takes_more_students():
    """ResNet-18 at 224 px: what automatic differentiation keeps of 100 images is 2.2 GB, and the images are 1.5 GB."""
    student = trial(protocol="sre2l-v1", dataset="imagenet-1k", student="torchvision:resnet18")
    of = {
        size: Shares(discover([]), gpu_memory=size * GB).of("evaluate", student, IMAGENET, condensed(10_000), [], ())
        for size in (16, 80)
    }
    assert 1 / 8 <= of[80].gpus < 1 / 2 < of[16].gpus


def test_labelling_and_teachers_share_by_memory_as_well():
    shares = Shares(discover([]), gpu_memory=24 * GB)
    networks = by_name("torchvision:resnet18"), by_name("torchvision:resnet50")
    alone = shares.of("encode_labels", trial(), IMAGENET, networks[:1], condensed(1000)).gpus
    both = shares.of("encode_labels", trial(), IMAGENET, networks, condensed(1000)).gpus
    assert 1 / 8 < alone < both < 1
    assert shares.of("teach", "tiny-resnet18-v1", replace(DIGITS, channels=3, size=64)).gpus < 1


def test_online_teachers_count():
    shares, student = Shares(discover([]), gpu_memory=24 * GB), trial(protocol="rded-v1", dataset="imagenet-1k")
    alone = shares.of("evaluate", student, IMAGENET, condensed(1000), [], ()).gpus
    taught = shares.of("evaluate", student, IMAGENET, condensed(1000), [], (by_name("torchvision:resnet50"),)).gpus
    assert alone < taught


def test_the_user_may_ask_for_more_than_the_memory_says():
    shares = Shares(discover([]), gpu_memory=24 * GB, least=0.5)
    assert shares.of("evaluate", trial(), DIGITS, condensed(100), [], ()).gpus == 0.5


def test_a_stage_whose_memory_nobody_can_tell_gets_a_whole_gpu():
    unknown = Shares(discover([]), gpu_memory=0)
    assert unknown.of("evaluate", trial(), DIGITS, condensed(100), [], ()).gpus == 1.0
    # No network of this kind takes such images: the student itself says why.
    odd = replace(DIGITS, size=1)
    assert Shares(discover([]), 24 * GB).of("evaluate", trial(), odd, condensed(100), [], ()).gpus == 1.0


@pytest.mark.parametrize(
    ("constant", "body", "share"),
    [
        ("", "[]", Share()),
        ("", "ctx.features()", Share(gpus=1.0)),
        ("", "ctx.dynamics(3)", Share(gpus=1.0)),
        ("", "train.images([0]).to(ctx.device)", Share(gpus=1.0)),
        ("NUM_GPUS = 0", "ctx.features()", Share()),
        ("NUM_GPUS = 0.5", "[]", Share(gpus=0.5)),
        ("NUM_GPUS = 2", "[]", Share(gpus=2.0)),
        ("GPU_MEMORY_GB = 6", "ctx.features()", Share(gpus=0.25)),
        ("MEMORY_GB = 12", "[]", Share(memory=12 * GB)),
    ],
)
def test_a_method_asks_by_its_code_or_by_what_its_module_says(tmp_path, constant, body, share):
    plugin = write(tmp_path / "mine.py", METHOD.format(constant=constant, body=body))
    assert Shares(discover([plugin]), gpu_memory=24 * GB).of("condense", "mine") == share


def test_of_the_methods_that_come_with_the_project_those_that_use_networks_ask_for_a_gpu():
    shares = Shares(discover([]), gpu_memory=24 * GB)
    assert {name: shares.of_method(name).gpus for name in ("random", "herding", "el2n", "sre2l", "dm")} == {
        "random": 0.0, "herding": 1.0, "el2n": 1.0, "sre2l": 1.0, "dm": 1.0
    }  # fmt: skip


# What no machine has


def test_a_share_is_met_by_one_machine_that_has_all_of_it():
    large, fast = {"CPU": 16.0, "memory": 256.0 * GB}, {"CPU": 8.0, "GPU": 2.0, "memory": 32.0 * GB}
    assert unmet(Share(gpus=2.0), [large, fast]) is None
    assert unmet(Share(memory=200 * GB), [large, fast]) is None
    assert unmet(Share(gpus=1.0, memory=200 * GB), [large, fast]) == (
        "it asks for 1 core, 1 GPU, 200.0 GB of memory, and no machine has all of that (2 in all, with at most 16 "
        "cores, 2 GPUs, 256.0 GB of memory)"
    )


@pytest.mark.parametrize(
    ("constant", "words"),
    [
        ("MEMORY_GB = 5000", "Method 'greedy' cannot run here: it asks for 1 core, 5000.0 GB of memory, and no"),
        ("NUM_GPUS = 1.5", "NUM_GPUS = 1.5 is neither a share of one GPU nor a whole number of them. Write NUM_GPUS ="),
    ],
)
def test_a_wish_that_nothing_can_fulfil_ends_the_run_in_one_sentence(tmp_path, monkeypatch, constant, words):
    serve_in_process(monkeypatch)
    world = make_world(tmp_path)
    world.add("greedy.py", METHOD.format(constant=constant, body="[]"))
    result = CliRunner().invoke(cli, world.flags(methods=("greedy",)))
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)
    assert not world.lines()


def test_more_gpus_than_a_machine_has_are_refused_and_on_the_processor_none_are_asked_for(tmp_path, monkeypatch):
    serve_in_process(monkeypatch, GPU=2.0)
    plugin = write(tmp_path / "mine.py", METHOD.format(constant="NUM_GPUS = 4", body="[]"))
    trials = [trial(method="mine")]
    with pytest.raises(UserError, match=r"^Method 'mine' cannot run here: it asks for 1 core, 4 GPUs, and no machine"):
        RayExecutor(discover([plugin]), tmp_path / "store", device="cuda").expect(trials)
    RayExecutor(discover([plugin]), tmp_path / "store", device="cpu").expect(trials)


def test_gpus_for_a_teacher_are_wished_for_and_refused_where_there_are_none(tmp_path, monkeypatch):
    serve_in_process(monkeypatch, GPU=2.0)
    teach = ("teach", "tiny-resnet18-v1", DIGITS)
    assert RayExecutor(discover([]), tmp_path, device="cuda", teacher_gpus=2)._share(*teach).gpus == 2.0
    with pytest.raises(UserError, match=r"^--teacher-gpus 4 cannot run here: it asks for 1 core, 4 GPUs, and no"):
        RayExecutor(discover([]), tmp_path, device="cuda", teacher_gpus=4).expect([trial()])
    world = make_world(tmp_path / "world")
    result = CliRunner().invoke(cli, world.flags("--teacher-gpus=2", methods=("first",)))
    assert str(result.exception) == "--teacher-gpus 2: no GPU is here. Leave the option out."


# On which device, and how memory comes back


def test_a_task_without_a_share_leaves_the_gpus_alone(monkeypatch):
    layer = fake_gpus(monkeypatch, 24 * GB)
    assert (gpus.device(0.0), layer.fractions) == ("cpu", [])
    assert (gpus.device(0.25), layer.fractions) == ("cuda", [(0.25, 0)])
    assert fake_gpus(monkeypatch).memory == ()
    assert gpus.device(1.0) == "cpu"  # a machine without any


@pytest.fixture
def executor(tmp_path, monkeypatch):
    """Of one pretended GPU; stages are what a test says. The layer notes what was asked of the GPU."""
    serve_in_process(monkeypatch, GPU=1.0)
    layer = fake_gpus(monkeypatch, 24 * GB)
    executor = RayExecutor(discover([]), tmp_path / "store", device="cuda")
    executor.layer = layer
    return executor


def evaluated(executor: RayExecutor):
    return asyncio.run(executor.run("evaluate", trial(), DIGITS, condensed(100), [], ()))


def with_stage(monkeypatch: pytest.MonkeyPatch, function) -> None:
    monkeypatch.setitem(STAGES, "evaluate", Stage(function, "student", gpus=1.0))


def test_workers_hand_the_memory_back(executor, monkeypatch):
    with_stage(monkeypatch, lambda ws, *_: ws.device)
    assert evaluated(executor).get() == "cuda"
    assert executor.layer.emptied == 1
    assert executor.layer.fractions == [(1 / 8, 0)]


def test_a_stage_that_was_given_too_little_runs_again_on_a_gpu_of_its_own_and_so_do_the_next(executor, monkeypatch):
    seen: list[float] = []

    def student(ws, *_):
        seen.append(ws.gpu_share)
        if ws.gpu_share < 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return {}

    with_stage(monkeypatch, student)
    assert evaluated(executor).status == "ok"
    assert evaluated(executor).status == "ok"
    assert seen == [1 / 8, 1.0, 1.0]


def test_a_gpu_that_is_too_small_is_a_fault_of_the_machine_that_says_what_to_set(executor, monkeypatch):
    def student(*_):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 90.00 GiB. GPU 0 has a total capacity of 24"
        )

    with_stage(monkeypatch, student)
    outcome = evaluated(executor)
    assert (outcome.status, outcome.error_type) == ("lost", GPU_FULL)
    assert outcome.message == (
        "the GPU ran out of memory while it ran 'evaluate', which had a whole GPU of 24.0 GB. --protocol "
        "NAME:recipe.accumulation=4 needs less (unofficial). CUDA_VISIBLE_DEVICES= before the command runs everything "
        "on the processor. Torch says: CUDA out of memory."
    )


def test_a_method_that_a_gpu_is_too_small_for_has_no_record_of_a_failure(executor, monkeypatch):
    def method(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90.00 GiB.")

    monkeypatch.setitem(STAGES, "condense", Stage(method, "method", gpus=None))
    outcome = asyncio.run(executor.run("condense", "sre2l"))
    assert outcome.status == "lost"
    assert "GPU_MEMORY_GB in its module says what it needs" in outcome.message
    # One without a GPU raises an error of its own, by whatever name.
    outcome = asyncio.run(executor.run("condense", "random"))
    assert (outcome.status, outcome.error_type) == ("failed", "OutOfMemoryError")


# With Ray itself


@pytest.mark.slow
def test_no_process_is_ever_given_two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pretended GPUs, tasks on both in turn: a process that changes would stay on the first by CUDA's own rule."""
    monkeypatch.setattr(serving, "task", serving.as_task(which_gpu))
    monkeypatch.setattr(serving, "fresh_task", serving.as_task(which_gpu, calls=1))
    ray.init(
        address="local", num_cpus=3, num_gpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False
    )
    try:
        executor = RayExecutor(discover([]), tmp_path / "store", device="cuda")

        async def runs():
            stages = [("evaluate", trial(), DIGITS, condensed(100), [], ()), ("condense", "random")] * 4
            return await asyncio.gather(*(executor.run(*stage) for stage in stages))

        places = [outcome.get() for outcome in asyncio.run(runs())]
    finally:
        ray.shutdown()
    on_gpus = places[::2]
    assert {gpu for _, gpu in on_gpus} == {"0", "1"}
    assert len({pid for pid, _ in on_gpus}) == len(on_gpus)  # each had a process of its own
