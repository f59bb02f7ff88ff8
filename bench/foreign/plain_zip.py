"""A zip of plain files with plain names, as one side writes it and a stranger may have changed it.

Written, it has the same bytes for the same files: no times, no owners, names in order. Read, it stays in memory and in
bounds: no link, no folder, no name that leads out of a folder, nothing that unpacks to more than it says.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from bench.errors import UserError
from bench.foreign.bounds import check_unpacked, regular

MOST_FILES = 1_000
MOST_PACKED = 256 * 2**20  # bytes of an archive
MOST_UNPACKED = 1024 * 2**20  # bytes of all its files together
LONGEST_NAME = 120
EARLIEST = (1980, 1, 1, 0, 0, 0)  # of the times that a zip can tell
PLAIN_FILE = stat.S_IFREG | 0o644

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)?")  # at most one folder deep
_END = b"PK\x05\x06"  # how the record begins that ends a zip
_END_BYTES = 22  # of that record; a comment of up to 65,535 bytes may follow
_ENTRY_BYTES = 46 + 2 * 65_535  # at most, of one file in the list of all files


class UnsafeArchive(UserError):
    """An archive that is no zip of plain files, or that unpacks to more than it may."""


def is_plain_name(name: str) -> bool:
    """Whether a file of such an archive may be called so: letters, digits, `.`, `_`, `+`, `-`, and one folder."""
    return len(name) <= LONGEST_NAME and _NAME.fullmatch(name) is not None


def packed(files: Mapping[str, bytes]) -> bytes:
    """The archive of these files, the same for the same files. Raises ValueError for a name that is not plain."""
    if bad := sorted(name for name in files if not is_plain_name(name)):
        raise ValueError(f"no plain name: {bad[0]!r}")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EARLIEST)
            info.create_system = 3  # Unix, wherever it is written
            info.external_attr = PLAIN_FILE << 16
            archive.writestr(info, files[name], zipfile.ZIP_DEFLATED, compresslevel=9)
    return content.getvalue()


def unpacked(file: Path) -> dict[str, bytes]:
    """Every file of an archive by its name.

    Raises:
        UnsafeArchive: what it holds is more than plain files with plain names, or larger than it may be.
        UserError: no regular file.
    """
    size = regular(file).stat().st_size
    if size > MOST_PACKED:
        raise UnsafeArchive(f"{file.name} takes {size:,} bytes; at most {MOST_PACKED:,} are read.")
    content = file.read_bytes()
    _check_list(file.name, content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            listed = archive.infolist()
            _check(file, size, listed)
            return {info.filename: archive.read(info) for info in listed}
    except UserError as error:
        raise error if isinstance(error, UnsafeArchive) else UnsafeArchive(str(error)) from None
    except MemoryError:
        raise
    except Exception as error:  # zipfile and zlib raise what comes
        raise UnsafeArchive(f"{file.name} cannot be unpacked: {error or type(error).__name__}") from None


def _check_list(name: str, content: bytes) -> None:
    """Raise UnsafeArchive where the list of files is longer than any such archive's, before anything reads it."""
    start = content.rfind(_END, max(0, len(content) - _END_BYTES - 65_535))
    if start < 0 or len(content) < start + _END_BYTES:
        raise UnsafeArchive(f"{name} is no zip archive.")
    count, size = struct.unpack_from("<HL", content, start + 10)
    if count > MOST_FILES or size > MOST_FILES * _ENTRY_BYTES:
        raise UnsafeArchive(f"{name} lists {count:,} files in {size:,} bytes; at most {MOST_FILES:,} files are read.")


def _check(file: Path, size: int, listed: list[zipfile.ZipInfo]) -> None:
    if len(listed) > MOST_FILES:
        raise UnsafeArchive(f"{file.name} holds {len(listed):,} files; at most {MOST_FILES:,} are read.")
    total = sum(info.file_size for info in listed)
    check_unpacked(file.name, size, total)
    if total > MOST_UNPACKED:
        raise UnsafeArchive(f"{file.name} would unpack to {total:,} bytes; at most {MOST_UNPACKED:,} are read.")
    if sum(info.compress_size for info in listed) > size:
        raise UnsafeArchive(f"{file.name}: its files overlap: the same bytes stand for several of them.")
    seen: dict[str, str] = {}
    for info in listed:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir() or kind not in (0, stat.S_IFREG):
            what = "a link" if kind == stat.S_IFLNK else "a folder or a device"
            raise UnsafeArchive(f"{file.name}: {info.filename!r} is {what}; plain files alone are read.")
        if not is_plain_name(info.orig_filename):
            raise UnsafeArchive(
                f"{file.name}: {info.orig_filename[:LONGEST_NAME]!r} is no plain name: letters, digits and . _ + -, "
                "at most one folder deep. Nothing was unpacked."
            )
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeArchive(f"{file.name}: {info.filename!r} is encrypted, or packed in a way that is not read.")
        other = seen.setdefault(info.filename.casefold(), info.filename)
        if other is not info.filename:
            raise UnsafeArchive(f"{file.name} holds both {other!r} and {info.filename!r}: one name for one file.")
