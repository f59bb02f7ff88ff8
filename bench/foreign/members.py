"""Files of a tree, a tar (also .gz, .bz2, .xz, .zst) or a zip, by name, read in place: nothing is ever extracted.

Links, devices and pipes are no members. Hidden files and what file managers leave behind are left out.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import zstandard

from bench.errors import UserError
from bench.foreign.bounds import check_members, check_unpacked, regular, unpacked_limit

JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")
_Opener = Callable[[IO[bytes]], Any]
_PACKED: tuple[tuple[bytes, _Opener], ...] = (  # how a packed file begins, and what reads it
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", lambda file: zstandard.ZstdDecompressor().stream_reader(file)),
)


@dataclass(frozen=True)
class Member:
    """A file of a tree or of an archive."""

    name: str  # relative, parts joined by "/"
    read: Callable[[], bytes]


def _member(name: str, read: Callable[[], bytes], file: Path) -> Member:
    """A member of a tree or an archive, read when it is asked for: what cannot be read then is a UserError."""

    def read_whole() -> bytes:
        try:
            return read()
        except (UserError, MemoryError):
            raise
        except Exception as error:  # a checksum, a cut end, a right that was taken away
            raise UserError(f"{file}: {name} cannot be read: {error or type(error).__name__}") from None

    return Member(name, read_whole)


def is_junk(name: str) -> bool:
    """Whether a file manager left it behind (`.DS_Store`, `._0.png`, `__MACOSX/...`), or it is hidden."""
    return any(part.startswith(".") or part in JUNK for part in name.split("/"))


def tree_members(root: Path) -> list[Member]:
    """All files below a folder, by name. Raises UserError for links that lead out of it, for pipes and for devices."""
    top = root.resolve()
    members: list[Member] = []
    for folder, folders, files in os.walk(root):
        place = Path(folder)
        folders[:] = sorted(name for name in folders if not is_junk(name))
        for name in (*folders, *files):
            path = place / name
            if is_junk(name) or not path.is_symlink():
                continue
            target = Path(os.path.realpath(path))  # resolve() raises at a link that leads to itself
            if os.path.isdir(path) or not target.is_relative_to(top):
                raise UserError(f"{path} is a link to {target}: put the files themselves into {root}.")
        for name in files:
            if not is_junk(name):
                path = regular(place / name)
                members.append(_member(path.relative_to(root).as_posix(), path.read_bytes, path))
        check_members(root, len(members))
    return sorted(members, key=lambda member: member.name)


def archive_members(file: Path) -> list[Member]:
    """All files of a tar or a zip, by name, without the folder that holds them all, if one does.

    A packed tar is unpacked once, in memory; a plain tar and a zip are read where a member lies.

    Raises:
        UserError: no archive, a link or a device in it, an encrypted member, or it would unpack to too much.
    """
    regular(file)
    try:
        members = list(_zip_members(file) if zipfile.is_zipfile(file) else _tar_members(file))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # each of the libraries has errors of its own, and lets others through
        raise UserError(f"{file} cannot be read as an archive: {error or type(error).__name__}") from None
    members = [member for member in members if not is_junk(member.name)]
    while members and (top := _only_folder(members)):
        members = [Member(member.name.removeprefix(f"{top}/"), member.read) for member in members]
    return sorted(members, key=lambda member: member.name)


def _only_folder(members: list[Member]) -> str:
    """The folder that all members lie in, where the folders of the classes lie in it."""
    tops = {member.name.partition("/")[0] for member in members}
    deep = all(member.name.count("/") >= 2 for member in members)
    return tops.pop() if len(tops) == 1 and deep else ""


def _zip_members(file: Path) -> Iterator[Member]:
    archive = zipfile.ZipFile(file)
    listed = [info for info in archive.infolist() if not info.is_dir()]
    check_members(file, len(listed))
    check_unpacked(file, file.stat().st_size, sum(info.file_size for info in listed))
    for info in listed:
        if info.flag_bits & 1:
            raise UserError(f"{file}: {info.filename} is encrypted.")
        yield _member(_clean(info.filename), partial(archive.read, info), file)


def _tar_members(file: Path) -> Iterator[Member]:
    with file.open("rb") as raw:
        start = raw.read(6)
        raw.seek(0)
        reader = next((each for magic, each in _PACKED if start.startswith(magic)), None)
        limit = unpacked_limit(file.stat().st_size)
        if reader is None:
            with tarfile.open(fileobj=raw, mode="r:") as archive:
                for member in _files_of(archive, file):
                    yield _member(_clean(member.name), partial(_read_at, file, member.offset_data, member.size), file)
            return
        bounded = _Bounded(reader(raw), limit, file)
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            for member in _files_of(archive, file):
                content = archive.extractfile(member)
                data = b"" if content is None else content.read()
                yield Member(_clean(member.name), partial(bytes, data))


def _files_of(archive: tarfile.TarFile, file: Path) -> Iterator[tarfile.TarInfo]:
    packed, unpacked = file.stat().st_size, 0
    for count, member in enumerate(archive):
        check_members(file, count)
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise UserError(f"{file}: {member.name} is a link, a device or a file with holes; pack plain files.")
        unpacked += member.size
        check_unpacked(file, packed, unpacked)
        yield member


def _read_at(file: Path, offset: int, size: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(offset)
        return opened.read(size)


def _clean(name: str) -> str:
    """The name with "/" between its parts. It names a class and orders images; nothing is written under it."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


class _Bounded(io.RawIOBase):
    """A stream that ends with an error once more than `limit` bytes have been read from it."""

    def __init__(self, file: IO[bytes], limit: int, name: Path) -> None:
        self._file, self._left, self._limit, self._name = file, limit, limit, name

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """As of any stream; a negative size reads up to the limit."""
        data = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            check_unpacked(self._name, self._name.stat().st_size, self._limit + 1)
        return data
