"""Values that depend on the cell: which branch of a `by` table holds, and which cells meet all of them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UserError
from bench.protocol.conditions import NoValue, cells, resolve


def value(table: str, **cell: Any) -> Any:
    """What a table comes to in one cell."""
    at = {"dataset": "digits", "ipc": 10, "classes": 10, "images": 100, "student": "convnet", **cell}
    return resolve(tomllib.loads(table), at, "here")


@pytest.mark.parametrize(
    ("ipc", "expected"), [(1, 300), (2, 150), (5, 150), (10, 150), (11, 7), (49, 7), (50, 3), (900, 3)]
)
def test_exact_range_bound_and_default(ipc: int, expected: int) -> None:
    table = 'by = "ipc"\n"1" = 300\n"2-10" = 150\n">=50" = 3\ndefault = 7\n'
    assert value(table, ipc=ipc) == expected


def test_the_order_of_keys_does_not_matter_since_it_is_not_in_the_digest() -> None:
    narrow_first = 'by = "ipc"\n"5" = 1\n"1-10" = 2\n'
    wide_first = 'by = "ipc"\n"1-10" = 2\n"5" = 1\n'
    assert value(narrow_first, ipc=5) == value(wide_first, ipc=5) == 1
    assert value(narrow_first, ipc=6) == value(wide_first, ipc=6) == 2
    with pytest.raises(UserError, match=r"ipc = 5 has more than one value: 1-10, >=5"):
        value('by = "ipc"\n"1-10" = 2\n">=5" = 1\n', ipc=5)


def test_a_data_set_with_parameters_before_its_plain_name_before_the_default() -> None:
    table = 'by = "dataset"\nglyphs = 2\n"glyphs:classes=10" = 1\ndefault = 3\n'
    assert value(table, dataset="glyphs:classes=10") == 1
    assert value(table, dataset="glyphs:classes=20") == 2
    assert value(table, dataset="glyphs") == 2
    assert value(table, dataset="digits") == 3


def test_a_library_of_networks_before_the_default_and_a_network_before_its_library() -> None:
    assert value('by = "student"\n"timm:resnet18" = 1\ntimm = 2\nconvnet = 3\n', student="timm:resnet18") == 1
    assert value('by = "student"\n"timm:resnet18" = 1\ntimm = 2\nconvnet = 3\n', student="timm:vgg11") == 2


def test_tables_nest() -> None:
    table = 'by = "ipc"\n"1" = 9\n[default]\nby = "dataset"\ndigits = 4\ndefault = 6\n'
    assert value(table, ipc=1) == 9
    assert value(table, ipc=2) == 4
    assert value(table, ipc=2, dataset="mnist5k") == 6


def test_no_match_is_explained() -> None:
    with pytest.raises(UserError, match=r"here: no value for ipc = 3; it has 1, 10, and no default"):
        value('by = "ipc"\n"1" = 1\n"10" = 2\n', ipc=3)
    with pytest.raises(UserError, match=r"by = 'size' is not one of dataset, ipc, classes"):
        value('by = "size"\ndefault = 2\n')


KEYS = st.one_of(
    st.integers(1, 30).map(str),
    st.tuples(st.integers(1, 30), st.integers(0, 9)).map(lambda r: f"{r[0]}-{r[0] + r[1]}"),
    st.integers(1, 30).map(lambda low: f">={low}"),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(KEYS, unique=True, max_size=6), st.booleans())
def test_the_cells_that_are_checked_meet_all_that_any_ipc_can_meet(keys: list[str], default: bool) -> None:
    table: dict[str, Any] = {"by": "ipc", **{key: key for key in keys}, **({"default": "default"} if default else {})}

    def outcomes(numbers: Any) -> set[str]:
        found = set()
        for number in numbers:
            try:
                found.add(resolve(table, {"ipc": number}, "here"))
            except NoValue:
                found.add("no value")
            except UserError:
                found.add("overlap")
        return found

    if len(table) > 1:
        assert outcomes(cell["ipc"] for cell in cells(table)) == outcomes(range(1, 50))


def test_every_combination_of_branches_is_met_once() -> None:
    table = {"by": "dataset", "digits": {"by": "ipc", "1": 1, "default": 2}, "glyphs": 3}
    found = [(cell["dataset"], cell["ipc"]) for cell in cells({"epochs": table}, {"by": "student", "convnet": 1})]
    assert sorted(found) == sorted(2 * [(name, ipc) for name in ("digits", "glyphs", "?") for ipc in (1, 2)])
    assert {cell["student"] for cell in cells({"by": "student", "convnet": 1})} == {"convnet", "?"}


def test_a_range_whose_ends_have_values_of_their_own_is_met_between_them() -> None:
    table = {"by": "ipc", "1": "a", "1-10": "b", "10": "c"}
    assert {resolve(table, cell, "here") for cell in cells(table) if cell["ipc"] <= 10} == {"a", "b", "c"}
