"""`verify`: which records run again, and what another kind of machine may give. What it catches: see
test_unfair_submissions.py."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench.checks.records.board import Line, cells
from bench.checks.records.prescribed import Prescribed
from bench.checks.records.rules import Findings
from bench.checks.verify.verification import drawn, select, verify
from bench.errors import UserError
from bench.plugins.registry import Registry, discover
from bench.records.files import Record
from tests.worlds.honest import altered, board, honest, write


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.fixture(scope="module")
def prescribed(registry: Registry, tmp_path_factory) -> Prescribed:
    return Prescribed(registry, tmp_path_factory.mktemp("store"))


def lines_of(records: list[Record]) -> list[Line]:
    return [Line(record, f"records.jsonl:{number}") for number, record in enumerate(records, 1)]


def test_a_folder_stands_for_the_last_record_of_each_of_its_trials(prescribed, tmp_path):
    honest_ones = board(prescribed, "herding")
    again = altered(honest_ones[0], finished="2026-01-02T00:00:00+00:00")
    folder = write(tmp_path / "results", [*honest_ones, again])
    everything, chosen = select((str(folder),), tmp_path, Findings())
    assert len(everything) == 7
    assert [line.record for line in chosen] == [again, *honest_ones[1:]]


def test_an_id_stands_for_one_record_and_its_beginning_is_enough(prescribed, tmp_path):
    records = board(prescribed, "herding")
    folder = write(tmp_path / "results", records)
    for given in (records[4].id, records[4].id[:8]):
        everything, (chosen,) = select((given,), folder, Findings())
        assert chosen.record == records[4]
        assert len(everything) == 6


@pytest.mark.parametrize("given", ["0000000000000000", "abc", "nowhere/results"])
def test_a_target_that_is_neither_says_what_an_id_is(prescribed, tmp_path, given):
    folder = write(tmp_path / "results", board(prescribed))
    with pytest.raises(UserError, match="16 hex digits") as caught:
        select((given,), folder, Findings())
    assert given in str(caught.value)
    assert "--results DIR" in str(caught.value)


def test_edited_lines_are_told_and_not_run(prescribed, tmp_path):
    folder = write(tmp_path / "results", board(prescribed))
    path = folder / "records.jsonl"
    path.write_text(path.read_text().replace('"accuracy":0.', '"accuracy":0.9', 1))
    out = Findings()
    _, chosen = select((str(folder),), tmp_path, out)
    assert len(chosen) == 2
    assert [finding.rule for finding in out] == ["edited-line"]


def test_a_sample_is_drawn_evenly_from_all_cells_and_is_the_same_for_everybody(prescribed):
    records = [r for ipc in (1, 5, 10) for r in board(prescribed, "herding", "el2n", ipc=ipc)]
    sample = drawn(lines_of(records), 6)
    assert Counter(line.record.trial["ipc"] for line in sample) == {1: 2, 5: 2, 10: 2}
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    assert {line.record.id for line in drawn(lines_of(records), 6)} == {line.record.id for line in sample}
    assert len(drawn(lines_of(shuffled), 100)) == len(records)


def test_one_changed_record_changes_which_ones_are_drawn(prescribed):
    records = [r for ipc in (1, 2, 5, 10) for r in board(prescribed, "herding", "el2n", ipc=ipc)]
    edited = [*records[:-1], altered(records[-1], accuracy=0.9)]
    assert [x.record.id for x in drawn(lines_of(records), 8)] != [x.record.id for x in drawn(lines_of(edited), 8)]


@pytest.mark.trains
def test_what_this_version_has_no_code_for_is_told_and_not_run(prescribed, registry, tmp_path):
    error = {"type": "ValueError", "message": "no images left"}
    stale = altered(honest(prescribed, "random", 0), made_by={"engine": "0.1"})
    failed = honest(prescribed, "random", 1, status="failed", accuracy=None, error=error)
    foreign = altered(honest(prescribed, "herding", 0), made_by={"method": "1" * 64})
    claims = lines_of([stale, failed, foreign])
    out = Findings()
    assert verify(claims, cells(claims), registry, out, store=tmp_path) == "0 of 3 records run again"
    assert [finding.rule for finding in out] == ["stale", "foreign-code", "not-checked"]
    assert Path(tmp_path).is_dir()
