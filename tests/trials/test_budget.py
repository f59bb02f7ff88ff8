"""Budgets: what 30x and 20kB mean, in whole bytes, and one spelling for each."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UserError
from bench.trials.budget import Budget, reference_bytes

LAW = settings(max_examples=100, deadline=None, derandomize=True)


def test_the_reference_is_fp16_logits_and_25_bytes_a_row() -> None:
    # 10 images, 300 views, 1,000 classes: 3,000 rows of 2,000 + 25 bytes.
    assert reference_bytes(10, 300, 1000) == 3000 * 2025
    assert Budget.parse("30x").total_bytes(10, 300, 1000) == 3000 * 2025 // 30


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("30x", "30x"), ("30.0X", "30x"), (" 12.5 x ", "12.5x"), ("1000000x", "1000000x"),
        ("12.3456789x", "12.3456789x"),
        ("500", "500B"), ("20kB", "20000B"), ("20 KB", "20000B"), ("1.5MiB", "1572864B"), ("1.001kB", "1001B"),
        ("4.35kB", "4350B"), ("2GB", "2000000000B"), ("12345678901234567890B", "12345678901234567890B"),
    ],
)  # fmt: skip
def test_a_budget_has_one_spelling(text: str, canonical: str) -> None:
    assert str(Budget.parse(text)) == canonical
    assert Budget.parse(canonical) == Budget.parse(text)


@pytest.mark.parametrize("text", ["", "x", "30 %", "-3x", "1e3x", "0B", "0.2B", "3 parsecs", "nanx", "1,5x", "x30"])
def test_what_is_no_budget_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UserError, match="neither a ratio such as 30x nor a size such as 20kB"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["0x", "0.5x"])
def test_a_ratio_below_one_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="at least 1x"):
        Budget.parse(text)


@LAW
@given(st.floats(1, 1e12), st.integers(1, 500), st.integers(1, 300), st.integers(2, 1000))
def test_a_ratio_survives_its_spelling_and_never_allows_more_than_the_reference(
    ratio: float, images: int, views: int, classes: int
) -> None:
    budget = Budget(ratio=ratio)
    assert Budget.parse(str(budget)) == budget
    total = budget.total_bytes(images, views, classes)
    assert 0 <= total <= reference_bytes(images, views, classes)
    assert abs(total - reference_bytes(images, views, classes) / ratio) <= 1
