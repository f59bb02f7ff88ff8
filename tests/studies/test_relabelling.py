"""`condensebench cost --relabelling`: every second of making labels counts once, for the stage that took it."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bench.artifacts.refs import Workspace
from bench.cli.cost import command
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.studies.costs import relabelling
from bench.studies.costs.relabelling import STAGES, Clock, TimedEnsemble, profile
from bench.studies.label_sets.trial_labels import trial_labelling

PROTOCOL = "small-soft-v1:recipe.views=3"


def test_work_inside_a_stage_counts_for_the_inner_one_and_the_sum_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(relabelling, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    clock = Clock("cpu")
    with clock.stage("teacher"):
        pass_by(7)  # before the start: not counted
    clock.start()
    pass_by(1)
    with clock.stage("storing"):
        pass_by(2)
        with clock.stage("reading"):
            pass_by(4)
        pass_by(8)
    with suppress(ValueError), clock.stage("teacher"):
        pass_by(16)
        raise ValueError
    pass_by(32)
    seconds = clock.end()
    assert seconds == {"reading": 4, "augmentation": 0, "teacher": 16, "storing": 10, "other": 33}
    assert tuple(seconds) == STAGES


def test_on_a_gpu_a_clock_waits_until_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(1))
    clock = Clock("cuda:0")
    clock.start()
    with clock.stage("teacher"):
        assert len(waits) == 2  # at the start, and before the stage
    clock.end()
    assert len(waits) == 4


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def test_a_stage_that_is_slowed_down_shows_it_and_the_labels_are_those_of_a_run(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelling = trial_labelling(Workspace(store, discover()), "digits", PROTOCOL, "random", 2)
    written: list[np.ndarray] = []
    original, answer = relabelling.write, TimedEnsemble.__mro__[1].answer

    def slow_write(path: Path, arrays: dict[str, np.ndarray], meta: dict[str, object]) -> None:
        written.append(arrays["logits"])
        time.sleep(0.05)
        original(path, arrays, meta)

    def slow_answer(self: TimedEnsemble, *given: object) -> torch.Tensor:
        time.sleep(0.03)
        return answer(self, *given)

    monkeypatch.setattr(relabelling, "write", slow_write)
    monkeypatch.setattr(TimedEnsemble.__mro__[1], "answer", slow_answer)
    seen = profile(labelling)
    assert (seen.images, seen.views, seen.classes, seen.teachers) == (20, 3, 10, 1)
    assert seen.seconds["teacher"] >= 3 * 0.03
    assert seen.seconds["storing"] >= 0.05
    assert all(seen.seconds[stage] < 0.03 for stage in ("reading", "other"))
    assert seen.total == pytest.approx(sum(seen.seconds.values()))
    assert seen.label_bytes == written[0].nbytes == 20 * 3 * 10 * 2
    assert np.array_equal(written[0], labelling.raw(0).logits.numpy())


def test_the_verb_prints_the_shares_of_every_label_set() -> None:
    options = ["--relabelling", "--dataset=digits", "--method=random", "--ipc=1", f"--protocol={PROTOCOL}"]
    result = CliRunner().invoke(command, [*options, "--format=json"], catch_exceptions=False)
    (row,) = json.loads(result.stdout)
    assert sum(row[f"{stage}_seconds"] for stage in STAGES) == pytest.approx(row["seconds"])
    assert row["labels_per_second"] == pytest.approx(30 / row["seconds"])
    text = CliRunner().invoke(command, options, catch_exceptions=False).stdout
    assert "reading %" in text
    assert "float16 logits, written to the store's disk" in text
    with pytest.raises(UserError, match="its labels are hard, there is nothing to relabel"):
        CliRunner().invoke(command, [*options[:-1], "--protocol=small-hard-v1"], catch_exceptions=False)
