"""Plugins that misbehave: what they do reaches no other record, ends within limits, and is told."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench.artifacts.refs import read_condensed
from bench.confinement.plugin_limits import LimitExceeded, PluginDied, PluginFailure
from bench.driver.outcome import attempt
from bench.errors import PluginError
from tests.worlds.bad_plugins import BadWorld


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> BadWorld:
    for module in list(sys.modules.values()):  # digits read before, unwatched, would be from no file
        if str(getattr(module, "__file__", "")).endswith("datasets/digits.py"):
            for each in vars(module).values():
                if hasattr(each, "cache_clear"):
                    each.cache_clear()
    return BadWorld(tmp_path_factory.mktemp("bad"))


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where plugins write the numbers of the processes that they leave behind."""
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    return tmp_path / "pids"


@pytest.fixture
def results(world: BadWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTS", str(world.results))


def living(pids: Path) -> list[int]:
    return [int(pid) for pid in pids.read_text().split() if psutil.pid_exists(int(pid))]


def test_what_a_method_patches_is_patched_for_itself_alone(world):
    honest = world.condense("honest")
    patched = world.condense("patches_bytes")
    assert patched.bytes_images == honest.bytes_images > 1000
    assert world.condense("random_").bytes_images == honest.bytes_images


def test_a_method_cannot_pass_by_the_checks_of_what_it_hands_in(world):
    with pytest.raises(PluginError, match="exactly ipc = 1 images per class are asked for"):
        world.condense("patches_checks")


def test_a_default_that_a_method_changes_is_changed_for_itself_alone(world):
    assert world.condense("changes_dtype").images == 10
    assert world.condense("herding").images == 10


def test_shared_artifacts_are_made_where_no_plugin_runs(world):
    world.condense("patches_torch")  # its division by zero would stand in everybody's features
    assert world.condense("herding").images == 10


@pytest.mark.parametrize(
    ("method", "kind", "message"),
    [
        ("exits", "SystemExit", "0"),
        ("exits_at_import", "SystemExit", "0"),
        ("ends_process", "died", "method 'ends_process' ended its process with exit code 0"),
        ("segfaults", "died", r"the process of method 'segfaults' died \(SIGSEGV\)"),
        ("raises_base", "BaseException", "red"),
        ("interrupts", "KeyboardInterrupt", "^$"),
        ("cannot_say", "Mute", "its message cannot be had"),
    ],
)
def test_a_method_that_ends_its_process_is_recorded_as_failed_by_name(world, method, kind, message):
    with pytest.raises(PluginFailure, match=message) as failed:
        world.condense(method)
    assert failed.value.kind == kind
    assert isinstance(failed.value, PluginDied) == (kind == "died")
    outcome = attempt(world.condense, method)
    assert (outcome.status, outcome.error_type) == ("failed", kind)
    assert "\x1b" not in outcome.message
    assert "ip=" not in outcome.message


def test_a_message_has_a_size(world):
    outcome = attempt(world.condense, "says_much")
    assert outcome.error_type == "ValueError"
    assert 1000 < len(outcome.message) < 3000
    assert len(outcome.traceback) <= 21_000


@pytest.mark.parametrize("method", ["loops", "ignores_signals"])
def test_a_method_that_does_not_end_is_ended(world, method):
    started = time.monotonic()
    outcome = attempt(lambda: world.condense(method, seconds=1.5))
    assert (outcome.status, outcome.error_type) == ("failed", "timeout")
    assert f"method '{method}' had not ended after 1.5 s. --stage-timeout SECONDS sets the limit." in outcome.message
    assert time.monotonic() - started < 30


def test_a_method_that_takes_too_much_memory_is_ended(world):
    outcome = attempt(lambda: world.condense("allocates", memory=1200 * 2**20))
    assert (outcome.status, outcome.error_type) == ("failed", "oom")
    assert "took more than 1200 MiB of memory. --stage-memory MIB sets the limit." in outcome.message


@pytest.mark.parametrize("method", ["forks", "catches_forks"])
def test_a_method_that_forks_without_end_is_ended_in_its_first_round(world, method):
    with pytest.raises((LimitExceeded, PluginFailure)) as failed:
        world.condense(method, processes=6)
    assert failed.value.kind == "processes"
    assert "more than 6 processes at once" in str(failed.value)


def test_what_is_printed_costs_nothing(world):
    assert world.condense("prints").images == 10


@pytest.mark.parametrize("method", ["leaves_daemon", "leaves_grandchild"])
def test_nothing_that_a_method_started_is_left_and_the_record_tells_of_it(world, pids, method):
    made = world.condense(method)
    assert "left: 1 process behind" in made.conduct
    assert len(pids.read_text().split()) == 1
    assert living(pids) == []


def test_a_method_that_writes_to_every_descriptor_fails_alone(world):
    with pytest.raises(PluginFailure, match="method 'writes_everywhere': "):
        world.condense("writes_everywhere")
    assert world.condense("honest").images == 10


@pytest.mark.parametrize(
    ("method", "note"),
    [
        ("imports_dataset", "data: imported protocols.datasets"),
        ("opens_file", "data: opened sklearn/datasets/data/digits.csv.gz"),
        ("reads_at_import", "data: opened sklearn/datasets/data/digits.csv.gz"),
        ("walks_frames", "search: called sys._getframe"),
        ("searches_memory", "search: called gc.get_objects"),
        ("asks_context", "data: asked for the test split"),
        ("loads_again", "data: imported protocols.datasets"),
        ("starts_program", "program: started "),
        ("writes_store", "write: changed store/condensed/mine"),
        ("writes_results", "write: changed results/results/more.jsonl"),
    ],
)
def test_what_a_method_does_beside_its_task_is_noted(world, results, method, note):
    made = world.condense(method)
    assert any(each.startswith(note) for each in made.conduct), made.conduct
    again = world.condense(method)  # from the store
    assert again.conduct == made.conduct
    assert str(world.root) not in " ".join(made.conduct)


@pytest.mark.parametrize("method", ["honest", "writes_scratch", "random", "herding", "rded:candidates=40,num_crops=3"])
def test_honest_methods_have_nothing_to_tell(world, method):
    assert world.condense(method).conduct == ()


def test_a_method_runs_in_a_process_that_has_no_way_to_the_harness(world):
    """The same set as ever: what it picks comes from the harness's own copy."""
    made = world.condense("honest")
    train = world.ws.described(world.dataset).train
    picked = read_condensed(world.ws, made).arrays["indices"]
    assert (picked == [train.class_indices(c)[0] for c in range(10)]).all()
    assert (read_condensed(world.ws, made).arrays["images"] == np.asarray(train.images(picked))).all()
