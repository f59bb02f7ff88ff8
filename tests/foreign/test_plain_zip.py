"""A zip of plain files: the same bytes for the same files, and nothing of a stranger's leaves its bounds."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.foreign import bounds, plain_zip
from bench.foreign.plain_zip import UnsafeArchive, packed, unpacked

FILES = {"records.jsonl": b"a line\n", "plugins/mine.py": b"code\n", "checks/records.json": b"[]"}


ELSEWHERE = (
    "/etc/passwd", "../../up", "a/../../b", "a/b/c", "C:\\Windows\\x", "\\\\host\\x", ".ssh", "a\0b", "é", "a b"
)  # fmt: skip


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "sent.zip"
    path.write_bytes(content)
    return path


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return content.getvalue()


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def test_what_was_packed_comes_back(tmp_path: Path) -> None:
    assert unpacked(write(tmp_path, packed(FILES))) == FILES


def test_the_bytes_are_those_of_the_files_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    once = packed(FILES)
    monkeypatch.setattr("time.time", lambda: 2e9)
    os.umask(os.umask(0o077))
    assert packed(dict(reversed(FILES.items()))) == once
    assert packed({**FILES, "plan.toml": b""}) != once


def test_only_plain_names_are_packed() -> None:
    for name in ("/etc/passwd", "../up", "a/b/c", "C:\\x", ".hidden", "with space", "", "a/", "x" * 121, "ä"):
        with pytest.raises(ValueError, match="no plain name"):
            packed({name: b""})


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../up", "a/../../b", "a/b/c", "C:\\Windows\\x", "\\\\host\\x", ".ssh", "a\0b", "é", "a b"],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    content = zipped((name.replace("\0", "!"), b"x")).replace(b"a!b", b"a\0b")  # zipfile would cut the name there
    with pytest.raises(UnsafeArchive, match="no plain name"):
        unpacked(write(tmp_path, content))


def test_links_devices_and_folders_are_refused(tmp_path: Path) -> None:
    for mode, what in ((stat.S_IFLNK | 0o777, "a link"), (stat.S_IFIFO, "a device"), (stat.S_IFDIR, "a folder")):
        with pytest.raises(UnsafeArchive, match=what):
            unpacked(write(tmp_path, zipped((entry("x", mode), b"/etc/passwd"))))
    with pytest.raises(UnsafeArchive, match="a folder"):
        unpacked(write(tmp_path, zipped(("plugins/", b""))))


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = zipped(("records.jsonl", b"1"), ("records.jsonl", b"2"))
    with pytest.raises(UnsafeArchive, match="both"):
        unpacked(write(tmp_path, content))
    with pytest.raises(UnsafeArchive, match="both"):
        unpacked(write(tmp_path, zipped(("Records.jsonl", b"1"), ("records.jsonl", b"2"))))


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FREE_BYTES", 2**20)
    with pytest.raises(UnsafeArchive, match="would unpack to"):
        unpacked(write(tmp_path, zipped(("zeros", b"\0" * (9 * 2**20)))))
    monkeypatch.setattr(plain_zip, "MOST_UNPACKED", 10)
    with pytest.raises(UnsafeArchive, match="at most 10"):
        unpacked(write(tmp_path, zipped(("few", b"hello, world"))))
    monkeypatch.setattr(plain_zip, "MOST_PACKED", 10)
    with pytest.raises(UnsafeArchive, match="at most 10"):
        unpacked(write(tmp_path, zipped(("few", b"hello"))))


def test_a_size_that_is_a_lie_unpacks_to_no_more_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FREE_BYTES", 2**10)
    content = zipped(("zeros", b"\0" * 2**20))
    small = content.replace(struct.pack("<L", 2**20), struct.pack("<L", 16))
    assert small != content
    with pytest.raises(UnsafeArchive):
        unpacked(write(tmp_path, small))


def test_files_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("first", os.urandom(5_000))
        for number in range(20):  # further names for the same bytes
            info = zipfile.ZipInfo(f"again{number}")
            original = archive.getinfo("first")
            for field in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(info, field, getattr(original, field))
            archive.filelist.append(info)
    with pytest.raises(UnsafeArchive, match=r"overlap|differ"):
        unpacked(write(tmp_path, content.getvalue()))


def test_more_files_than_there_may_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_zip, "MOST_FILES", 3)
    with pytest.raises(UnsafeArchive, match="lists 4 files"):
        unpacked(write(tmp_path, zipped(*((f"f{n}", b"") for n in range(4)))))
    content = zipped(*((f"f{n}", b"") for n in range(4)))
    fewer = content[:-12] + struct.pack("<HL", 1, 1) + content[-6:]  # what ends the archive says that there is one
    with pytest.raises(UnsafeArchive):
        unpacked(write(tmp_path, fewer))


def test_other_packings_and_damage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchive, match="not read"):
        unpacked(write(tmp_path, zipped(("a", b"x" * 100), method=zipfile.ZIP_LZMA)))
    content = bytearray(packed({"a": os.urandom(1000)}))
    content[500] ^= 1
    with pytest.raises(UnsafeArchive, match="cannot be unpacked"):
        unpacked(write(tmp_path, bytes(content)))
    for bad in (b"", b"PK", b"no archive at all", packed(FILES)[:-30]):
        with pytest.raises(UnsafeArchive, match="no zip archive"):
            unpacked(write(tmp_path, bad))


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "nowhere"):
        with pytest.raises(UserError):
            unpacked(path)
