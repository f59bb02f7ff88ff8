"""A run with plugins that misbehave: the records of the others are what they are without them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import cli
from bench.errors import MachineError
from tests.worlds.planted import COMPRESSOR
from tests.worlds.run import FIRST, World, make_world, raising

pytestmark = pytest.mark.usefixtures("ray_for_all")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def run(world: World, *more: str, **options) -> Result:
    return CliRunner().invoke(cli, world.flags("--replicates=1", *more, **options))


def by_method(world: World) -> dict[str, dict]:
    return {line["trial"]["method"]: line for line in world.lines()}


def doing(line: str) -> str:
    """A method that does something and then picks as `first` does."""
    return FIRST.replace('log("method first")', f'log("method first")\n    {line}')


def test_a_method_changes_no_other_record_and_is_told_by_name(world):
    world.add("patches.py", doing("import bench.stages.condense as s; s.image_bytes = lambda *_: 1"))
    world.add("dtype.py", doing("import torch; torch.set_default_dtype(torch.float64)"))
    world.add("loops.py", raising("import time; [time.sleep(0.1) for _ in range(900)]"))
    world.add("exits.py", raising("os._exit(0)"))
    world.add("peeks.py", doing("from protocols.datasets import digits"))
    methods = ("patches", "dtype", "loops", "exits", "peeks", "first", "herding")

    outcome = run(world, "--stage-timeout=5", methods=methods)

    lines = by_method(world)
    assert outcome.exit_code == 1
    assert {name: line["status"] for name, line in lines.items()} == {
        **dict.fromkeys(("patches", "dtype", "peeks", "first", "herding"), "ok"),
        **dict.fromkeys(("loops", "exits"), "failed"),
    }
    assert lines["patches"]["bytes_images"] == lines["first"]["bytes_images"] > 100
    assert (lines["loops"]["error"]["type"], lines["exits"]["error"]["type"]) == ("timeout", "died")
    assert "exit code 0" in lines["exits"]["error"]["message"]
    assert any(note.startswith("data: imported protocols.datasets") for note in lines["peeks"]["conduct"]["method"])
    assert lines["first"]["conduct"] == {"method": []}
    assert lines["first"]["limits"] == "5 s, 256 processes, 80 % of memory"
    assert lines["first"]["accuracy"] == lines["patches"]["accuracy"]


def test_a_compressor_that_a_plugin_gives_runs_where_no_student_does(world):
    patched = "import bench.training.loop as loop\n\nloop.evaluate = None\n\n\ndef encode(labels"
    world.add("mine.py", COMPRESSOR.replace("def encode(labels", patched))
    outcome = run(world, "--compressor=mine", "--budget=20kB", methods=("first",), protocol="quick-soft")
    assert outcome.exit_code == 0, outcome.output
    (line,) = world.lines()
    assert line["conduct"] == {"method": [], "compressor": []}
    assert line["bytes_labels"]["total"] <= 20_000
    again = run(world, methods=("first",))  # the same workers: loop.evaluate is whole
    assert again.exit_code == 0, again.output


def test_a_condensed_set_that_somebody_edits_is_made_again(world):
    condensed = "glob.glob(str(ctx.scratch / '../../condensed/*.safe*'))"
    edit = f"import glob; [open(path, 'r+b').write(b'x' * 8) for path in {condensed}]"
    assert run(world, methods=("first",)).exit_code == 0
    world.add("edits.py", doing(edit))

    outcome = run(world, "--rerun=all", methods=("edits", "first"))

    assert outcome.exit_code == 0, outcome.output
    lines = world.lines()
    assert [line["status"] for line in lines] == ["ok"] * 3
    accuracies = {line["accuracy"] for line in lines if line["trial"]["method"] == "first"}
    assert len(accuracies) == 1
    assert any(
        note.startswith("write: changed store/condensed/") for note in by_method(world)["edits"]["conduct"]["method"]
    )


def test_a_method_that_writes_to_the_results_is_noticed(world):
    world.results.mkdir()
    world.add("plants.py", doing(f"open({str(world.results / 'more.jsonl')!r}, 'a').write(chr(10))"))
    outcome = run(world, methods=("plants",))
    assert isinstance(outcome.exception, MachineError)
    assert "more.jsonl was written by something else than this run" in str(outcome.exception)
