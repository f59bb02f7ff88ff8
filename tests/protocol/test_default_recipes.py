"""A protocol that has no entry for a data set says so: before a run, in every record, above every table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.plugins.registry import discover
from bench.protocol import definition
from bench.protocol.definition import default_recipes
from bench.records.files import load
from bench.reports.leaderboard.by_protocol import by_protocol, render_across
from bench.reports.leaderboard.page import render
from bench.reports.leaderboard.rows import leaderboard
from tests.worlds.plugins import write
from tests.worlds.run import DATASET, LOG

REGISTRY = discover()
# Data sets that protocols of the literature have no recipe for, and why: their results are unofficial, by intention.
ON_PURPOSE = {
    "mnist": "no paper on soft labels or on ImageNet's scale uses it",
    "fashion-mnist": "as mnist; DC's and DSA's evaluation is a protocol of its own",
    "svhn": "as mnist",
    "imagefolder": "no paper has a recipe for a stranger's photographs",
}
FOR_ALL = {
    "small-soft-v1": "depends on the number of images alone",
    "small-hard-v1": "as small-soft-v1",
} | dict.fromkeys(
    [
        "small-learned-v1",
        "small-learned-mse-v1",
        "continual-5-v1",
        "continual-10-v1",
        "slimming-v1",
        "small-hard-unbalanced-v1",
    ],
    "as small-hard-v1",
)
OF_CIFAR = {"slimming-v2": "its network is one for 32 px"}  # and of no larger photographs
PHOTOGRAPHS = {"tiny-imagenet", "imagenette", "imagewoof", "imagenet-10", "imagenet-100", "imagenet-1k"}
OF_SMALL_SETS = {  # what has an entry there all the same, and why
    "dc-v1": {"fashion-mnist": "DC evaluates it", "svhn": "DC evaluates it"},  # MNIST it evaluates with an augmentation
    "dsa-learned-v1": dict.fromkeys(["mnist", "fashion-mnist", "svhn"], "as dsa-v1"),
    "dsa-v1": dict.fromkeys(["mnist", "fashion-mnist", "svhn"], "DSA evaluates it"),
}


@pytest.mark.parametrize("protocol", REGISTRY.protocol_names())
def test_every_shipped_data_set_has_an_entry_or_none_on_purpose(protocol: str) -> None:
    fixed = definition.load(REGISTRY, protocol)
    without = {name for name in REGISTRY.names("dataset") if not fixed.has_entry(name)}
    on_purpose = ON_PURPOSE.keys() - OF_SMALL_SETS.get(protocol, {}).keys()
    on_purpose |= PHOTOGRAPHS if protocol in OF_CIFAR else set()
    assert without == (set() if protocol in FOR_ALL else on_purpose)


def test_an_entry_is_found_by_the_name_whatever_the_parameters() -> None:
    fixed = definition.load(REGISTRY, "sre2l-v1")
    assert fixed.has_entry("glyphs:classes=1000")
    assert fixed.has_entry("tiny-imagenet")
    assert not fixed.has_entry("tiny_imagenet")
    assert not fixed.has_entry("cifar10h")


@pytest.mark.parametrize(
    ("dataset", "near"),
    [
        ("tiny_imagenet", "tiny-imagenet"),
        ("imagenet1k:size=64", "imagenet-1k"),
        ("CIFAR-10", "cifar10"),
        ("birds", None),
    ],
)
def test_a_near_name_is_told_the_entry_that_was_probably_meant(dataset: str, near: str | None) -> None:
    (note,) = default_recipes(REGISTRY, [("sre2l-v1", dataset), ("rded-v1", dataset), ("small-hard-v1", dataset)])
    assert note.startswith(f"default recipe: sre2l-v1, rded-v1 has no entry for the data set '{dataset}'.")
    assert (f"Did you mean '{near}'?" in note) == (near is not None)
    assert "unofficial" in note


def test_a_set_with_an_entry_is_no_matter_for_a_note() -> None:
    assert default_recipes(REGISTRY, [("sre2l-v1", "cifar10"), ("small-soft-v1", "anything")]) == []


@pytest.mark.trains
@pytest.mark.usefixtures("ray_for_all")
def test_it_is_said_before_the_run_and_stands_in_the_record_and_above_the_tables(tmp_path: Path) -> None:
    log = LOG.format(log=str(tmp_path / "log.txt"))
    other = write(tmp_path / "other.py", log + DATASET)
    plain = definition.load(REGISTRY, "small-hard-v1").path.read_text()
    lines = [line for line in plain.splitlines() if not line.startswith("batch = ")]
    at = lines.index("[recipe]")
    by = ["[recipe.batch]", 'by = "dataset"', "digits = 10", "default = 5", ""]
    end = next(index for index in range(at + 1, len(lines)) if lines[index].startswith("["))
    own = write(tmp_path / "own-v1.toml", "\n".join([*lines[:end], *by, *lines[end:]]))
    plugins = ["--plugin", str(other), "--plugin", str(own)]
    ran = CliRunner().invoke(
        cli,
        [
            "run", *plugins, "--protocol", "own-v1:scale=0.01", "--dataset", "other", "--method", "random", "--ipc=1",
            "--replicates", "1", "--jobs", "1", "--results", str(tmp_path / "out"), "--store", str(tmp_path / "store"),
        ],
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    said = "default recipe: own-v1:scale=0.01 has no entry for the data set 'other'."
    assert ran.output.index(said) < ran.output.index("1 trials:")
    (line,) = map(json.loads, (tmp_path / "out" / "records.jsonl").read_text().splitlines())
    assert line["default_recipe"] is True
    records = load(tmp_path / "out").records
    frame = leaderboard(records)
    assert frame.default_recipe.all()
    assert not frame.official.any()
    assert render(frame).startswith("default recipe: other, own-v1:scale=0.01")
    assert "default recipe: the protocol has no entry" in render(frame)
    assert "(hard labels, default recipe)" in render_across(by_protocol(records), "md")
    checked = CliRunner().invoke(cli, ["check", "records", str(tmp_path / "out"), *plugins])
    assert "has no entry for the data set 'other' (default recipe)" in checked.output.replace("\n", " ")


@pytest.mark.trains
def test_lines_of_earlier_versions_say_nothing_and_stay_as_they_were() -> None:
    kept = Path(__file__).parents[2] / "results" / "recipes"
    records = load(kept).records
    assert {record.default_recipe for record in records} == {None}
    assert not leaderboard(records).default_recipe.any()
