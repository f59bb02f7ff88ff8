"""Speed-ups of a run: batches made ahead, networks compiled. They are chosen for a run and told in its records."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import UserError
from bench.machine import difference
from bench.stages.evaluate import _environment
from bench.training import speed_ups
from bench.training.course import kept_course
from bench.training.speed_ups import compiled, place_speed_ups, prefetched
from tests.worlds.in_process import serve_in_process
from tests.worlds.lessons import close, hard, network, run, same, soft, stored, weights
from tests.worlds.run import make_world


@pytest.fixture(autouse=True)
def _none_left(monkeypatch):
    monkeypatch.setenv(speed_ups.VARIABLE, "")


def trained(recipe) -> tuple[list[float], list[torch.Tensor]]:
    student = network()
    log = run(student, recipe, reader=stored() if recipe.labels == "stored" else None)
    return log.losses, weights(student)


@pytest.mark.parametrize("recipe", [hard(3), soft(3), soft(2, ema=0.9)])
def test_batches_that_are_made_ahead_are_the_same_to_the_bit(recipe):
    losses, plain = trained(recipe)
    place_speed_ups(["prefetch"])
    assert trained(recipe)[0] == losses
    assert same(trained(recipe)[1], plain)


def test_the_next_batch_is_made_while_the_network_trains_and_no_further_than_that():
    place_speed_ups(["prefetch"])
    batches_made: list[int] = []

    def batches():
        for number in range(9):
            batches_made.append(number)
            yield number

    coming = prefetched(batches())
    assert next(coming) == 0
    deadline = time.monotonic() + 10
    while len(batches_made) < 1 + speed_ups.DEPTH and time.monotonic() < deadline:
        time.sleep(0.01)
    assert batches_made == [0, 1, 2]
    assert list(coming) == list(range(1, 9))


def test_what_fails_ahead_fails_where_it_is_used_and_no_thread_is_left():
    place_speed_ups(["prefetch"])

    def broken():
        yield 1
        raise KeyError("a batch")

    coming = prefetched(broken())
    assert next(coming) == 1
    with pytest.raises(KeyError, match="a batch"):
        next(coming)
    endless = prefetched(iter(int, 1))
    next(endless)
    endless.close()
    assert [each.name for each in threading.enumerate() if each.name.startswith("ahead")] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compile", "graphs"])
def test_a_compiled_network_trains_the_one_it_was_made_of(name, monkeypatch):
    """With torch's backend that compiles nothing: what is tested is that the loop trains through it."""
    monkeypatch.setattr(speed_ups, "BACKEND", "eager")
    losses, plain = trained(hard(2))
    place_speed_ups([name])
    assert type(compiled(network())).__name__ == "OptimizedModule"
    faster, parameters = trained(hard(2))
    assert faster == pytest.approx(losses, rel=1e-4)
    assert close(parameters, plain)


def test_a_record_tells_them_and_its_bits_need_not_be_those_of_another():
    plain = _environment("cpu")
    assert "speed_ups" not in plain
    place_speed_ups(["prefetch", "compile", "compile"])
    assert _environment("cpu")["speed_ups"] == "compile, prefetch"
    both = ({"arithmetic": "portable", **each} for each in (plain, _environment("cpu")))
    assert difference(*both) == "other speed-ups (none, compile, prefetch)"


def test_the_command_line_turns_them_on_and_the_record_of_the_trial_says_so(tmp_path, monkeypatch):
    serve_in_process(monkeypatch)
    world = make_world(tmp_path)
    result = CliRunner().invoke(cli, world.flags("--replicates=1", "--speed-up=prefetch", methods=("first",)))
    assert result.exit_code == 0, result.output
    assert world.lines()[0]["environment"]["speed_ups"] == "prefetch"


def test_a_checkpoint_belongs_to_them(tmp_path):
    from bench.artifacts.store import Store

    def folder():
        return kept_course(Store(tmp_path), "student", {"a": 1}, "cpu").folder

    before = folder()
    place_speed_ups(["compile"])
    assert folder() != before


def test_an_unknown_one_is_refused_with_those_that_there_are():
    with pytest.raises(UserError, match=r"No speed-up is named 'turbo'\.\nKnown speed-ups: compile, graphs, prefetch"):
        place_speed_ups(["turbo"])
