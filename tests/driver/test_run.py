"""A plan is run: what is shared, what is recorded, what a second run does, and who may open the test split."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import bench
from bench.artifacts.refs import Workspace
from bench.cli import cli
from bench.driver.prepared import trial_states
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.records import files as records
from bench.trials.plan import Grid, Plan
from tests.worlds.run import CHANCE, DATASET, FIRST, World, make_world, raising

pytestmark = pytest.mark.usefixtures("ray_for_all")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def run(world: World, *more: str, **options) -> Result:
    return CliRunner().invoke(cli, world.flags(*more, **options))


def summary(world: World) -> Counter:
    return Counter((line["trial"]["method"], line["status"]) for line in world.lines())


def found(world: World, *methods: str, store: str = "store") -> set[str]:
    registry = discover(world.plugins)
    grid = Grid(datasets=["tiny"], protocols=["quick-hard"], methods=methods, ipcs=[2])
    existing = records.load(world.results).records
    return set(trial_states(Workspace(world.root / store, registry), Plan([grid]).trials(registry), existing).values())


def test_the_same_trials_in_another_order_of_flags_are_done_and_nothing_is_computed(world):
    first = run(world, "--replicates=2")
    assert first.exit_code == 0, first.output
    assert summary(world) == {("first", "ok"): 2, ("chance", "ok"): 2}
    logged = len(world.log())

    again = run(world, "--replicates=2", methods=("chance", "first:offset=0"))

    assert again.exit_code == 0
    assert "4 done, 0 missing" in again.output
    assert len(world.lines()) == 4
    assert len(world.log()) == logged


def test_what_trials_share_is_made_once(world):
    outcome = run(world, "--compressor=none", "--compressor=svd", "--budget=20kB", protocol="quick-soft")

    assert outcome.exit_code == 0, outcome.output
    assert summary(world) == {("first", "ok"): 6, ("chance", "ok"): 6}
    calls = Counter(what for _, _, what in world.log() if what.startswith("method"))
    assert calls == {"method first": 1, "method chance": 3}  # who asks for no generator serves all replicates
    made = Counter(path.parent.name for path in (world.root / "store").rglob("*.safetensors"))
    assert made["teacher"] == 1
    assert made["condensed"] == 4
    assert made["raw-labels"] == 4
    assert made["labels"] == 8


def test_the_test_split_is_read_once_a_trial_where_no_method_has_run(world):
    run(world, "--replicates=2", "--compressor=none", protocol="quick-soft")

    log = world.log()
    ran_methods = {process for process, _, what in log if what.startswith("method")}
    read_test = [(process, role) for process, role, what in log if what == "read test"]
    assert len(read_test) == 4 + 2  # four students, the teacher's own accuracy, and what both splits have in common
    assert {role for _, role in read_test} == {"student"}
    assert {role for _, role, what in log if what.startswith("method")} == {"method"}
    assert not ran_methods & {process for process, _ in read_test}


def test_a_trial_gives_the_same_bits_in_another_store(world):
    labels = []
    for turn in ("one", "two"):
        here = ("--replicates=1", f"--results={world.root / turn}", f"--store={world.root / turn / 'store'}")
        outcome = run(world, *here, "--compressor=svd", "--budget=20kB", protocol="quick-soft")
        assert outcome.exit_code == 0, outcome.output
        files = sorted((world.root / turn / "store" / "labels").glob("*.safetensors"))
        labels.append({file.name: _content(file) for file in files})
    one, two = (records.load(world.root / turn).records for turn in ("one", "two"))
    by_id = {record.id: record for record in two}
    for record in one:
        other = by_id[record.id]
        assert (record.accuracy, record.train_loss, record.test_loss) == (
            other.accuracy,
            other.train_loss,
            other.test_loss,
        )
        assert record.made_by == other.made_by
    assert len(labels[0]) == 2
    assert labels[0] == labels[1]


def _content(file: Path) -> str:
    """Digest of the arrays; the metadata holds seconds."""
    data = file.read_bytes()
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


def test_a_method_that_raises_leaves_its_traceback_and_the_others_finish(world):
    world.add("broken.py", raising('raise ValueError("no such thing as [/luck] in [images, classes]")'))
    world.add("mute.py", raising("raise RuntimeError()"))
    world.add("quits.py", raising("raise SystemExit(3)"))
    methods = ("broken", "mute", "quits", "first")

    outcome = run(world, "--replicates=2", methods=methods)

    assert outcome.exit_code == 1
    assert "failed: tiny ipc=2 broken" in outcome.output
    assert "ValueError: no such thing as [/luck] in [images, classes]" in outcome.output
    assert summary(world) == {
        ("broken", "failed"): 2,
        ("mute", "failed"): 2,
        ("quits", "failed"): 2,
        ("first", "ok"): 2,
    }
    errors = {line["trial"]["method"]: line["error"] for line in world.lines() if line["error"]}
    assert errors["broken"]["message"] == "no such thing as [/luck] in [images, classes]"
    assert "in select" in errors["broken"]["traceback"]
    assert (errors["mute"]["type"], errors["quits"]["type"]) == ("RuntimeError", "SystemExit")

    assert run(world, "--replicates=2", methods=methods).exit_code == 1  # stands as failed; is not run again
    assert len(world.lines()) == 8
    assert run(world, "--replicates=2", "--rerun=failed", methods=("broken", "first")).exit_code == 1
    assert summary(world)["broken", "failed"] == 4
    assert summary(world)["first", "ok"] == 2


def test_an_edited_method_makes_its_records_stale_even_where_nothing_is_in_the_store(world):
    run(world)
    assert found(world, "first") == {"done"}
    assert found(world, "first", store="empty") == {"done"}

    world.add("first.py", FIRST.replace("offset : offset + ipc", "offset + 1 : offset + 1 + ipc"))

    assert found(world, "first") == {"stale"}
    assert found(world, "first", store="empty") == {"stale"}
    assert found(world, "chance") == {"done"}
    assert run(world, "--rerun=stale").exit_code == 0
    assert summary(world) == {("first", "ok"): 6, ("chance", "ok"): 3}
    assert found(world, "first") == {"done"}


def test_rerun_all_gives_every_trial_a_second_line_with_the_same_figures(world):
    run(world, "--replicates=1")
    assert run(world, "--replicates=1", "--rerun=all").exit_code == 0
    figures: dict[str, set] = {}
    for line in world.lines():
        figures.setdefault(line["id"], set()).add((line["accuracy"], line["train_loss"]))
    assert len(world.lines()) == 4
    assert [len(each) for each in figures.values()] == [1, 1]


def test_a_data_set_that_cannot_be_opened_fails_its_trials_until_it_is_repaired(world):
    world.add("tiny.py", DATASET.replace("    return Dataset(", "    raise OSError('disk gone')\n    return Dataset("))
    outcome = run(world, "--replicates=1")
    assert outcome.exit_code == 1
    assert {line["made_by"]["dataset"] for line in world.lines()} == {None}
    assert found(world, "first") == {"failed", "missing"}  # one replicate was run, two were not
    assert run(world, "--replicates=1").exit_code == 1
    assert len(world.lines()) == 2  # not tried again unasked

    world.add("tiny.py", DATASET)
    assert run(world, "--replicates=1", "--rerun=failed").exit_code == 0
    assert summary(world) == {(m, s): 1 for m in ("first", "chance") for s in ("failed", "ok")}


def test_a_budget_that_is_too_small_is_no_failure(world):
    outcome = run(world, "--replicates=1", "--compressor=svd", "--budget=1B", protocol="quick-soft")
    assert outcome.exit_code == 0, outcome.output
    for line in world.lines():
        assert line["status"] == "infeasible"
        assert line["smallest_bytes"] > 1
        assert line["accuracy"] is None
    assert "2 done" in run(world, "--replicates=1", "--compressor=svd", "--budget=1B", protocol="quick-soft").output


def test_a_record_tells_what_was_made_and_how_long_it_took(world):
    run(world, "--replicates=1", "--compressor=none", methods=("first",), protocol="quick-soft")
    (record,) = records.load(world.results)
    assert record.bytes_images > 0
    assert record.bytes_labels.total > 0
    assert (record.num_images, record.num_views, record.num_classes) == (6, 2, 3)
    assert record.provenance["parameters"] == {"offset": 0}
    assert set(record.seconds) == {"condense", "encode", "train", "test"}
    assert all(record.made_by.values())
    assert record.environment["torch"]


def test_a_worker_that_dies_once_is_replaced_and_one_that_always_dies_costs_its_trial_only(world):
    kill = "os.kill(os.getpid(), 9)"
    once = "if not os.path.exists({0!r}):\n        open({0!r}, 'w').close()\n        {1}\n    ".format(
        str(world.root / "died"), kill
    )
    world.add("unlucky.py", CHANCE.replace('log("method chance")\n    ', once))
    world.add("deadly.py", raising(kill))

    outcome = run(world, "--replicates=1", methods=("deadly", "unlucky", "first"))

    assert outcome.exit_code == 1
    assert (world.root / "died").exists()
    assert summary(world) == {("deadly", "failed"): 1, ("unlucky", "ok"): 1, ("first", "ok"): 1}
    (error,) = (line["error"] for line in world.lines() if line["error"])
    assert "died" in error["message"]


def test_two_runs_may_not_write_to_one_folder(world):
    with records.locked(world.results):
        outcome = run(world)
    assert isinstance(outcome.exception, UserError)
    assert "--results OTHER_DIR" in str(outcome.exception)


def test_python_runs_the_same_also_where_an_event_loop_runs_already(world):
    async def notebook() -> list:
        return bench.run(
            datasets=["tiny"],
            protocols=["quick-hard"],
            methods=["first"],
            ipcs=[2],
            replicates=1,
            plugins=world.plugins,
            results=world.results,
            store=world.root / "store",
        )

    (record,) = asyncio.run(notebook())
    assert record.status == "ok"
    assert [line["id"] for line in world.lines()] == [record.id]
    assert "1 done" in run(world, "--replicates=1", methods=("first",)).output
