"""Published numbers beside records: the difference, its interval by scipy, and a page that tells what is missing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from scipy import stats

from bench.cli import cli
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.records.files import append
from bench.reports.published.published_file import read_published
from bench.reports.published.published_rows import compare
from bench.stats.intervals import Summary, summary, unpaired
from bench.trials.plan import read_plan
from tests.worlds import ROOT
from tests.worlds.records import record

FILE = """
title = "Digits against a table"
plan = "plan.toml"
[source.paper]
text = "A paper, table 1"
read = false
[[number]]
name = "Random"
source = "paper"
dataset = "digits"
protocol = "dc-v1"
method = "random"
ipc = 1
mean = 51.4
std = 3.8
[[number]]
name = "Herding"
source = "paper"
dataset = "digits"
protocol = "dc-v1"
method = "herding"
ipc = 1
mean = 67.0
std = 1.9
[[explanation]]
name = "Herding"
method = "herding:unit_norm=true"
protocol = "dc-v1"
ipcs = [1]
says = "scaled features"
[difference]
Herding = "other features"
"""
PLAN = """
[[grid]]
datasets = ["digits"]
protocols = ["dc-v1"]
methods = ["random", "herding", "herding:unit_norm=true"]
ipcs = [1]
replicates = 3
"""
REGISTRY = discover()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "published.toml").write_text(FILE)
    return tmp_path / "published.toml"


def lines(method: str, *accuracies: float) -> list:
    place = {"dataset": "digits", "protocol": "dc-v1", "ipc": 1, "compressor": None, "student": "dc_convnet:width=16"}
    return [record(a, method=method, replicate=r, **place) for r, a in enumerate(accuracies)]


def show(file: Path, *options: str) -> str:
    result = CliRunner().invoke(cli, ["published", str(file), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def write(file: Path, *records) -> None:
    for each in records:
        append(file.parent / "records.jsonl", each)


# --- the figures ------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_difference_is_welch_s() -> None:
    here = [52.0, 49.5, 55.1, 50.2]
    half = unpaired(summary(here), Summary(5, 51.4, 3.8, math.nan))
    mean, std = sum(here) / 4, summary(here).std
    test = stats.ttest_ind_from_stats(mean, std, 4, 51.4, 3.8, 5, equal_var=False)
    # The difference at which the test is just significant is the half width of the interval.
    edge = stats.ttest_ind_from_stats(51.4 + half, std, 4, 51.4, 3.8, 5, equal_var=False)
    assert edge.pvalue == pytest.approx(0.05, rel=1e-6)
    assert (abs(mean - 51.4) <= half) == (test.pvalue >= 0.05)
    assert math.isnan(unpaired(summary([1.0]), Summary(5, 1, 1, 1)))
    assert math.isnan(unpaired(Summary(3, 1, 0, 0), Summary(5, 1, 0, 0)))


def test_a_number_is_inside_or_outside_and_says_nothing_of_too_few(file: Path) -> None:
    planned = read_plan(file.parent / "plan.toml").trials(REGISTRY)
    published = read_published(file, REGISTRY)
    records = [*lines("random", 0.50, 0.53, 0.52), *lines("herding", 0.60, 0.61, 0.60)]
    (random, herding), (tried,) = compare(published, records, planned)
    assert (random.verdict, herding.verdict) == ("inside", "outside")
    assert random.difference == pytest.approx(51.6667 - 51.4, abs=1e-3)
    assert herding.difference == pytest.approx(60.3333 - 67.0, abs=1e-3)
    assert (random.here.planned, tried.here.planned) == (3, 3)
    few, none = compare(published, lines("random", 0.5), planned)[0]
    assert (few.verdict, none.verdict) == ("too few", "not run")


def test_an_explanation_is_paired_with_the_row_that_it_may_explain(file: Path) -> None:
    published = read_published(file, REGISTRY)
    records = [*lines("herding", 0.60, 0.62), *lines("herding:unit_norm=true", 0.65, 0.66)]
    _, (tried,) = compare(published, records, [])
    assert tried.change.mean == pytest.approx(4.5)
    assert tried.change.n == 2


def test_the_last_line_of_a_trial_counts_and_other_cells_do_not(file: Path) -> None:
    published = read_published(file, REGISTRY)
    elsewhere = record(0.9, dataset="digits", protocol="dsa-v1", ipc=1, compressor=None, student="dc_convnet:width=16")
    (random, _), _ = compare(published, [*lines("random", 0.1), elsewhere, *lines("random", 0.5)], [])
    assert dict(random.here.accuracies) == {0: 50.0}


def test_an_explanation_of_another_teacher_explains_nothing(file: Path) -> None:
    (other,) = lines("herding:unit_norm=true", 0.65)
    other = other.model_copy(update={"made_by": {**other.made_by, "teacher": "ab" * 32}})
    with pytest.raises(UserError, match="has records of teacher 'abababab', herding under dc-v1 of"):
        compare(read_published(file, REGISTRY), [*lines("herding", 0.60), other], [])


def test_a_record_that_used_no_teacher_is_compared_with_any(file: Path) -> None:
    """Former records name the teacher of the protocol, also where random images needed none."""
    (other,) = lines("herding:unit_norm=true", 0.65)
    other = other.model_copy(update={"made_by": {**other.made_by, "teacher": None}})
    _, (tried,) = compare(read_published(file, REGISTRY), [*lines("herding", 0.60), other], [])
    assert tried.change.mean == pytest.approx(5.0)


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [{"student": "resnet:width=16"}, {"compressor": "klt"}, {"budget": "30x"}])
def test_a_number_is_not_held_to_students_of_two_kinds(file: Path, other: dict[str, str]) -> None:
    """Which of them counted was the order of the lines."""
    kinds = [record(0.5 + 0.1 * n, dataset="digits", protocol="dc-v1", method="random", ipc=1, replicate=n, **changed)
             for n, changed in enumerate(({}, other))]  # fmt: skip
    write(file, *kinds)
    result = CliRunner().invoke(cli, ["published", str(file), "--results", str(file.parent)])
    assert result.exit_code != 0
    assert "a published number is held to one of them" in str(result.exception)
    assert next(iter(other.values())) in str(result.exception)


@pytest.mark.parametrize("name", ["teacher", "dataset", "protocol", "network"])
def test_nor_to_replicates_of_two_teachers(file: Path, name: str) -> None:
    """A run that another machine went on with had trained a teacher of its own there."""
    first, second = lines("random", 0.5, 0.6)
    other = second.model_copy(update={"made_by": {**second.made_by, name: "ab" * 32}})
    published = read_published(file, REGISTRY)
    with pytest.raises(UserError, match=f"records of {name} '.*' and of 'abababab'; a published number is held to one"):
        compare(published, [first, other], [])


def test_the_page_says_what_is_missing_and_how_to_go_on(file: Path) -> None:
    empty = show(file)
    assert "Of 2 numbers 2 not run" in empty
    assert "0 of 9 planned trials" in empty
    assert f"condensebench run --plan {file.parent / 'plan.toml'} --results {file.parent}" in empty
    write(file, *lines("random", 0.50, 0.53, 0.52), *lines("herding", 0.60, 0.61, 0.60))
    part = show(file)
    assert "Of 2 numbers 1 inside, 1 outside" in part
    assert "6 of 9 planned trials" in part
    assert "**Herding** (outside at ipc 1): other features" in part
    assert "51.4 ± 3.8" in part
    assert "51.7 ± 1.5" in part
    write(file, *lines("herding:unit_norm=true", 0.65, 0.66, 0.65))
    whole = show(file)
    assert "All 9 planned trials" in whole
    assert "condensebench run" not in whole
    assert "scaled features" in whole


def test_the_page_is_written_and_names_the_command_that_made_it(file: Path) -> None:
    page = file.parent / "page.md"
    assert f"page: {page}" in show(file, "--out", str(page))
    assert f"Generated by `condensebench published {file} --out {page}`" in page.read_text()


def test_an_edited_line_is_told_and_left_out(file: Path) -> None:
    write(file, *lines("random", 0.5, 0.6))
    records = file.parent / "records.jsonl"
    first, second = records.read_text().splitlines()
    records.write_text(json.dumps({**json.loads(first), "accuracy": 0.99}) + "\n" + second + "\n")
    result = CliRunner().invoke(cli, ["published", str(file)])
    assert result.exit_code == 1
    assert "1 of 3" in result.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('source = "paper"', 'source = "papre"', "No source is named 'papre'. Did you mean 'paper'"),
        ('Herding = "other', 'Hreding = "other', "No number is named 'Hreding'. Did you mean 'Herding'"),
        ("mean = 51.4", "mean = 514", "mean: Input should be less than 100"),
        ("std = 3.8", "spread = 3.8", "spread: Extra inputs"),
        ('method = "random"', 'method = "radnom"', "No method is named 'radnom'. Did you mean 'random'"),
        ('name = "Random"', 'name = "Herding"', "two numbers are 'Herding' under dc-v1 at ipc 1"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(file: Path, old: str, new: str, message: str) -> None:
    file.write_text(FILE.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_published(file, REGISTRY)


def test_a_file_that_is_not_there_and_records_that_are_not() -> None:
    with pytest.raises(UserError, match="there is no such file of published numbers"):
        read_published("nowhere.toml", REGISTRY)
    result = CliRunner().invoke(
        cli, ["published", str(ROOT / "results/fashion/published.toml"), "--results", "nowhere"]
    )
    assert "no records at nowhere" in str(result.exception)


# --- the project's own ------------------------------------------------------------------------------------------------


def test_the_committed_page_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    committed = (ROOT / "results/fashion/README.md").read_text(encoding="utf-8")
    printed = show(Path("results/fashion/published.toml"))
    assert printed.replace("published.toml`", "published.toml --out results/fashion/README.md`", 1) == committed


def test_every_published_cell_is_planned() -> None:
    folder = ROOT / "results" / "fashion"
    published = read_published(folder / "published.toml", REGISTRY)
    rows, trialled = compare(published, [], read_plan(folder / published.plan).trials(REGISTRY))
    assert [row.number for row in rows if not row.here.planned] == []
    assert [each.explanation.method for each in trialled if not each.here.planned] == []
    coresets = [row for row in rows if row.number.source == "dc-coresets"]
    assert all(row.here.planned >= (3 if row.number.ipc == 50 else 5) for row in coresets)
