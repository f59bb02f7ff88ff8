"""Errata: a withdrawn protocol is not run, not released, and told with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import LockError, UserError
from bench.lock import differences, errata, release
from bench.lock.before_run import guard
from tests.worlds.locked import MINE, edit, folder, registry

TABLE = """
[[withdrawn]]
protocol = "mine-v1"
digest = "{digest}"
date = 2030-01-31
reason = "The batch was wrong. Use mine-v2."
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock's path; mine-v1 lies beside it and is withdrawn, by the first 16 digits of its digest."""
    monkeypatch.setattr(release, "LIBRARY_NETWORKS", ())
    found = folder(tmp_path, mine_v1=MINE)
    digest = differences.load(found.parent / "mine-v1.toml").digest
    found.with_name("errata.toml").write_text(TABLE.format(digest=digest[:16]))
    return found


@pytest.mark.parametrize("name", ["mine-v1", "mine-v1:scale=0.5"])
def test_a_withdrawn_protocol_does_not_run_and_the_reason_is_told(path: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"mine-v1 was withdrawn on 2030-01-31: The batch was wrong\. Use") as caught:
        guard(registry(path), [name], tmp_path / "store", path)
    assert not isinstance(caught.value, LockError)
    assert caught.value.exit_code == 2


def test_a_withdrawn_protocol_is_not_released(path: Path) -> None:
    with pytest.raises(UserError, match="withdrawn"):
        release.release(["mine-v1"], path, registry(path))


def test_other_values_under_the_id_and_other_ids_are_not_withdrawn(path: Path, tmp_path: Path) -> None:
    edit(path.parent / "mine-v1.toml", "batch = 10", "batch = 11")
    (path.parent / "mine-v2.toml").write_text(MINE)
    guard(registry(path), ["mine-v1", "mine-v2"], tmp_path / "store", path)


def test_a_digest_is_withdrawn_by_its_first_digits_or_in_full(path: Path) -> None:
    file, digest = path.with_name("errata.toml"), differences.load(path.parent / "mine-v1.toml").digest
    for told in (digest[:8], digest):
        file.write_text(TABLE.format(digest=told))
        found = errata.withdrawn("mine-v1:scale=0.1", digest, file)
        assert found is not None
        assert found.reason.startswith("The batch")
    assert errata.withdrawn("mine-v1", "0" * 64, file) is None
    assert errata.withdrawn("mine-v2", digest, file) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TABLE.format(digest="12345"), "digest"),
        (TABLE.format(digest="g" * 8), "digest"),
        ('[[withdrawn]]\nprotocol = "mine-v1"', "number 1: digest: Field required; date"),
        (TABLE.format(digest="0" * 8) + "colour = 1", "colour"),
        (TABLE.format(digest="0" * 8).replace("2030-01-31", '"soon"'), "date"),
        (TABLE.format(digest="0" * 8).replace('"mine-v1"', '""'), "protocol"),
        ('withdrawn = "mine-v1"', r"only \[\[withdrawn\]\] tables"),
        ("released = 1", r"only \[\[withdrawn\]\] tables"),
        ("[[withdrawn", "errata"),
    ],
)
def test_a_file_of_another_form_is_told_as_such(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "errata.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=told):
        errata.read(file)


def test_the_project_s_own_file_explains_its_form_by_a_table_that_is_valid(tmp_path: Path) -> None:
    errata.read()
    lines = [line.removeprefix("#     ") for line in errata.PATH.read_text().splitlines() if line.startswith("#     ")]
    example = tmp_path / "errata.toml"
    example.write_text("\n".join(lines))
    (found,) = errata.read(example)
    assert found.protocol == "example-v1"


def test_where_there_is_no_file_nothing_is_withdrawn(tmp_path: Path) -> None:
    assert errata.read(tmp_path / "errata.toml") == []
