"""DD-Ranking's scores on values worked out by hand, and what records allow."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cli import cli
from bench.errors import UserError
from bench.records.files import Record, append
from bench.reports.ddranking import COLUMNS, ars, hlr, ior, lrs, scores
from tests.worlds.records import cell, made_by

fractions = st.floats(0, 1)
HARD = {"protocol": "small-hard-v1", "compressor": None}


def test_the_scores_of_a_worked_example() -> None:
    """Full data .565, condensed .30 with hard labels; condensed .42 and random .33 under one recipe."""
    assert hlr(0.565, 0.30) == pytest.approx(0.265)
    assert ior(0.42, 0.33) == pytest.approx(0.09)
    # alpha = .5 * .09 - .5 * .265 = -.0875; e^-.0875 = .916219; (.916219 - .367879) / (2.718282 - .367879)
    assert lrs(0.265, 0.09) == pytest.approx(0.233296, abs=1e-6)
    # beta = .5 * .09 + .5 * .01 = .05; e^.05 = 1.051271; (1.051271 - .367879) / 2.350402
    assert ars(0.09, 0.01) == pytest.approx(0.290755, abs=1e-6)
    # Only IOR counts: e^.09 = 1.094174; (1.094174 - .367879) / 2.350402
    assert lrs(0.265, 0.09, w=1) == pytest.approx(0.309009, abs=1e-6)


def test_the_scores_run_from_0_to_1() -> None:
    assert lrs(1, -1) == 0
    assert lrs(-1, 1) == pytest.approx(1)
    assert ars(-1, -1) == 0
    assert ars(1, 1) == pytest.approx(1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(fractions, fractions, fractions, fractions)
def test_a_better_set_scores_higher(real, first, second, random) -> None:
    worse, better = sorted([first, second])
    assert lrs(hlr(real, better), ior(better, random)) >= lrs(hlr(real, worse), ior(worse, random))


@pytest.mark.parametrize("call", [lambda: hlr(56.5, 0.3), lambda: ior(0.5, 42.0), lambda: lrs(26.5, 0.1)])
def test_percent_is_refused_with_the_value_to_type(call) -> None:
    with pytest.raises(UserError, match=r"fraction.*percent; type 0\.\d+"):
        call()


def test_other_impossible_values_are_refused_without_a_wrong_hint() -> None:
    with pytest.raises(UserError, match=r"not a fraction in \[0, 1\]\.$"):
        ior(-0.1, 0.5)
    with pytest.raises(UserError, match="w = 2"):
        lrs(0.1, 0.1, w=2)


def row(frame: pd.DataFrame, **where: object) -> pd.Series:
    for key, value in where.items():
        frame = frame[frame[key] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_records_with_full_data_give_all_scores() -> None:
    records = [
        *cell(0.40), *cell(0.50, method="rded"),
        *cell(0.38, protocol="plain-v1"), *cell(0.40, method="rded", protocol="plain-v1"),
        *cell(0.30, **HARD), *cell(0.35, method="rded", **HARD),
    ]  # fmt: skip
    frame = scores(records, cell(0.90, ipc=500, **HARD), {"small-soft-v1": "plain-v1"})
    assert list(frame.columns) == list(COLUMNS)
    soft = row(frame, protocol="small-soft-v1")
    assert (soft["ior"], soft["hlr"]) == pytest.approx((0.1, 0.55), abs=1e-6)
    assert soft["lrs"] == pytest.approx(lrs(0.55, 0.1), abs=1e-6)
    assert soft["ars"] == pytest.approx(ars(0.1, 0.02), abs=1e-6)
    assert (soft["hard_protocol"], soft["plain_protocol"], soft["why"]) == ("small-hard-v1", "plain-v1", "")
    assert row(frame, protocol="small-hard-v1")["ior"] == pytest.approx(0.05, abs=1e-6)


def test_what_records_do_not_allow_is_missing_and_says_why() -> None:
    frame = scores([*cell(0.4), *cell(0.5, method="rded"), *cell(0.5, method="el2n", ipc=50)])
    found = row(frame, method="rded")
    assert found["ior"] == pytest.approx(0.1, abs=1e-6)
    assert frame[["hlr", "lrs", "ars"]].isna().all(axis=None)
    assert "hlr: no full-data" in found["why"]
    assert "ars: no protocol without augmentation" in found["why"]
    alone = row(frame, method="el2n")
    assert math.isnan(alone["ior"])
    assert "ior: no result of random" in alone["why"]
    named = scores([*cell(0.4), *cell(0.5, method="rded")], plain={"small-soft-v1": "plain-v1"})
    assert "ars: no IOR under plain-v1" in named["why"].item()


@pytest.mark.parametrize("part", ["dataset", "protocol", "network", "engine"])
def test_full_data_of_other_digests_is_not_used(part: str) -> None:
    records = [*cell(0.30, **HARD), *cell(0.35, method="rded", **HARD)]
    other = cell(0.90, ipc=500, made_by={**made_by("small-hard-v1"), part: "0" * 64}, **HARD)
    assert scores(records, other)["hlr"].isna().all()
    assert scores([]).empty


# --- on the command line ---------------------------------------------------------------------------------------------


def typed(*arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(cli, ["leaderboard", *arguments])
    return outcome.exit_code, outcome.output if outcome.exception is None else f"{outcome.output}{outcome.exception}"


def written(folder: Path, records: list[Record]) -> str:
    for each in records:
        append(folder / "records.jsonl", each)
    return str(folder)


def test_the_verb_prints_scores_and_says_what_lacks(tmp_path: Path) -> None:
    records = [*cell(0.4), *cell(0.5, method="rded"), *cell(0.3, **HARD), *cell(0.35, method="rded", **HARD)]
    results = written(tmp_path / "results", records)
    _, without = typed("--results", results, "--scores", "dd-ranking")
    assert "- in hlr: no full-data accuracy" in without
    # Its digest is none that was released.
    assert "unofficial: DD-Ranking, glyphs:classes=100, small-soft-v1, stored labels, ipc 10" in without
    full = written(tmp_path / "full", cell(0.9, ipc=500, **HARD))
    code, told = typed("--results", results, "--scores", "dd-ranking", "--full-data", full)
    assert code == 0
    assert "no full-data accuracy" not in told
    assert f"{lrs(0.55, 0.1):.3f}" in told
    assert "small-hard-v1" in told
    code, table = typed("--results", results, "--scores", "dd-ranking", "--format", "csv")
    assert (code, table.splitlines()[0].split(",")) == (0, list(COLUMNS))


def test_a_word_of_another_encoding_is_shown_spelt_out(tmp_path: Path) -> None:
    results = written(tmp_path / "results", [*cell(0.4), *cell(0.5, method="rded")])
    pair = "small-soft-v1=b\udce9te"  # what Python makes of a byte of latin-1 on the command line
    code, shown = typed("--results", results, "--scores", "dd-ranking", "--unaugmented", pair)
    assert code == 0
    assert "b\\udce9te" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scores", "dd-ranking", "--by", "protocol"), "type one of them"),
        (("--full-data", "elsewhere"), "type --scores dd-ranking"),
        (("--scores", "dd-ranking", "--unaugmented", "plain-v1"), "type two protocols"),
        (("--scores", "dd-ranking", "--full-data", "nowhere"), "no records at nowhere"),
    ],
)
def test_options_that_do_not_go_together_are_explained(tmp_path: Path, options, message: str) -> None:
    results = written(tmp_path, cell(0.4))
    code, told = typed("--results", results, *options)
    assert code != 0
    assert message in told
