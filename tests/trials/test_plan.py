"""A plan becomes trials: every combination once, in canonical form; mistakes are found before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.driver.defaults import make_plan
from bench.driver.estimate import estimate_seconds
from bench.errors import UserError
from bench.plugins.registry import Registry, discover
from bench.protocol import definition
from bench.records.files import Record
from bench.trials.plan import Grid, Plan, read_plan
from bench.trials.trial import Trial
from tests.worlds.plugins import SELECT, write
from tests.worlds.records import record

BASE: dict[str, Any] = {"datasets": ["digits"], "protocols": ["small-soft-v1"], "methods": ["random"]}
HARD: dict[str, Any] = {**BASE, "protocols": ["small-hard-v1"]}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


def trials(registry: Registry, *grids: dict[str, Any]) -> list[Trial]:
    return Plan([Grid(**grid) for grid in grids]).trials(registry)


def test_every_combination_once_and_replicates_side_by_side(registry: Registry) -> None:
    grid = {
        **BASE, "datasets": ["digits", "mnist5k"], "methods": ["random", "herding"], "ipcs": [1, 10],
        "compressors": ["none", "svd", "cur"], "budgets": ["10x", "20kB"], "replicates": 2,
    }  # fmt: skip
    found = trials(registry, grid)
    assert len(found) == len(set(found)) == 2 * 2 * 2 * (1 + 2 * 2) * 2
    assert {(t.compressor, t.budget) for t in found} == {
        ("none", None), ("svd", "10x"), ("svd", "20000B"), ("cur", "10x"), ("cur", "20000B"),
    }  # fmt: skip
    assert [t.replicate for t in found[:4]] == [0, 1, 0, 1]


def test_the_protocol_names_the_student_unless_the_plan_does(registry: Registry) -> None:
    fixed = definition.load(registry, "small-soft-v1").student("digits")
    assert {t.student for t in trials(registry, BASE)} == {fixed}
    assert {t.student for t in trials(registry, {**BASE, "students": ["resnet", "timm:resnet18"]})} == {
        "resnet", "timm:resnet18",
    }  # fmt: skip


def test_class_labels_know_no_compressor_and_no_budget(registry: Registry) -> None:
    found = trials(registry, {**HARD, "compressors": ["svd", "cur"], "budgets": ["30x"]})
    assert [(t.compressor, t.budget, t.replicate) for t in found] == [(None, None, r) for r in range(3)]


def test_one_trial_however_it_is_written(registry: Registry) -> None:
    one = {
        **BASE,
        "methods": ["el2n:end=hard,epochs=10", "random"],
        "compressors": ["svd"],
        "budgets": ["20kB", "30.0x"],
    }
    other = {**BASE, "methods": ["random", "el2n:end=hard"], "compressors": ["svd"], "budgets": ["30x", "20000B"]}
    assert {t.id for t in trials(registry, one)} == {t.id for t in trials(registry, other)}
    assert len(trials(registry, one, other, one)) == len(trials(registry, one))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": []}, r"no dataset is named\. Type --dataset NAME"),
        ({"methods": ["radnom"]}, "Did you mean 'random'"),
        ({"datasets": ["digit"]}, "Did you mean 'digits'"),
        ({"protocols": ["small-soft"]}, "Did you mean 'small-soft-v1'"),
        ({"students": ["convnt"]}, "Did you mean 'convnet'"),
        ({"compressors": ["svdd"]}, "Did you mean 'svd'"),
        ({"ipcs": [0]}, "ipc must be a whole number of at least 1, not 0"),
        ({"ipcs": [1.5]}, "not 1.5"),
        ({"ipcs": ["10"]}, "not '10'"),
        ({"ipcs": [True]}, "not True"),
        ({"replicates": 0}, "replicates must be a whole number of at least 1, not 0"),
        ({"replicates": "3"}, "not '3'"),
        ({"replicates": True}, "not True"),
        ({"compressors": ["svd"]}, r"Compressor 'svd' needs a budget\. Type for instance --budget 30x"),
        ({"compressors": ["svd"], "budgets": ["30 percent"]}, "neither a ratio such as 30x"),
        ({"budgets": ["30x"]}, "--budget 30x was given, but none takes no budget"),
        ({"datasets": "digits"}, r"datasets must be a list, for instance datasets = \['digits'\], not 'digits'"),
        ({"ipcs": 10}, r"ipcs must be a list, for instance ipcs = \[10\]"),
        ({"methods": [3]}, "methods must be a list of names in quotes; 3 is none"),
    ],
)
def test_a_mistake_is_found_before_anything_runs(registry: Registry, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        trials(registry, {**BASE, **change})


# --- plan files ------------------------------------------------------------------------------------------------------

PLAN = """
title = "Two grids"
[[grid]]
datasets = ["digits"]
protocols = ["small-hard-v1"]
methods = ["random"]
ipcs = [1, 10]
[[grid]]
datasets = ["digits"]
protocols = ["small-soft-v1"]
methods = ["herding"]
compressors = ["svd"]
budgets = ["30x"]
replicates = 1
"""


def test_a_plan_file_holds_grids(tmp_path: Path, registry: Registry) -> None:
    path = write(tmp_path / "plan.toml", PLAN)
    assert len(read_plan(path).trials(registry)) == 2 * 3 + 1
    assert len(make_plan(plan=path, replicates=5).trials(registry)) == 2 * 5 + 5
    with pytest.raises(UserError, match="A plan file says what to run; leave out ipcs, methods"):
        make_plan(plan=path, methods=["random"], ipcs=[1])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("methods =", "method =", "No key is named 'method'. Did you mean 'methods'"),
        (
            'methods = ["random"]',
            'methods = "random"',
            r"'methods' must be a list, for instance methods = \['random'\]",
        ),
        ("title =", "titel =", r"a plan consists of \[\[grid\]\] tables"),
        ("title = ", "title = = ", r"plan.toml: .*line 1"),
        (PLAN, "title = 'nothing'", r"a plan consists of \[\[grid\]\] tables"),
        (PLAN, "grid = []", r"a plan consists of \[\[grid\]\] tables"),
        (PLAN, "grid = [1]", r"a plan consists of \[\[grid\]\] tables"),
        (PLAN, "[grid]\nmethods = ['random']", r"a plan consists of \[\[grid\]\] tables"),
    ],
)
def test_a_mistake_in_a_plan_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in PLAN
    with pytest.raises(UserError, match=message):
        read_plan(write(tmp_path / "plan.toml", PLAN.replace(old, new)))


def test_a_plan_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_plan(tmp_path / "nowhere.toml")
    (tmp_path / "image.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no text file"):
        read_plan(tmp_path / "image.toml")


def test_python_calls_know_the_same_words() -> None:
    with pytest.raises(UserError, match=r"No argument is named 'method'\. Did you mean 'methods'"):
        make_plan(method=["random"])
    assert make_plan(**BASE).grids[0].protocols == ["small-soft-v1"]
    assert make_plan(methods=["random"]).grids[0].protocols == ("small-soft-v1",)


def test_plugins_of_ones_own_are_planned_like_any_other(tmp_path: Path) -> None:
    found = trials(
        discover([write(tmp_path / "mine.py", SELECT)]), {**HARD, "methods": ["mine:offset=0", "mine:offset=3"]}
    )
    assert {t.method for t in found} == {"mine", "mine:offset=3"}


# --- how long it may take --------------------------------------------------------------------------------------------


def test_trials_are_estimated_by_the_median_of_their_like(registry: Registry) -> None:
    asked = trials(registry, {**BASE, "methods": ["random", "herding"], "ipcs": [1, 10], "replicates": 2})
    known = [
        record(**{**asked[0].as_dict(), "replicate": replicate}, seconds={"train": seconds, "test": 1.0})
        for replicate, seconds in enumerate((2.0, 3.0, 99.0))
    ]
    assert {r.trial["ipc"] for r in known} == {1}
    seconds, unknown = estimate_seconds(asked, known)
    assert (seconds, unknown) == (4 * 4.0, 4)
    assert estimate_seconds(asked, []) == (0.0, 8)


def test_what_trials_share_is_estimated_once(registry: Registry) -> None:
    """One set that all replicates use, or one for each; labels of each set."""
    grid = {
        **BASE,
        "methods": ["random", "herding"],
        "compressors": ["none", "svd"],
        "budgets": ["5x"],
        "replicates": 2,
    }
    asked = trials(registry, grid)
    spent = {"random": (3.0, 4.0), "herding": (50.0, 50.0)}
    known = [
        record(
            **trial.as_dict(),
            seconds={"condense": spent[trial.method][trial.replicate], "encode": 7.0, "train": 1.0, "test": 1.0},
        )
        for trial in asked
        if trial.compressor == "none"
    ]
    sets, labels = 2 * 3.5 + 50.0, 2 * (2 + 1) * 7.0
    assert estimate_seconds(asked, known) == (8 * 2.0 + sets + labels, 0)


def test_sets_of_two_teachers_are_two(registry: Registry) -> None:
    """A method that looks at a teacher makes a set for each; protocols with one teacher share it."""
    grid = {**HARD, "methods": ["herding"], "protocols": ["small-hard-v1", "small-soft-v1"], "replicates": 2}
    asked = trials(registry, grid)

    def known(*teachers: str) -> list[Record]:
        of = dict(zip(grid["protocols"], teachers, strict=True))
        return [
            record(**t.as_dict(), seconds={"condense": 50.0, "train": 1.0}, made_by={"teacher": of[t.protocol]})
            for t in asked
        ]

    assert estimate_seconds(asked, known("one", "one")) == (4 * 1.0 + 50.0, 0)
    assert estimate_seconds(asked, known("one", "another")) == (4 * 1.0 + 2 * 50.0, 0)
