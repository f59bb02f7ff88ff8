"""Plugins are found in folders, installed packages and single files, and read without being imported."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import PluginError, UserError
from bench.plugins.registry import Registry, discover, read
from tests.worlds.plugins import SELECT, install, write

BOOM = "raise RuntimeError('imported')\n"


def plugin(path: Path, source: str) -> Registry:
    return discover([write(path, source)])


def test_the_project_offers_what_its_folders_hold() -> None:
    registry = discover()
    assert {"random", "el2n", "herding", "score", "rded", "lpld"} <= set(registry.names("method"))
    assert {"none", "svd", "rsvd", "cur", "rpca", "lpld"} <= set(registry.names("compressor"))
    assert {"digits", "mnist5k", "glyphs", "heldout"} <= set(registry.names("dataset"))
    assert {"convnet", "resnet", "timm", "torchvision"} <= set(registry.names("network"))
    assert {"small-soft-v1", "small-hard-v1"} <= set(registry.protocol_names())


def test_every_plugin_of_the_project_has_a_description_and_parameters_that_a_spec_can_spell() -> None:
    registry = discover()
    for kind in ("method", "compressor", "dataset", "network"):
        for found in registry.all(kind):
            assert found.description.strip(), found.path
            assert not any(name.startswith("_") for name in found.parameters)


def test_names_constants_and_parameters_are_read_from_the_syntax_tree(tmp_path: Path) -> None:
    source = '''
        """A sentence.

        More.
        """
        NUM_GPUS: float = 0.5
        CITATION = "A "  "paper"
        raise RuntimeError("imported")

        def select(train, ipc, ctx, *, rate: float = -1.5, order: str = "up", k: int | None = None, on=True):
            pass
    '''
    found = plugin(tmp_path / "mine.py", source).get("method", "mine")
    assert found.description == "A sentence."
    assert found.parameters == {"rate": -1.5, "order": "up", "k": None, "on": True}
    assert found.constants == {"NUM_GPUS": 0.5, "CITATION": "A paper"}
    with pytest.raises(RuntimeError, match="imported"):
        _ = found.module


def test_listing_imports_no_plugin_and_no_torch(tmp_path: Path) -> None:
    write(tmp_path / "boom.py", BOOM + SELECT)
    program = """
import json, sys
from bench.plugins.registry import discover
names = discover([sys.argv[1]]).names("method")
print(json.dumps([names, sorted(m for m in sys.modules if m.startswith(("methods.", "protocols.", "torch", "numpy")))]))
"""
    answer = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "boom.py")], capture_output=True, text=True, check=True
    )
    names, imported = json.loads(answer.stdout)
    assert "boom" in names
    assert imported == []


def test_a_second_plugin_of_the_same_name_is_refused_and_both_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        plugin(tmp_path / "herding.py", SELECT)
    assert str(tmp_path / "herding.py") in str(caught.value)
    assert "methods/selection/herding.py" in str(caught.value)


def test_a_name_given_inside_the_file_counts_for_duplicates_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Two methods are named 'random'"):
        plugin(tmp_path / "mine.py", "NAME = 'random'\n" + SELECT)


def test_kinds_have_namespaces_of_their_own(tmp_path: Path) -> None:
    registry = plugin(tmp_path / "svd.py", SELECT)
    assert "svd" in registry.names("method")
    assert "svd" in registry.names("compressor")


def test_a_second_protocol_of_the_same_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Two protocols are named 'small-soft-v1'"):
        discover([write(tmp_path / "small-soft-v1.toml", "")])


def test_an_unknown_name_gets_the_nearest_ones_and_all_that_there_are() -> None:
    with pytest.raises(UserError, match=r"No method is named 'hherding'\. Did you mean 'herding'\?\nKnown .*el2n"):
        discover().get("method", "hherding")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def select(:\n", r"line 1: .*not valid Python"),
        ("x = 1\n", r"must define exactly one of select\(\.\.\.\), .* it defines none of them"),
        ("def select(): ...\ndef encode(): ...\ndef decode(): ...\n", "it defines select, encode"),
        ("def encode(labels, budget_bytes, ctx): ...\n", "no decode"),
        ("def select(t, i, c, *, k): ...\n", "line 1: parameter 'k' of select needs a literal default"),
        ("def select(t, i, c, *, k=len): ...\n", "parameter 'k' of select needs a literal default"),
        ("def select(t, i, c, *, k=(1, 2)): ...\n", "parameter 'k' of select needs a literal default"),
        ("CITATION = 'a' + str(1)\n" + SELECT, "line 1: CITATION must be a literal"),
        ("NUM_GPUS = 'one'\n" + SELECT, "NUM_GPUS = 'one' has the wrong type"),
        ("x = '\0'\n", "not valid Python"),
    ],
)
def test_a_broken_contract_is_named(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(PluginError, match=message) as caught:
        discover([path])
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        discover([tmp_path / "nowhere.py"])
    (tmp_path / "image.py").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match="no text file"):
        discover([tmp_path / "image.py"])


def test_what_the_harness_hands_over_is_no_parameter(tmp_path: Path) -> None:
    source = """
        def fit(labels, budget_bytes, ctx): return b""
        def encode(labels, budget_bytes, ctx, *, shared=b"", rank: int = 1): return b""
        def decode(blob, rows=None, *, shared=b""): return None
    """
    assert plugin(tmp_path / "mine.py", source).get("compressor", "mine").parameters == {"rank": 1}


def test_a_plugin_file_travels_to_a_machine_that_does_not_have_it(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", SELECT)
    found = read(path, kind=None, module_name=None)
    _, digest = found.module, found.digest
    travelled = pickle.dumps(found)
    path.unlink()
    arrived = pickle.loads(travelled)
    assert arrived.module.select.__kwdefaults__ == {"offset": 0}
    assert arrived.digest == digest


def test_a_plugin_file_may_use_dataclasses_with_postponed_annotations(tmp_path: Path) -> None:
    source = """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass
        class State:
            count: int = 3

        def select(train, ipc, ctx): return State().count
    """
    assert plugin(tmp_path / "mine.py", source).get("method", "mine").module.select(None, 1, None) == 3


def test_an_installed_package_is_listed_without_being_imported_and_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "condense_extras_for_a_test"
    install(
        tmp_path,
        package,
        {"__init__.py": "", "first.py": SELECT, "boom.py": BOOM + "def encode(l, b, c): ...\ndef decode(b): ...\n"},
        f"[condensebench.methods]\nfirst = {package}.first\n[condensebench.compressors]\nboom = {package}.boom\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = discover()
    assert "boom" in registry.names("compressor")
    found = registry.get("method", "first")
    assert found.path == tmp_path / package / "first.py"
    assert found.parameters == {"offset": 0}
    assert not any(name.startswith(package) for name in sys.modules)
    assert found.module.__name__ == f"{package}.first"
    assert found.module.select.__kwdefaults__ == {"offset": 0}


def test_an_entry_point_to_a_module_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "hollow_for_a_test", {}, "[condensebench.methods]\ngone = hollow_for_a_test.gone\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"entry point 'gone'.*names no module: hollow_for_a_test\.gone"):
        discover()


def test_an_installed_package_cannot_take_a_name_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "greedy_for_a_test", {"a.py": SELECT}, "[condensebench.methods]\nscore = greedy_for_a_test.a\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="Two methods are named 'score'"):
        discover()
