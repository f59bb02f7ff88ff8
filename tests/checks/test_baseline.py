"""`check records --baseline`: what moved beyond chance is told with direction and size, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.checks.records.prescribed import Prescribed
from bench.finding import Finding
from bench.lock import lock_file
from bench.plugins.registry import Registry, discover
from bench.records.files import Record
from tests.worlds.honest import TEST_IMAGES, altered, board, findings, honest, write
from tests.worlds.kinds import ANOTHER, NATIVE

METHODS = ("herding", "el2n", "score")
IPCS = (1, 2, 5, 10)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.fixture(scope="module")
def prescribed(registry: Registry, tmp_path_factory) -> Prescribed:
    return Prescribed(registry, tmp_path_factory.mktemp("store"))


@pytest.fixture
def drifted(tmp_path: Path, registry: Registry, prescribed: Prescribed, monkeypatch) -> Callable[..., list[Finding]]:
    """What is found beside the notes on resolution and on other machines, with the protocol released."""
    monkeypatch.setattr(lock_file, "released", lambda: {"small-hard-v1": prescribed.protocol("small-hard-v1").digest})

    def of(now: list[Record], before: list[Record]) -> list[Finding]:
        found = findings(write(tmp_path / "now", now), registry, tmp_path / "store", write(tmp_path / "before", before))
        return [finding for finding in found if finding.rule not in ("resolution", "other-machine")]

    return of


def whole(prescribed: Prescribed, replicates: int = 5) -> list[Record]:
    """16 rows in 4 cells."""
    return [
        r for ipc in IPCS for r in board(prescribed, *METHODS, ipc=ipc, protocol="small-hard-v1", replicates=replicates)
    ]


def elsewhere(record: Record, images: int, **changed) -> Record:
    """The record as another kind of machine gives it: so many more test images right, other losses."""
    accuracy = (round(record.accuracy * TEST_IMAGES) + images) / TEST_IMAGES
    losses = {"test_loss": record.test_loss + 0.001, "train_loss": record.train_loss + 0.001}
    return altered(record, accuracy=accuracy, environment=ANOTHER, **losses, **changed)


def noise(record: Record) -> int:
    """-2, 0 or 2 images, from the trial."""
    return 2 * (int(record.id[:8], 16) % 3) - 2


def test_the_same_board_has_not_moved(prescribed, drifted):
    assert drifted(whole(prescribed), whole(prescribed)) == []


def test_chance_on_another_kind_of_machine_is_no_drift(prescribed, drifted):
    assert drifted([elsewhere(record, noise(record)) for record in whole(prescribed)], whole(prescribed)) == []


def test_a_row_that_fell_is_named_with_direction_size_and_interval(prescribed, drifted):
    fell = [
        elsewhere(r, noise(r) - 30 * (r.trial["method"] == "el2n" and r.trial["ipc"] == 5)) for r in whole(prescribed)
    ]
    (found,) = drifted(fell, whole(prescribed))
    assert (found.rule, found.severity) == ("moved", "error")
    assert found.where == "digits ipc=5 small-hard-v1 convnet:width=16, el2n"
    assert found.message.startswith("-")
    assert abs(float(found.message.split(" ")[0]) + 5) < 0.4  # 30 of 600 images
    assert "over 5 replicates" in found.message
    assert "Holm's correction for 16 rows" in found.message


def test_another_engine_is_told_before_the_numbers(prescribed, drifted):
    before = [altered(record, made_by={"engine": "0.9"}) for record in whole(prescribed)]
    (found,) = drifted(whole(prescribed), before)
    assert (found.rule, found.where, found.severity) == ("digests-changed", "engine", "note")
    assert f"0.9 in the baseline, {prescribed.engine} here, for 80 of 80 trials" in found.message


def test_a_method_that_was_edited_may_move(prescribed, drifted):
    old = {"made_by": {"method": "9" * 64}}
    before = [
        elsewhere(r, noise(r) - 60, **old) if r.trial["method"] == "herding" else elsewhere(r, noise(r))
        for r in whole(prescribed)
    ]
    found = [f for f in drifted(whole(prescribed), before) if f.rule == "moved"]
    assert sum(f.where.count("herding") for f in found) == len(IPCS)
    assert {f.severity for f in found} == {"warning"}
    assert all("its method was edited" in f.message and f.message.startswith("+") for f in found)


def test_the_same_code_on_the_same_machine_must_give_the_same_bits(prescribed, drifted):
    now = whole(prescribed)
    now[7] = altered(now[7], train_loss=now[7].train_loss * (1 + 2**-50))
    (found,) = drifted(now, whole(prescribed))
    assert (found.rule, found.severity) == ("not-bitwise", "error")
    assert found.where.endswith("now/records.jsonl:8")
    assert "train_loss differ from" in found.message


def test_bytes_of_images_that_are_counted_otherwise_are_no_difference(prescribed, drifted):
    before, now = whole(prescribed), whole(prescribed)
    now[7] = altered(now[7], bytes_images=now[7].bytes_images + 1, provenance={"counted_as": "png-rle"})
    assert drifted(now, before) == []
    before[7] = altered(before[7], provenance={"counted_as": "png-rle"})
    (found,) = drifted(now, before)
    assert found.rule == "not-bitwise"
    assert "bytes_images differ from" in found.message


def test_why_bits_are_not_compared_is_told_once(prescribed, registry, tmp_path):
    now = [elsewhere(record, 0) for record in whole(prescribed)]
    found = findings(write(tmp_path / "now", now), registry, tmp_path, write(tmp_path / "before", whole(prescribed)))
    (note,) = [finding for finding in found if finding.rule == "other-machine"]
    assert note.severity == "note"
    assert note.message == (
        "another processor (A family 1, B family 2): bits may differ, so 80 of 80 trials are compared by statistics "
        "alone"
    )


def test_portable_records_owe_the_same_bits_to_another_processor(prescribed, drifted):
    def portable(kind: dict[str, str]) -> list[Record]:
        return [altered(each, environment=kind | {"arithmetic": "portable"}) for each in whole(prescribed)]

    now = portable(ANOTHER)
    assert drifted(now, portable(NATIVE)) == []
    now[7] = altered(now[7], train_loss=now[7].train_loss * (1 + 2**-50))
    (found,) = drifted(now, portable(NATIVE))
    assert (found.rule, found.severity) == ("not-bitwise", "error")


def test_records_of_before_version_0_2_are_compared_by_statistics_alone(prescribed, drifted):
    old = {"python": "3.11.7", "torch": "2.15.0", "numpy": "2.4.6", "machine": "AMD EPYC", "threads": "1"}
    before = [Record(**{**each.fields(), "environment": old}) for each in whole(prescribed)]
    now = list(before)
    now[7] = altered(now[7], train_loss=now[7].train_loss * (1 + 2**-50))
    assert drifted(now, before) == []


def test_a_gpu_owes_no_bits(prescribed, drifted):
    gpu = {"environment": {"device": "a GPU"}}
    now = [altered(record, **gpu, test_loss=record.test_loss + 0.001) for record in whole(prescribed)]
    assert drifted(now, [altered(record, **gpu) for record in whole(prescribed)]) == []


def test_trials_without_a_partner_are_told(prescribed, drifted):
    now = [*whole(prescribed), *(honest(prescribed, "random", r, ipc=20, protocol="small-hard-v1") for r in range(5))]
    before = [
        *whole(prescribed),
        *(honest(prescribed, "random", r, ipc=50, protocol="small-hard-v1") for r in range(5)),
    ]
    found = {f.rule: f for f in drifted(now, before)}
    assert set(found) == {"vanished", "new-trials"}
    assert "no result here: 5" in found["vanished"].message
    assert "before/records.jsonl:81, 82, 83, 84 and 1 more" in found["vanished"].where
    assert found["new-trials"].severity == "note"


def test_a_baseline_of_other_trials_is_an_error(prescribed, drifted):
    (found,) = drifted(whole(prescribed), board(prescribed, ipc=50, protocol="small-hard-v1"))
    assert (found.rule, found.severity) == ("no-overlap", "error")


def test_what_the_replicates_can_resolve_is_told(prescribed, registry, tmp_path):
    now = [elsewhere(record, noise(record)) for record in whole(prescribed)]
    found = findings(write(tmp_path / "now", now), registry, tmp_path, write(tmp_path / "before", whole(prescribed)))
    (told,) = [f for f in found if f.rule == "resolution"]
    assert told.where == "16 rows"
    assert "with 5 replicates one row by itself shows a movement of 0." in told.message
