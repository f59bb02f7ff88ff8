"""The leaderboard: what a row says, what is never compared, and how the tables look.

The expected tables lie in tests/expected; after a wanted change write them anew with `python
tests/reports/test_leaderboard.py` and look at them.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats as scipy_stats

import bench
from bench.cli import cli
from bench.errors import UserError
from bench.records.files import Record, append
from bench.reports.leaderboard.columns import COLUMNS, LeaderboardColumn
from bench.reports.leaderboard.entries import REFERENCE_METHOD
from bench.reports.leaderboard.page import render
from bench.reports.leaderboard.rows import leaderboard
from bench.stats.significance import holm
from tests.worlds import ROOT
from tests.worlds.records import cell, made_by, record

EXPECTED = ROOT / "tests" / "expected"
SCORE = "score:alpha=5.0,beta=1.0,normaliser=running,order=round_robin"
COMPRESSED = {"total": 749_000, "shared": 64, "blobs": 723_936, "views": 25_000}


def story() -> list[Record]:
    """A hard protocol and a soft one, in which one compressor fails with one method and one budget is too small."""
    records = []
    for seed, (method, mean) in enumerate({"random": 0.412, "herding": 0.405, SCORE: 0.468, "rded": 0.466}.items()):
        records += cell(mean, seed=seed, method=method)
        records += cell(
            mean - 0.1, seed=seed, method=method, compressor=None, protocol="small-hard-v1", dataset="digits"
        )
        budget = {"compressor": "rpca", "budget": "30x"}
        if method == "herding":
            records += [record(None, method=method, replicate=r, status="infeasible", **budget) for r in range(3)]
        else:
            records += cell(mean - 0.03, seed=seed + 9, method=method, bytes_labels=COMPRESSED, **budget)
    records += cell(0.45, seed=20, method="rded", compressor="svd", budget="30x", bytes_labels=COMPRESSED)[:2]
    records += [record(None, method="rded", replicate=2, compressor="svd", budget="30x", status="failed")]
    records += [
        record(None, method="random", replicate=r, compressor="svd", budget="30x", status="failed") for r in (0, 1)
    ]
    return records


def row(frame: pd.DataFrame, **where: object) -> pd.Series:
    for key, value in where.items():
        frame = frame[frame[key] == value]
    assert len(frame) == 1, f"{len(frame)} rows for {where}"
    return frame.iloc[0]


def test_a_row_holds_what_a_naive_calculation_gives() -> None:
    ours, reference = cell(0.468, seed=1, method=SCORE), cell(0.412, seed=2)
    found = row(leaderboard(ours + reference), method=SCORE)
    a, b = np.array([r.accuracy for r in ours]), np.array([r.accuracy for r in reference])
    t = scipy_stats.t.ppf(0.975, 2)
    assert found["n"] == 3
    assert found["mean"] == pytest.approx(a.mean())
    assert found["std"] == pytest.approx(a.std(ddof=1))
    assert found["ci95"] == pytest.approx(t * a.std(ddof=1) / 3**0.5)
    assert found["delta_random"] == pytest.approx((a - b).mean())
    assert found["delta_random_ci95"] == pytest.approx(t * (a - b).std(ddof=1) / 3**0.5)
    assert found["bytes_images"] == 3_123_456
    assert found["bytes_labels"] == 22_500_000
    assert found["bpc"] == 8 * (3_123_456 + 22_500_000) / 100
    assert found["seconds"] == pytest.approx(3.3)
    assert (found["rank"], found["status"], found["protocol_digest"]) == ("1", "ok", made_by()["protocol"])


def test_the_order_of_records_does_not_matter() -> None:
    records = story()
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    for format in ("text", "json"):
        assert render(leaderboard(shuffled), format) == render(leaderboard(records), format)


def test_the_difference_pairs_only_within_a_cell() -> None:
    frame = leaderboard(
        cell(0.4, compressor="none")
        + cell(0.5, method="rded", compressor="none")
        + cell(0.5, method="rded", compressor="rpca", budget="30x")
        + cell(0.3, compressor="rpca", budget="10x")
    )
    assert row(frame, method="rded", compressor="none")["delta_random"] == pytest.approx(0.1, abs=1e-6)
    assert math.isnan(row(frame, method="rded", compressor="rpca")["delta_random"])


def test_a_reference_with_parameters_is_another_method() -> None:
    frame = leaderboard(cell(0.4, method=f"{REFERENCE_METHOD}:balanced=False") + cell(0.5, method="rded"))
    assert frame["delta_random"].isna().all()


@pytest.mark.parametrize("part", ["protocol", "dataset", "teacher", "engine", "network"])
def test_no_table_no_rank_and_no_difference_spans_two_digests(part: str) -> None:
    other = made_by(**{part: "0" * 64})
    frame = leaderboard(cell(0.4) + cell(0.5, method="rded", made_by=other))
    assert list(frame["rank"]) == ["1", "1"]
    assert frame["delta_random"].isna().all()
    assert frame["fixed_digest"].nunique() == 2
    headings = [line for line in render(frame, "md").splitlines() if line.startswith("#")]
    assert len(set(headings)) == 2


@pytest.mark.parametrize("regime", ["hard", "online"])
def test_no_table_no_rank_and_no_difference_spans_two_label_regimes(regime: str) -> None:
    frame = leaderboard(cell(0.4, labels="stored") + cell(0.5, method="rded", labels=regime))
    assert list(frame["rank"]) == ["1", "1"]
    assert frame["delta_random"].isna().all()
    assert sorted(frame["labels"]) == sorted(["stored", regime])
    headings = [line for line in render(frame).splitlines() if "ipc 10" in line]
    assert len(headings) == 2
    assert sum(f"{regime} labels" in heading for heading in headings) == 1


def test_without_a_stated_regime_labels_are_stored_where_there_is_a_compressor() -> None:
    frame = leaderboard(cell(0.4) + cell(0.4, method="rded", compressor=None))
    assert dict(zip(frame["method"], frame["labels"], strict=True)) == {"random": "stored", "rded": "hard"}


def test_the_test_against_random_is_scipys_and_corrected_over_the_whole_table() -> None:
    frame = leaderboard(story())
    table = frame[frame["protocol"] == "small-soft-v1"]
    a, b = (row(table, method=m, compressor="none") for m in ("rded", "random"))
    accuracies = {
        method: [r.accuracy for r in story() if r.trial["method"] == method and r.trial["compressor"] == "none"]
        for method in ("rded", "random")
    }
    expected = scipy_stats.ttest_rel(accuracies["rded"], accuracies["random"]).pvalue
    assert a["p_random"] == pytest.approx(expected)
    assert math.isnan(b["p_random"])
    known = table["p_random"].dropna()
    assert len(known) == 5
    assert list(table["p_random_holm"][known.index]) == pytest.approx(list(holm(known)))
    assert (table["p_random_holm"][known.index] >= known).all()


def test_a_rank_comes_with_the_ranks_that_the_replicates_leave_open() -> None:
    frame = leaderboard(story())
    hard = frame[frame["protocol"] == "small-hard-v1"]
    assert list(zip(hard["rank"], hard["rank_low"], hard["rank_high"], strict=True)) == [
        ("1=", 1, 2), ("1=", 1, 2), ("3", 3, 3), ("4", 4, 4),
    ]  # fmt: skip
    assert pd.isna(row(frame, method="herding", compressor="rpca")["rank_low"])
    assert "1= [1-2]" in render(frame)


@pytest.mark.parametrize(
    ("protocol", "released", "official"),
    [
        ("small-soft-v1", None, True),
        ("small-soft-v1:scale=0.1", None, False),
        ("small-soft-v1", {"small-soft-v1": made_by()["protocol"]}, True),
        ("small-soft-v1", {"small-soft-v1": "0" * 64}, False),
        ("small-soft-v1", {}, False),
    ],
)
def test_a_table_of_a_protocol_that_was_not_released_is_headed_unofficial(protocol, released, official) -> None:
    frame = leaderboard(cell(0.4, protocol=protocol), released)
    assert list(frame["official"]) == [official]
    text = render(frame)
    assert text.startswith("unofficial: ") != official
    assert ("unofficial: the protocol is no released" in text) != official


def test_the_smallest_resolvable_difference_is_told_with_and_without_correction() -> None:
    text = render(leaderboard(cell(0.4) + cell(0.5, seed=1, method="rded") + cell(0.5, seed=2, method="el2n")))
    found = re.search(r"from ([\d.]+) points on .*; from ([\d.]+) points on with Holm's correction for 2", text)
    assert found is not None
    assert float(found[1]) < float(found[2])


def test_records_of_an_edited_method_get_their_own_row() -> None:
    old, new = cell(0.5, method="rded"), cell(0.6, method="rded", made_by=made_by(method="0" * 64))
    frame = leaderboard([*old[:1], *new[1:]])
    assert sorted(frame["n"]) == [1, 2]
    assert frame["fixed_digest"].nunique() == 1


def test_an_entry_that_lacks_digests_joins_the_table_that_it_fits() -> None:
    no_teacher = {**made_by(), "teacher": None}
    early = record(None, method="el2n", status="failed", made_by={})
    frame = leaderboard([*cell(0.4, made_by=no_teacher), *cell(0.5, method="rded"), early])
    assert frame["fixed_digest"].nunique() == 1
    assert row(frame, method="rded")["delta_random"] == pytest.approx(0.1, abs=1e-6)
    assert row(frame, method="el2n")["status"] == "failed"


def test_the_best_of_a_budget_is_sought_across_compressors() -> None:
    frame = leaderboard(
        cell(0.5, seed=1, method="rded", compressor="rpca", budget="30x")
        + cell(0.4, seed=2, method="rded", compressor="svd", budget="30x")
        + cell(0.6, seed=3, method="rded")
    )
    assert list(zip(frame["compressor"], frame["rank"], frame["best"], strict=True)) == [
        ("none", "1", True),
        ("rpca", "1", True),
        ("svd", "1", False),
    ]


def test_what_has_no_result_stays_visible() -> None:
    frame = leaderboard(story())
    infeasible = row(frame, method="herding", compressor="rpca")
    assert (infeasible["status"], infeasible["n"], infeasible["smallest_bytes"]) == ("infeasible", 0, 220)
    assert pd.isna(infeasible["rank"])
    partial = row(frame, method="rded", compressor="svd")
    assert (partial["status"], partial["n"]) == ("partial", 2)
    assert row(frame, method="random", compressor="svd")["status"] == "failed"
    text = render(frame)
    assert "infeasible, ≥ 220 B" in text
    assert "failed" in text
    assert "(partial)" in text


def test_of_several_records_of_a_trial_the_last_counts() -> None:
    frame = leaderboard([*cell(0.1), *cell(0.9)])
    assert (frame["n"].item(), round(frame["mean"].item(), 6)) == (3, 0.9)


def test_one_replicate_gives_ties_and_no_interval() -> None:
    frame = leaderboard([*cell(0.4, n=1), *cell(0.9, n=1, method="rded")])
    assert list(frame["rank"]) == ["1=", "1="]
    assert frame[["std", "ci95", "delta_random_ci95"]].isna().all(axis=None)
    text = render(frame)
    assert "--replicates 3" in text
    assert "nan" not in text
    assert "± 0.0" not in text


def test_tables_come_in_order_of_their_numbers() -> None:
    frame = leaderboard(
        [
            record(0.5, ipc=i, dataset=f"glyphs:classes={c}", student=s)
            for c in (100, 20)
            for i in (50, 1, 10)
            for s in "ba"
        ]
        + [record(0.5, compressor="svd", budget=b, dataset="digits") for b in ("500B", "100x", "30x", "20000B", None)]
    )
    assert list(frame["budget"])[:5] == [None, "30x", "100x", "20000B", "500B"]
    keys = list(frame[["dataset", "ipc", "student"]].itertuples(index=False, name=None))[5:]
    assert keys == [(f"glyphs:classes={c}", i, s) for c in (20, 100) for i in (1, 10, 50) for s in "ab"]


def test_json_is_a_list_of_objects_with_stable_keys_and_null_for_missing() -> None:
    frame = leaderboard(story())
    rows = json.loads(render(frame, "json"))
    assert len(rows) == len(frame)
    assert all(list(each) == list(COLUMNS) for each in rows)
    hard = next(each for each in rows if each["protocol"] == "small-hard-v1" and each["method"] == SCORE)
    assert hard["compressor"] is hard["budget"] is hard["bytes_labels"] is hard["smallest_bytes"] is None
    assert hard["mean"] == frame["mean"][(frame["protocol"] == "small-hard-v1") & (frame["method"] == SCORE)].item()
    assert isinstance(hard["bytes_images"], int)
    assert json.loads(render(leaderboard([]), "json")) == []


def test_csv_holds_raw_numbers() -> None:
    frame = leaderboard(story())
    rows = list(csv.DictReader(io.StringIO(render(frame, "csv"))))
    assert list(rows[0]) == list(COLUMNS)
    assert [each["bytes_images"] for each in rows[:1]] == ["3123456"]
    assert [float(each["mean"]) if each["mean"] else None for each in rows] == [
        None if math.isnan(mean) else mean for mean in frame["mean"]
    ]
    assert render(leaderboard([]), "csv").strip() == ",".join(COLUMNS)


def test_a_column_that_is_declared_once_stands_in_every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    column = LeaderboardColumn(
        "steps", "Int64", "updates", "{:,}".format, unit="k", place=4.5,
        value=lambda standing: standing.results[0].steps if standing.results else None,
    )  # fmt: skip
    monkeypatch.setitem(COLUMNS, column.key, column)
    frame = leaderboard(story())
    assert frame["steps"].dropna().eq(5000).all()
    assert [each["steps"] for each in json.loads(render(frame, "json"))].count(5000) == frame["n"].gt(0).sum()
    assert [each["steps"] for each in csv.DictReader(io.StringIO(render(frame, "csv")))].count("") == 2
    for format in ("text", "md", "latex"):
        text = render(frame, format)
        for heading in re.findall(r"^.*\bmethod\b.*\baccuracy\b.*$", text, re.MULTILINE):
            assert re.search(r"\bstd\b.*\bupdates k\b.*\bn\b", heading)
        assert text.count("5,000") == frame["n"].gt(0).sum()


@pytest.mark.parametrize(("format", "ending"), [("text", "txt"), ("md", "md"), ("latex", "tex")])
def test_tables_look_as_expected(format: str, ending: str) -> None:
    assert render(leaderboard(story()), format) == (EXPECTED / f"leaderboard.{ending}").read_text()


def test_text_fits_into_150_columns() -> None:
    assert max(map(len, render(leaderboard(story())).splitlines())) <= 150


def test_no_records_and_unknown_formats_say_what_to_type() -> None:
    assert "condensebench run" in render(leaderboard([]))
    with pytest.raises(UserError, match=r"xml.*text, md, csv, latex, json.*--format md"):
        render(leaderboard([]), "xml")


def test_the_public_call_works_whatever_was_imported_before() -> None:
    for _ in range(2):
        assert list(bench.leaderboard(story()).columns) == list(COLUMNS)


if __name__ == "__main__":
    for format, ending in (("text", "txt"), ("md", "md"), ("latex", "tex")):
        (EXPECTED / f"leaderboard.{ending}").write_text(render(leaderboard(story()), format))


def test_an_edited_line_is_told_and_left_out(tmp_path: Path) -> None:
    for replicate in range(2):
        append(tmp_path / "records.jsonl", record(0.5, replicate=replicate))
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    lines[1] = lines[1].replace('"accuracy":0.5', '"accuracy":0.9')
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    result = CliRunner().invoke(cli, ["leaderboard", "--results", str(tmp_path)])
    assert result.exit_code == 1
    assert "records.jsonl" in result.stderr
    assert "50.0" in result.stdout
    assert "90.0" not in result.stdout


def test_what_a_compressor_mended_is_told_below_the_table() -> None:
    mended = {"values": 10_000, "rows": 2_000}  # of 1,000 images with 100 views, 100 classes
    records = cell(0.4, compressor="svd:domain=probabilities", budget="30x", invalid_labels=mended)
    records += cell(0.5, compressor="svd", budget="30x", invalid_labels={"values": 0, "rows": 0}) + cell(0.6)
    frame = leaderboard(records)
    text = " ".join(render(frame, "text").split())
    assert "rows that did not sum to one, in svd:domain=probabilities@30x 0.001 and 0.02." in text
    assert frame.set_index("compressor").invalid_values.to_dict() == pytest.approx(
        {"svd:domain=probabilities": 0.001, "svd": 0.0, "none": float("nan")}, nan_ok=True
    )
