"""Digests of values and of code: what can change a result changes them, what cannot does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import fingerprint
from bench.fingerprint import canonical, digest, source_digest
from tests.worlds.plugins import write

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


CODE = '''
    """A description."""
    from methods._quota import class_members

    LEVEL = 3

    class State:
        """What is known."""

        level: int = 2

    def select(train, ipc, ctx, *, rate=0.5):
        """Pick."""
        # the first of each class
        return [own[:ipc] for _, own in class_members(train, ipc)]
'''


def code_digest(folder: Path, old: str = "", new: str = "") -> str:
    assert old in CODE
    return source_digest(write(folder / "mine.py", CODE.replace(old, new, 1) if old else CODE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A description.", "Another description."),
        ("# the first of each class", "# heads"),
        ('"""Pick."""', ""),
        ('"""What is known."""', ""),
        ("*, rate=0.5", "*,\n        rate   = 0.5"),
        ("return [own[:ipc]", "return   [ own[ : ipc ]"),
        ("LEVEL = 3", "LEVEL = (3)\n\n\n"),
    ],
)
def test_words_and_format_do_not_matter(tmp_path: Path, old: str, new: str) -> None:
    assert code_digest(tmp_path, old, new) == code_digest(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LEVEL = 3", "LEVEL = 4"),
        ("LEVEL = 3", "LEVEL = 3.0"),
        ("LEVEL = 3", "LEVEL = '3'"),
        ("LEVEL = 3", "LEVEL = None"),
        ("LEVEL = 3", "LEVEL = True"),
        ("rate=0.5", "rate=0.6"),
        ("level: int = 2", "level: int = 1"),
        ("own[:ipc]", "own[ipc:]"),
        ("own[:ipc]", "own[0:ipc]"),
    ],
)
def test_code_matters(tmp_path: Path, old: str, new: str) -> None:
    assert code_digest(tmp_path, old, new) != code_digest(tmp_path)


@pytest.mark.parametrize(("one", "other"), [("b'x'", "\"b'x'\""), ("1j", "'1j'"), ("...", "'Ellipsis'"), ("1", "True")])
def test_constants_of_other_types_are_told_apart(tmp_path: Path, one: str, other: str) -> None:
    assert code_digest(tmp_path, "LEVEL = 3", f"LEVEL = {one}") != code_digest(
        tmp_path, "LEVEL = 3", f"LEVEL = {other}"
    )


def test_the_place_of_the_file_does_not_matter(tmp_path: Path) -> None:
    assert code_digest(tmp_path / "here") == code_digest(tmp_path / "there")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own: a method that uses shared code, which uses more shared code."""
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    for folder in ("methods", "methods/_shared"):
        write(tmp_path / folder / "__init__.py", "")
    write(tmp_path / "methods/_help.py", "from methods._shared.deep import depth\n")
    write(tmp_path / "methods/_shared/deep.py", "from methods._help import x\ndepth = 1\n")  # a circle
    write(tmp_path / "methods/_other.py", "unused = 1\n")
    write(tmp_path / "methods/selection/near.py", "near = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "from methods._help import depth", "import methods._help", "from methods import _help",
        "import methods._help as h", "from .._help import depth", "from .. import _help",
        "def f():\n    from methods._help import depth",
    ],
)  # fmt: skip
def test_shared_code_counts_however_it_is_imported_and_however_deep(project: Path, line: str) -> None:
    plugin = write(project / "methods/selection/mine.py", line + "\n")
    before = source_digest(plugin)
    write(project / "methods/_other.py", "unused = 2\n")
    assert source_digest(plugin) == before
    write(project / "methods/_shared/deep.py", "# reworded\nfrom methods._help import x\ndepth = 1\n")
    assert source_digest(plugin) == before
    write(project / "methods/_shared/deep.py", "from methods._help import x\ndepth = 2\n")
    assert source_digest(plugin) != before


def test_the_neighbours_of_an_installed_plugin_count(tmp_path: Path) -> None:
    for name, helper in (("one", "x = 1"), ("two", "x = 2"), ("three", "x = 1  # as one")):
        write(tmp_path / name / "mine.py", "from ._helper import x\nfrom . import _more\n")
        write(tmp_path / name / "_helper.py", helper)
        write(tmp_path / name / "_more.py", "y = 1")
    one, two, three = (source_digest(tmp_path / name / "mine.py") for name in ("one", "two", "three"))
    assert one == three != two
