"""`check records` names what plugins did beside their task."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path

import pytest

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.checks.records.check_records import check_records
from bench.checks.records.prescribed import Prescribed
from bench.confinement.watch import files_opened
from bench.plugins.registry import discover
from tests.worlds.honest import altered, board, write

REGISTRY = discover()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    describe(Workspace(folder, REGISTRY), "digits")
    return folder


@pytest.mark.parametrize(
    ("note", "rule", "severity", "message"),
    [
        ("data: opened digits.csv.gz", "test-reach", "error", "method herding, on digits: it opened digits.csv.gz"),
        ("search: called gc.get_objects", "test-reach", "warning", "it called gc.get_objects"),
        ("write: changed store/teacher/a", "stray-write", "error", "it changed store/teacher/a"),
        ("program: started curl", "stray-process", "warning", "it started curl"),
        ("left: 2 processes behind", "stray-process", "warning", "it left 2 processes behind"),
    ],
)
@pytest.mark.trains
def test_a_note_is_a_finding_of_its_rule(tmp_path, store, note, rule, severity, message):
    lines = board(Prescribed(REGISTRY, store), "herding")
    lines[-1] = altered(lines[-1], conduct={"method": [note]})
    found = check_records(write(tmp_path, lines), registry=REGISTRY, store=store).findings
    (named,) = [each for each in found if each.rule == rule]
    assert (named.severity, named.where) == (severity, f"{tmp_path / 'records.jsonl'}:6")
    assert message in named.message


@pytest.mark.trains
def test_records_that_were_not_watched_are_said_to_be(tmp_path, store):
    lines = board(Prescribed(REGISTRY, store), "herding", conduct=None)
    found = check_records(write(tmp_path, lines), registry=REGISTRY, store=store).findings
    assert any("records before schema 5 do not tell what plugins did" in each.message for each in found)


def test_what_an_import_reads_is_no_data_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a method that imports the same library would be accused of reading data."""
    data, zones = tmp_path / "images.npz", tmp_path / "zones.txt"
    for file in (data, zones):
        file.write_bytes(b"x")
    (tmp_path / "reads_zones.py").write_text(f"open({str(zones)!r}).close()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with files_opened() as files:
        importlib.import_module("reads_zones")
        importlib.metadata.version("numpy")
        data.open("rb").close()
    assert files == {str(data)}


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
def test_data_that_are_read_while_something_is_imported_are_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook's or a plugin's module may load a data set at its top; what imports that module says nothing."""
    package = tmp_path / "ships_data"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "images.csv").write_text("1", encoding="utf-8")
    (tmp_path / "loads_at_import.py").write_text(
        "from importlib import resources\n"
        "from bench.confinement.watch import files_opened\n"
        "with files_opened() as FILES:\n"
        "    resources.read_text('ships_data', 'images.csv')\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    opened = importlib.import_module("loads_at_import").FILES
    assert opened == {str(package / "images.csv")}
