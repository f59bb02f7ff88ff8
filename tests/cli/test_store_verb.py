"""`condensebench store`: what lies in a store, and what of it no record needs."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bench.artifacts.duplicates import set_digest
from bench.artifacts.store import IN_USE, Store
from bench.cli import cli
from bench.labels.kept_labels import MARK, kept_set
from bench.records import files
from tests.worlds.records import record

NEEDED, OTHER = "a" * 64, "b" * 64  # digests of data sets
NOW = 1_800_000_000.0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store with two of each kind: one that the records need, and one that they do not."""
    store = Store(tmp_path / "store")
    digests = {}
    for number, dataset in enumerate((NEEDED, OTHER)):

        def make(kind: str, number: int = number, dataset: str = dataset, **inputs: object) -> str:
            meta = {"digest": dataset[::-1], "dataset": {"digest": dataset, "train_digest": f"train {dataset}"}}
            arrays = {
                "images": np.full((2, 1, 8, 8), number, np.uint8),
                "labels": np.array([0, 1]),
            }
            artifact = store.get(kind, {"n": number, **inputs}, lambda: (arrays, meta))
            digests[kind, number] = set_digest(arrays["images"], arrays["labels"])
            return store.relative(artifact)

        for kind in ("features", "scoring-labels", "dynamics"):
            make(kind, dataset=dataset)
        make("dataset", spec="digits")
        make("train-split", train=f"train {dataset}")
        make("teacher", made="x")
        condensed = make("condensed")
        make("labels", condensed=condensed)
        shard = {"condensed": condensed, "shard": 0}
        assert kept_set(store, "a set", {"condensed": condensed}, [{"n": number, **shard}], 300)
        make("raw-labels", **shard)
    (store.root / "checkpoints" / "stopped").mkdir(parents=True)
    (store.root / "checkpoints" / "stopped" / "state.safetensors").write_bytes(bytes(50))
    (store.root / "mine").mkdir()
    (store.root / "mine" / "notes.txt").write_text("of nobody's kind")
    facts = {
        "digest": digests["condensed", 0], "per_class": (1, 1), "repeated": 0, "in_test_exact": 0, "in_test_near": 0,
        "train_in_test": 0,
    }  # fmt: skip
    made_by = {**record().made_by, "dataset": NEEDED, "teacher": NEEDED[::-1]}
    (tmp_path / "results").mkdir()
    files.append(tmp_path / "results" / "records.jsonl", record(0.5, made_by=made_by, condensed=facts))
    return tmp_path


def typed(place: Path, *words: str) -> Result:
    answer = CliRunner().invoke(cli, ["store", *words, "--store", str(place / "store")])
    assert not isinstance(answer.exception, (AssertionError, TypeError, KeyError)), answer.exception
    return answer


def lying(place: Path) -> set[str]:
    return {path.parent.name for path in (place / "store").rglob("*") if path.is_file() and path.name != IN_USE}


def kinds(place: Path) -> dict[str, int]:
    found = [path.parent.name for path in (place / "store").rglob("*.safetensors")]
    return {kind: found.count(kind) for kind in set(found)}


def test_the_store_is_shown_by_kind_size_and_age(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    for path in (place / "store").rglob("*"):
        os.utime(path, (NOW - 3 * 86_400, NOW - 3 * 86_400))
    shown = typed(place)
    assert shown.exit_code == 0, shown.output
    (line,) = [line for line in shown.output.splitlines() if line.startswith("raw-labels")]
    assert "raw labels that compressors share (--keep-labels)" in line
    assert " 4 " in line  # two shards, two marks
    assert line.count("3 days") == 2
    assert "no limit (--store-limit); decoded photographs at most 32.0 GB" in shown.output
    rows = json.loads(typed(place, "--format", "json").output)
    sizes = {row["kind"]: row["bytes"] for row in (rows if isinstance(rows, list) else rows["rows"])}
    assert sizes["checkpoints"] == 50
    assert sizes["mine"] == len("of nobody's kind")


def test_what_no_record_needs_is_told_and_then_removed(place: Path) -> None:
    before = lying(place)
    told = typed(place, "prune", "--results", str(place / "results"), "--dry-run")
    assert told.exit_code == 0, told.output
    assert "condensed: 1 of them" in told.output
    assert "raw-labels: 2 of them" in told.output  # a shard and its mark
    assert "checkpoints: 1 of them, 50 B" in told.output
    assert "would be removed from" in told.output
    assert lying(place) == before
    assert set(kinds(place).values()) == {1, 2}  # one checkpoint

    removed = typed(place, "prune", "--results", str(place / "results"))
    assert removed.exit_code == 0, removed.output
    left = kinds(place)
    assert set(left.values()) == {1}
    assert left.keys() == {
        "features", "scoring-labels", "dynamics", "dataset", "train-split", "teacher", "condensed", "labels",
        "raw-labels",
    }  # fmt: skip
    assert len(list((place / "store" / "raw-labels").glob(f"*{MARK}"))) == 1
    assert (place / "store" / "mine" / "notes.txt").is_file()
    again = typed(place, "prune", "--results", str(place / "results"))
    assert again.output.startswith("0 B removed")


def test_without_records_nothing_is_removed(place: Path) -> None:
    refused = typed(place, "prune")
    assert refused.exit_code != 0
    assert "say which records count, for instance --results results/mine" in str(refused.exception)
    nowhere = typed(place, "prune", "--results", str(place / "nowhere"))
    assert nowhere.exit_code != 0
    assert kinds(place)["condensed"] == 2


def test_a_store_that_is_in_use_is_not_pruned(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.artifacts.store._IN_USE", {})  # as in a process that did not make what lies here
    with (place / "store" / IN_USE).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        refused = typed(place, "prune", "--results", str(place / "results"))
        assert "is in use by another process" in str(refused.exception)
        assert kinds(place)["condensed"] == 2


def test_an_empty_store_is_no_fault(tmp_path: Path) -> None:
    shown = typed(tmp_path)
    assert shown.exit_code == 0, shown.output
    assert "0 B, no limit" in shown.output
