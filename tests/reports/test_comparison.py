"""`compare A B`: what is paired, what is never paired and why, and what a cell says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from scipy import stats as scipy_stats

from bench.cli import cli
from bench.errors import UserError
from bench.records.files import Record, append
from bench.reports.comparison import COLUMNS, compare, compare_entries
from bench.reports.comparison_text import render_comparison
from bench.stats.significance import holm
from tests.worlds.records import cell, made_by, record


def write(folder: Path, records: list[Record]) -> str:
    for each in records:
        append(folder / "records.jsonl", each)
    return str(folder)


def run(*arguments: str):
    return CliRunner().invoke(cli, ["compare", *arguments])


def test_a_cell_holds_what_scipy_gives() -> None:
    ours, theirs = cell(0.5, n=5, seed=1), cell(0.49, n=5, seed=2)
    found = compare(ours, theirs).cells.iloc[0]
    a, b = ([each.accuracy for each in records] for records in (ours, theirs))
    reference = scipy_stats.ttest_rel(a, b)
    low, high = reference.confidence_interval(0.95)
    assert list(compare(ours, theirs).cells.columns) == list(COLUMNS)
    assert (found["n"], found["result"]) == (5, "win")
    assert found["difference"] == pytest.approx((low + high) / 2)
    assert found["ci95"] == pytest.approx((high - low) / 2)
    assert found["p_t"] == pytest.approx(reference.pvalue)
    assert found["p_flip"] == found["p_flip_smallest"] == 0.0625
    assert found["mean_a"] - found["mean_b"] == pytest.approx(found["difference"])


def test_the_same_records_tie_with_themselves() -> None:
    records = cell(0.4) + cell(0.5, method="rded") + cell(0.5, method="rded", ipc=1)
    found = compare(records, records)
    assert (found.wins, found.ties, found.losses) == (0, 3, 0)
    assert set(found.cells["p_t"]) == set(found.cells["p_flip"]) == {1.0}
    assert found.difference == 0
    assert found.unpaired == []


def test_turning_a_and_b_turns_the_signs() -> None:
    a = cell(0.5, seed=1) + cell(0.5, seed=2, method="rded") + cell(0.3, seed=3, method="el2n")
    b = cell(0.4, seed=4) + cell(0.5, seed=5, method="rded") + cell(0.4, seed=6, method="el2n")
    one, other = compare(a, b), compare(b, a)
    assert list(one.cells["difference"]) == pytest.approx(list(-other.cells["difference"]))
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins) == (1, 1, 1)
    assert list(one.cells["p_t_holm"]) == pytest.approx(list(holm(one.cells["p_t"])))
    assert (one.sign.n, one.sign.p) == (3, 1.0)


@pytest.mark.parametrize("part", ["dataset", "teacher", "protocol", "engine", "network"])
def test_cells_whose_fixed_parts_differ_are_never_paired(part: str) -> None:
    changed = cell(0.5, made_by={**made_by(), part: "0" * 64})
    found = compare(cell(0.4), changed)
    assert found.cells.empty
    ((where, reason),) = found.unpaired
    assert "glyphs:classes=100" in where
    assert reason == f"never paired, made under other digests of: {part}"
    assert "no cell could be paired" in render_comparison(found)


def test_another_label_regime_is_another_cell() -> None:
    found = compare(cell(0.4, labels="stored"), cell(0.4, labels="online"), ("before", "after"))
    assert found.cells.empty
    assert [reason for _, reason in found.unpaired] == ["only before has it", "only after has it"]


def test_an_edited_method_is_compared_with_what_it_was() -> None:
    found = compare(cell(0.5, method="rded"), cell(0.4, method="rded", made_by=made_by(method="0" * 64)))
    assert found.wins == 1


def test_only_replicates_that_both_have_are_paired() -> None:
    found = compare(cell(0.5, n=5)[1:], cell(0.4, n=5)[:4])
    assert list(found.cells["n"]) == [3]
    apart = compare(cell(0.5, n=4)[:2], cell(0.4, n=4)[2:])
    assert apart.cells.empty
    assert "no replicate" in apart.unpaired[0][1]


def test_one_pair_is_a_tie_without_interval_or_t() -> None:
    found = compare(cell(0.9, n=1), cell(0.1, n=1)).cells.iloc[0]
    assert found["result"] == "tie"
    assert math.isnan(found["ci95"])
    assert math.isnan(found["p_t"])
    assert found["p_flip"] == found["p_flip_smallest"] == 1


def board() -> list[Record]:
    records = []
    for seed, (method, mean) in enumerate({"random": 0.40, "rded": 0.45}.items()):
        for ipc in (1, 10):
            records += cell(mean, seed=seed, method=method, ipc=ipc)
            for compressor, budget in (("svd", "10x"), ("svd", "30x"), ("rpca", "10x")):
                records += cell(mean - 0.05, seed=seed, method=method, ipc=ipc, compressor=compressor, budget=budget)
    return records


@pytest.mark.parametrize(
    ("a", "b", "cells"),
    [
        ("rded", "random", 8),  # every compressor and budget with itself
        ("rded/svd", "random", 4),  # each budget of svd with itself
        ("rded/svd@10x", "random", 2),  # the side that names none takes that of the other
        ("rded", "random/rpca@10x", 2),
        ("random/rpca@10x", "random/svd@10x", 2),
        ("random/none", "random/svd@10x", 2),
        ("rded/svd@10x", "random/svd@30x", 2),
    ],
)
def test_two_entries_are_paired_cell_by_cell(a: str, b: str, cells: int) -> None:
    found = compare_entries(board(), a, b)
    assert len(found.cells) == cells
    assert found.unpaired == []
    assert not found.cells.duplicated(["ipc", "compressor_a", "compressor_b"]).any()


def test_an_entry_that_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(UserError, match=r"'rdet'.*Did you mean 'rded'.*\n.*random, rded"):
        compare_entries(board(), "rdet", "random")
    with pytest.raises(UserError, match="Did you mean 'rded/svd@30x'"):
        compare_entries(board(), "rded/svd@31x", "random")


def test_the_table_names_the_tests_and_what_they_could_have_given() -> None:
    text = render_comparison(compare_entries(board(), "rded", "random"))
    assert "A = rded, B = random" in text
    assert "8 cells: A wins 8, ties 0, loses 0; mean difference +5.0 points" in text
    assert "sign test, exact" in text
    assert ".250" in text
    assert max(map(len, text.splitlines())) <= 150


@pytest.mark.parametrize("format", ["md", "latex"])
def test_the_other_tables_hold_the_same_figures(format: str) -> None:
    text = render_comparison(compare_entries(board(), "rded", "random"), format)
    assert "+5.0" in text
    assert "Holm" in text


def test_json_is_a_list_of_cells() -> None:
    rows = json.loads(render_comparison(compare_entries(board(), "rded", "random"), "json"))
    assert len(rows) == 8
    assert list(rows[0]) == list(COLUMNS)


def test_the_verb_compares_folders_and_entries(tmp_path: Path) -> None:
    before = write(tmp_path / "before", [*cell(0.4), record(0.5, method="only-here")])
    after = write(tmp_path / "after", cell(0.5, seed=1))
    result = run(before, after)
    assert result.exit_code == 0, result.output
    assert "A wins 0, ties 0, loses 1" in result.stdout
    assert f"only {before} has it" in " ".join(result.stdout.split())
    entries = run("rded", "random", "--results", write(tmp_path / "board", board()), "--format", "csv")
    assert entries.exit_code == 0
    assert len(entries.stdout.strip().splitlines()) == 9


def test_the_verb_tells_when_nothing_pairs_and_what_to_type(tmp_path: Path) -> None:
    before, after = write(tmp_path / "a", cell(0.4)), write(tmp_path / "b", cell(0.4, ipc=1))
    assert run(before, after).exit_code == 1
    missing = run("herding", "el2n")
    assert isinstance(missing.exception, UserError)
    assert "condensebench compare herding el2n --results DIR" in str(missing.exception)
