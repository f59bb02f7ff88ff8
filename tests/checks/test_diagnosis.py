"""What two records tell of a claim. Seeds, epochs and lengths of training: see test_unfair_submissions.py."""

from __future__ import annotations

import pytest

from bench.checks.records.prescribed import Prescribed
from bench.checks.verify.diagnosis import made_otherwise, other_content, result
from bench.plugins.registry import discover
from bench.records.files import Record
from tests.worlds.honest import altered, honest


@pytest.fixture(scope="module")
def claim(tmp_path_factory) -> Record:
    return honest(Prescribed(discover(), tmp_path_factory.mktemp("store")))


def test_the_same_record_differs_in_nothing(claim):
    assert made_otherwise(claim, claim) is None
    assert other_content(claim, claim) is None
    assert result(claim) == (claim.accuracy, claim.test_loss, claim.train_loss)


def test_a_trial_that_fails_here_says_why(claim):
    error = {"type": "ValueError", "message": "no images left\nand more"}
    found = made_otherwise(claim, altered(claim, status="failed", accuracy=None, error=error))
    assert found is not None
    assert found.rule == "not-reproduced"
    assert found.message == "claimed ok, here failed: ValueError: no images left"


def test_a_budget_that_is_too_small_by_another_number_of_bytes(claim):
    infeasible = altered(claim, status="infeasible", accuracy=None, smallest_bytes=900)
    found = made_otherwise(infeasible, altered(infeasible, smallest_bytes=800))
    assert found is not None
    assert found.rule == "other-bytes"
    assert "claimed to need 900 bytes at the least; here 800" in found.message


@pytest.mark.parametrize("part", ["dataset", "teacher"])
def test_other_data_and_another_teacher_are_named(claim, part):
    found = made_otherwise(altered(claim, made_by={part: "1" * 64}), claim)
    assert found is not None
    assert found.rule == f"other-{part}"
    assert "11111111" in found.message


def test_other_images_come_before_their_bytes(claim):
    found = other_content(altered(claim, condensed={"digest": "1" * 64}, bytes_images=5), claim)
    assert found is not None
    assert found.rule == "other-images"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bytes_images": 5}, "the images are claimed to take 5 bytes"),
        ({"bytes_labels": {"total": 10**6}}, "the labels are claimed to take 1000000 bytes"),
    ],
)
def test_other_bytes_say_how_many(claim, changed, message):
    found = other_content(altered(claim, **changed), claim)
    assert found is not None
    assert found.rule == "other-bytes"
    assert message in found.message


def test_bytes_of_images_are_compared_within_one_count(claim):
    """Of a claim of an earlier version, which searched for the smallest files, they tell nothing."""
    fast = altered(claim, bytes_images=5, provenance={"counted_as": "png-rle"})
    assert other_content(claim, fast) is None
    assert other_content(fast, claim) is None
    found = other_content(fast, altered(fast, bytes_images=6))
    assert found is not None
    assert found.message == "the images are claimed to take 5 bytes; here they take 6"


def test_other_counts_of_invalid_labels_are_told_where_both_count(claim):
    counted = altered(claim, invalid_labels={"values": 19, "rows": 15})
    found = other_content(altered(claim, invalid_labels={"values": 0, "rows": 0}), counted)
    assert found is not None
    assert found.rule == "not-reproduced"
    assert "0 values and 0 rows of the labels are claimed" in found.message
    assert "here 19 values and 15 rows" in found.message
    assert other_content(claim, counted) is None
