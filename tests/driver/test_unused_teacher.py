"""A teacher is made where somebody asks for one, and nobody names one that was not used."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.checks.records.prescribed import Prescribed
from bench.cli import cli
from bench.driver.prepared import trial_states
from bench.plugins.registry import discover
from bench.reports.leaderboard.rows import leaderboard
from bench.stages.origins import OriginDigests
from bench.trials.trial import Trial
from tests.worlds.honest import altered, board, findings, honest, write
from tests.worlds.records import cell, made_by
from tests.worlds.run import World, make_world

ASKS = """
def select(train, ipc, ctx):
    assert len(ctx.features()) == len(train)
    return [index for c in range(train.num_classes) for index in train.class_indices(c)[:ipc]]
"""
HIDES = ASKS.replace("ctx.features()", 'getattr(ctx, "fea" + "tures")()')


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.mark.usefixtures("ray_for_all")
def test_under_class_labels_a_teacher_is_trained_for_the_method_that_asks(world):
    world.add("asks.py", ASKS)

    def run(*methods: str):
        return CliRunner().invoke(cli, world.flags("--replicates=1", methods=methods))

    assert run("first", "chance").exit_code == 0
    assert not list((world.root / "store" / "teacher").glob("*"))
    assert [what for _, _, what in world.log()].count("read test") == 2 + 1  # and what both splits have in common
    assert [line["made_by"]["teacher"] for line in world.lines()] == [None, None]

    assert run("first", "asks").exit_code == 0
    assert len(list((world.root / "store" / "teacher").glob("*"))) == 1
    teachers = {line["trial"]["method"]: line["made_by"]["teacher"] for line in world.lines()}
    assert [name for name, teacher in teachers.items() if teacher] == ["asks"]


@pytest.mark.usefixtures("ray_for_all")
def test_a_method_that_hides_what_it_asks_for_is_told_to_declare_it(world):
    world.add("hides.py", HIDES)
    outcome = CliRunner().invoke(cli, world.flags("--replicates=1", methods=("hides",)))
    assert outcome.exit_code == 1
    assert "Write TEACHER = True into its module." in outcome.output
    world.add("hides.py", f"TEACHER = True\n{HIDES}")
    assert CliRunner().invoke(cli, world.flags("--replicates=1", "--rerun=failed", methods=("hides",))).exit_code == 0


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A store in which `digits` was opened once."""
    folder = tmp_path_factory.mktemp("store")
    describe(Workspace(folder, discover()), "digits")
    return folder


@pytest.fixture(scope="module")
def prescribed(store: Path) -> Prescribed:
    return Prescribed(discover(), store)


def test_a_record_that_names_an_unused_teacher_stays_done(tmp_path):
    ws = Workspace(tmp_path, discover())
    describe(ws, "digits")
    fields = {"dataset": "digits", "protocol": "small-hard-v1", "ipc": 1, "student": "convnet:width=16"}
    chance, herding = (
        Trial(**fields, method=name, compressor=None, budget=None, replicate=0) for name in ("random", "herding")
    )
    now = {trial: OriginDigests(ws).known(trial) for trial in (chance, herding)}
    assert now[chance]["teacher"] is None
    assert now[herding]["teacher"] is not None
    for teacher, states in (("0" * 64, ["done", "stale"]), (now[herding]["teacher"], ["done", "done"])):
        records = [
            SimpleNamespace(id=trial.id, status="ok", made_by={**now[trial], "teacher": teacher}) for trial in now
        ]
        assert list(trial_states(ws, list(now), records).values()) == states


@pytest.mark.trains
def test_check_records_compares_the_teacher_where_it_was_used(prescribed, store, tmp_path):
    lines = board(prescribed, "herding", protocol="small-hard-v1")
    for number, teacher in enumerate((None, "1" * 64)):  # nobody asked, and what an earlier version might have named
        lines[number] = altered(lines[number], made_by={"teacher": teacher})
    assert findings(write(tmp_path, lines), prescribed.registry, store) == ()
    lines[-1] = altered(lines[-1], made_by={"teacher": None})
    (found,) = findings(write(tmp_path, lines), prescribed.registry, store)
    assert (found.rule, found.where[-2:]) == ("other-teacher", ":6")
    assert "the teacher's weights are (none)" in found.message


@pytest.mark.trains
def test_of_a_method_that_is_not_known_the_teacher_is_compared(prescribed, store, tmp_path):
    lines = [honest(prescribed, "herding", r, protocol="small-hard-v1") for r in range(3)]
    lines = [altered(line, trial={"method": "theirs"}, made_by={"teacher": "1" * 64}) for line in lines]
    rules = {each.rule for each in findings(write(tmp_path, lines), prescribed.registry, store)}
    assert {"unknown-name", "other-teacher"} <= rules


def test_replicates_with_and_without_the_unused_teacher_are_one_row():
    plain = {"compressor": None, "labels": "hard"}
    mixed = cell(0.5, n=4, **plain)
    mixed[2:] = [altered(record, made_by={"teacher": None}) for record in mixed[2:]]
    frame = leaderboard(mixed)
    assert list(frame["n"]) == [4]


def test_the_reference_stands_in_the_table_of_every_teacher():
    plain = {"compressor": None, "labels": "hard"}
    none = {**made_by(), "teacher": None}
    frame = leaderboard(
        [
            *cell(0.4, **plain, made_by=none),
            *cell(0.5, method="herding", **plain, seed=1),
            *cell(0.6, method="kcenter", **plain, seed=2, made_by=made_by(teacher="2" * 64)),
        ]
    )
    tables = frame.groupby("fixed_digest")["method"].apply(sorted).tolist()
    assert sorted(tables) == [["herding", "random"], ["kcenter", "random"]]
    assert frame[frame.method != "random"]["delta_random"].notna().all()
