"""Precision, memory format and determinism: what a recipe says of a student's arithmetic, and what comes back after."""

from __future__ import annotations

import contextlib

import pytest
import torch
from click.testing import CliRunner

from bench.cli import cli
from bench.plugins.registry import discover
from bench.protocol import definition
from bench.protocol.recipe import Recipe
from bench.training import gpus
from bench.training.arithmetic import arithmetic, forward_pass, place
from bench.training.loop import evaluate
from tests.worlds.in_process import serve_in_process
from tests.worlds.lessons import MEAN, STD, hard, network, run, same, soft, stored, task, weights
from tests.worlds.run import make_world

SETTINGS = (
    (torch.backends.cuda.matmul, "fp32_precision"),
    (torch.backends.cudnn.conv, "fp32_precision"),
    (torch.backends.cudnn, "deterministic"),
)


def settings() -> list[object]:
    return [getattr(place, name) for place, name in SETTINGS] + [torch.are_deterministic_algorithms_enabled()]


def trained(recipe: Recipe) -> torch.nn.Module:
    student = network()
    run(student, recipe, reader=stored() if recipe.labels == "stored" else None)
    return student


def test_the_defaults_are_what_the_engine_always_did_and_stand_in_no_digest():
    written = Recipe.model_validate(
        {**hard(3).model_dump(), "precision": "fp32", "memory_format": "device", "deterministic": False}
    )
    assert written.digest == hard(3).digest
    assert hard(3, precision="bf16").digest != hard(3).digest
    assert same(weights(trained(written)), weights(trained(hard(3))))
    assert next(trained(hard(1)).parameters()).is_contiguous(memory_format=torch.channels_last)


def test_a_student_in_bf16_learns_keeps_its_weights_in_single_precision_and_is_another_one():
    rounded, exact = trained(hard(20, precision="bf16")), trained(hard(20))
    assert {p.dtype for p in rounded.parameters()} == {torch.float32}
    assert not same(weights(rounded), weights(exact))
    images, labels = task(90, seed=9)
    assert evaluate(rounded, images, labels, mean=MEAN, std=STD).accuracy > 0.6
    assert same(weights(rounded), weights(trained(hard(20, precision="bf16"))))  # and the same one again


def test_in_bf16_activations_are_rounded_and_logits_are_not_left_so():
    student, seen = network(), []
    student[0].register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    images = torch.randn(4, 1, 8, 8)
    assert forward_pass(student, hard(precision="bf16"), torch.device("cpu"))(images).dtype == torch.float32
    assert forward_pass(student, hard(), torch.device("cpu"))(images).dtype == torch.float32
    assert seen == [torch.bfloat16, torch.float32]


def test_on_processors_tf32_is_single_precision():
    assert same(weights(trained(soft(2, precision="tf32"))), weights(trained(soft(2))))


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (hard(), ["ieee", "ieee", False, False]),
        (hard(precision="tf32"), ["tf32", "tf32", False, False]),
        (hard(precision="bf16", deterministic=True), ["ieee", "ieee", True, True]),
    ],
)
def test_a_gpu_computes_as_the_recipe_says_and_torch_is_left_as_it_was(recipe, expected):
    before = settings()
    with contextlib.suppress(KeyError), arithmetic(recipe, torch.device("cuda")):
        assert settings() == expected
        raise KeyError
    assert settings() == before


def test_a_deterministic_recipe_holds_on_processors_too():
    before = settings()
    with arithmetic(hard(deterministic=True), torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
    assert settings() == before
    assert same(weights(trained(hard(2, deterministic=True))), weights(trained(hard(2))))
    assert gpus.WORKSPACE == ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # one of the two that torch asks for


@pytest.mark.parametrize(
    ("memory_format", "expected"), [("device", True), ("contiguous", False), ("channels_last", True)]
)
def test_the_memory_format_is_that_of_the_recipe(memory_format, expected):
    student = torch.nn.Conv2d(3, 8, 3)
    place(student, hard(memory_format=memory_format), torch.device("cpu"))
    assert student.weight.is_contiguous(memory_format=torch.channels_last) == expected


def test_another_precision_is_an_unofficial_protocol():
    registry = discover([])
    plain, rounded = (definition.load(registry, name) for name in ("rded-v1", "rded-v1:recipe.precision=bf16"))
    assert plain.digest != rounded.digest
    cell = {"dataset": "cifar10", "ipc": 10, "student": "torchvision:resnet18", "classes": 10}
    assert (plain.recipe(**cell).precision, rounded.recipe(**cell).precision) == ("fp32", "bf16")
    assert definition.load(registry, "rded-v1:recipe.precision=fp32").digest == plain.digest


def test_a_trial_in_bf16_runs_through_the_command_line(tmp_path, monkeypatch):
    serve_in_process(monkeypatch)
    world = make_world(tmp_path)
    flags = world.flags("--replicates=1", methods=("first",))
    at = flags.index(next(each for each in flags if "quick" in each))
    result = CliRunner().invoke(cli, [*flags[:at], f"{flags[at]}:recipe.precision=bf16", *flags[at + 1 :]])
    assert result.exit_code == 0, result.output
    assert world.lines()[0]["trial"]["protocol"].endswith(":recipe.precision=bf16")
