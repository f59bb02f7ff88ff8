"""Digests of values: one spelling for every number and every order."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.fingerprint import canonical, digest

LAW = settings(max_examples=80, deadline=None, derandomize=True)
NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@LAW
@given(VALUES)
def test_canonical_json_is_a_fixed_point(value: object) -> None:
    text = canonical(value)
    assert canonical(json.loads(text)) == text
    assert text.isascii()


def test_one_spelling_for_a_number_and_for_an_order() -> None:
    assert (
        canonical({"b": 1.0, "a": (2, 0.5, -0.0)}) == canonical({"a": [2.0, 0.5, 0], "b": 1}) == '{"a":[2,0.5,0],"b":1}'
    )
    assert digest(True) != digest(1) != digest("1")
    assert digest(None) != digest("")
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))
