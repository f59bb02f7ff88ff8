"""The content of files is read once; only a file's path, size or time has it read again."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError
from bench.photographs import manifest
from bench.photographs.listing import joined, list_folder
from bench.photographs.manifest import content_digests


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read."""
    names: list[str] = []
    honest = manifest.file_digest

    def reading(file: str) -> bytes:
        names.append(os.path.basename(file))
        return honest(file)

    monkeypatch.setattr(manifest, "file_digest", reading)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "owl"
    folder.mkdir()
    for index in range(9):
        (folder / f"{index}.png").write_bytes(bytes([index] * 5))
    return folder


def expected(folder: Path) -> list[bytes]:
    return [hashlib.sha256(each.read_bytes()).digest() for each in sorted(folder.glob("*.png"))]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00v\x00{'descr': (((", bytes(200), slice(-5), slice(30)])
def test_a_damaged_manifest_is_made_again(damage: bytes | slice, folder: Path, tmp_path: Path, read: list) -> None:
    digests(folder, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").glob("*.manifest.npy")
    whole = kept.read_bytes()
    kept.write_bytes(whole[damage] if isinstance(damage, slice) else damage)
    read.clear()
    assert digests(folder, tmp_path / "kept") == expected(folder)
    assert len(read) == 9
    assert kept.read_bytes() == whole


def digests(folder: Path, kept: Path | None) -> list[bytes]:
    return [each.tobytes() for each in content_digests(list_folder(folder), kept)]


def test_a_file_is_read_once_and_again_only_where_it_was_exchanged(folder: Path, tmp_path: Path, read: list) -> None:
    assert digests(folder, tmp_path / "kept") == expected(folder)
    assert sorted(read) == [f"{index}.png" for index in range(9)]
    read.clear()
    assert digests(folder, tmp_path / "kept") == expected(folder)
    assert read == []
    (folder / "3.png").write_bytes(b"exchanged")
    (folder / "new.png").write_bytes(b"new")
    (folder / "5.png").unlink()
    assert digests(folder, tmp_path / "kept") == expected(folder)
    assert sorted(read) == ["3.png", "new.png"]


def test_without_a_folder_every_file_is_read_anew(folder: Path, read: list) -> None:
    assert digests(folder, None) == digests(folder, None) == expected(folder)
    assert len(read) == 18


def test_another_folder_of_the_same_names_sizes_and_times_is_read(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "owl"
    shutil.copytree(folder, other)
    state = os.stat(other / "4.png")
    (other / "4.png").write_bytes(b"other")
    os.utime(other / "4.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert digests(folder, tmp_path / "kept") == expected(folder)
    assert digests(other, tmp_path / "kept") == expected(other)


def test_what_was_read_before_a_kill_is_kept(folder: Path, tmp_path: Path, read: list, monkeypatch) -> None:
    monkeypatch.setattr(manifest, "PART", 4)
    honest = manifest._hashed

    def killed(files):
        if os.path.basename(files[0]) == "4.png":
            raise KeyboardInterrupt
        return honest(files)

    with monkeypatch.context() as patched:
        patched.setattr(manifest, "_hashed", killed)
        with pytest.raises(KeyboardInterrupt):
            digests(folder, tmp_path / "kept")
    assert sorted(read) == ["0.png", "1.png", "2.png", "3.png"]
    read.clear()
    counts: list[int] = []
    found = content_digests(list_folder(folder), tmp_path / "kept", counts.append)
    assert [each.tobytes() for each in found] == expected(folder)
    assert sorted(read) == ["4.png", "5.png", "6.png", "7.png", "8.png"]
    assert counts == [4, 1]
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 1


def test_a_manifest_is_an_array_as_numpy_saves_it(folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Those of earlier versions were, and are read."""
    monkeypatch.setattr(manifest, "PART", 4)
    digests(folder, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").glob("*.manifest.npy")
    rows = np.load(kept)
    assert rows.dtype == manifest.ROW
    assert [each.tobytes() for each in rows["sha256"]] == expected(folder)
    np.save(tmp_path / "again.npy", rows)
    assert (tmp_path / "again.npy").read_bytes() == kept.read_bytes()


def test_a_file_that_is_listed_twice_is_known_twice(folder: Path, tmp_path: Path, read: list) -> None:
    digests(folder, tmp_path / "kept")
    read.clear()
    twice = joined([list_folder(folder), list_folder(folder)[2:5]])
    content = content_digests(twice, tmp_path / "kept")
    assert [each.tobytes() for each in content] == expected(folder) + expected(folder)[2:5]
    assert read == []


def test_a_damaged_manifest_of_others_is_passed_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / f"a{manifest.SUFFIX}").write_bytes(b"no array")
    np.save(tmp_path / "kept" / f"b{manifest.SUFFIX}", np.zeros(3))
    assert digests(folder, tmp_path / "kept") == expected(folder)


def test_a_file_that_cannot_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    files = list_folder(folder)
    (folder / "7.png").unlink()
    with pytest.raises(UserError, match=r"7\.png cannot be read: No such file"):
        content_digests(files, tmp_path / "kept")
