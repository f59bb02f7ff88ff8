"""What a person sees of a long training: how far it is, now and then, until it ends."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.checks.records.board import Line
from bench.cli import progress, trial_progress
from bench.cli.progress import RunProgress, named_stages, progress_of_reruns
from bench.cli.trial_progress import long_stages
from bench.driver.running_stages import told
from bench.training.progress_files import folder_sink, standings, tell_in, teller
from bench.training.standing import Standing, watch_trainings
from tests.worlds.records import record

STANDING = Standing("teacher cifar-resnet18-v1 on cifar10", 3.4, 200, 512.3, 5000.0)
SENTENCE = "teacher cifar-resnet18-v1 on cifar10: epoch 3.4 of 200, 512 images/s, 1 h 23 min left"


@pytest.fixture
def tell(tmp_path: Path):
    """Says in a folder how far this process's training is."""
    from bench.training import standing

    tell_in(str(tmp_path / "told"))
    yield standing._watch
    watch_trainings(None)


def test_a_training_of_another_process_is_shown_until_it_ends(tmp_path, tell, capsys, monkeypatch):
    monkeypatch.setattr(trial_progress, "WATCH_EVERY", 0.01)
    prepared = SimpleNamespace(
        notes=(), states={}, chosen=["a trial"], existing=(), pixels_to_keep=(), labels_to_keep=(),
        trainings=("one line",), options=SimpleNamespace(jobs=1), progress=tmp_path / "told",
    )  # fmt: skip
    monkeypatch.setattr(progress, "estimate_seconds", lambda *_: (0.0, 1))
    with RunProgress(prepared) as view:
        view.start()
        tell(STANDING)
        said = ""
        deadline = time.monotonic() + 20
        while SENTENCE not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().err
        assert SENTENCE in said
        assert "one line" in said
        tell(None)
        assert list(standings(tmp_path / "told")) == []
    assert SENTENCE not in capsys.readouterr().err  # a line a minute, not one a look


def test_a_long_stage_is_named_and_its_training_with_it(tmp_path, tell):
    begun: dict[str, float] = {}
    stages = {"1": "method slow on tiny, ipc 1, replicate 0", "2": "teacher cifar-resnet18-v1 on cifar10"}
    sink = folder_sink(tmp_path / "told")
    for ticket, name in stages.items():
        with told(sink, ticket, "describe", ("-",)):
            pass  # it ended, and is not told
        sink(f"{ticket}.stage", json.dumps({"name": name, "teller": "1" if ticket == "1" else teller()}).encode())
    tell(STANDING)
    assert long_stages(tmp_path / "told", begun) == {"2": (SENTENCE, 3, 200)}
    begun["1"] -= 95
    assert long_stages(tmp_path / "told", begun)["1"] == (
        "method slow on tiny, ipc 1, replicate 0: for 1 min 35 s",
        0,
        None,
    )
    sink("1.stage", None)
    sink("2.stage", json.dumps({"name": "method dynamic", "teller": teller()}).encode())
    assert long_stages(tmp_path / "told", begun) == {"2": (f"method dynamic: {SENTENCE}", 3, 200)}


def test_records_that_run_again_tell_their_stages_as_a_run_does(tmp_path, tell, capsys, monkeypatch):
    monkeypatch.setattr(trial_progress, "WATCH_EVERY", 0.01)
    lines = [Line(record(replicate=replicate), f"records.jsonl:{replicate + 1}") for replicate in range(2)]
    with progress_of_reruns(lines, tmp_path / "told") as ended:
        tell(STANDING)
        said = ""
        deadline = time.monotonic() + 20
        while SENTENCE not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().err
        for line in [*lines, lines[0]]:  # one more than foreseen: a seed among which a claim is looked for
            ended(line.record)
    assert SENTENCE in said
    assert said.startswith("2 trials run again, about ")
    assert re.search(r"^2/2 trials after .*, last: glyphs.* 5.\.\d %$", capsys.readouterr().err, re.MULTILINE)


def test_what_this_process_does_is_named_once_it_takes_long(capsys, monkeypatch):
    monkeypatch.setattr(trial_progress, "WATCH_EVERY", 0.01)
    monkeypatch.setattr(trial_progress, "SEEN_AFTER", 0.05)
    said = ""
    with named_stages() as naming, naming("check plugins: method 'mine', same-twice"):
        deadline = time.monotonic() + 20
        while "same-twice" not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert said == "check plugins: method 'mine', same-twice: for 0 s\n"


def test_what_a_killed_process_said_is_forgotten(tmp_path, tell, monkeypatch):
    tell(STANDING)
    assert list(standings(tmp_path / "told")) == [STANDING]
    monkeypatch.setattr("bench.training.progress_files.STALE", -1.0)
    assert list(standings(tmp_path / "told")) == []


@pytest.mark.parametrize("moved", [-3600.0, 3600.0], ids=["set back", "set forward"])
def test_so_it_is_where_the_clock_was_moved_since_and_a_living_one_is_heard_of_again(tmp_path, tell, moved):
    tell(STANDING)
    (file,) = (tmp_path / "told").glob("*.json")
    os.utime(file, times=(time.time() - moved, time.time() - moved))
    assert list(standings(tmp_path / "told")) == []
    tell(STANDING)
    assert list(standings(tmp_path / "told")) == [STANDING]


def test_the_accuracy_of_a_teacher_is_told_once(capsys):
    facts = {"recipe": "mine", "network": "convnet:width=16", "digest": "1" * 64, "accuracy": 0.9342}
    view = RunProgress(SimpleNamespace())
    for replicate in range(2):
        view.record(record(replicate=replicate, teachers=[facts]))
    told = "teacher mine (convnet:width=16): 93.4 % on the test split of glyphs:classes=100"
    assert capsys.readouterr().err.count(told) == 1
