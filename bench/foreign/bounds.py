"""Bounds of every file that a stranger made: regular files alone, and no more bytes than a real one would unpack to."""

from __future__ import annotations

import stat
from pathlib import Path

from bench.errors import UserError

MAX_PIXELS = 100_000_000  # of one picture: its RGB takes 300 MB
MAX_RATIO = 100  # unpacked bytes for each packed one; pictures and logits stay far below
FREE_BYTES = 64 * 2**20  # that any file may unpack to, however small it is
MAX_MEMBERS = 3_000_000  # files of a tree or of an archive


def regular(path: Path) -> Path:
    """The path of a regular file. Raises UserError for a folder, a pipe, a device, or where there is nothing.

    A pipe would be waited for without end; so it is never opened.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise UserError(f"{path} is {kind}, not a file.")
    return path


def unpacked_limit(packed: int) -> int:
    """Bytes that a file of `packed` bytes may unpack to."""
    return FREE_BYTES + MAX_RATIO * packed


def check_unpacked(name: str | Path, packed: int, unpacked: int) -> None:
    """Raise UserError where a file would unpack to more than any real one does."""
    if unpacked > unpacked_limit(packed):
        raise UserError(
            f"{name} takes {packed:,} bytes and would unpack to {unpacked:,}: more than {MAX_RATIO} times as much, as "
            f"no pictures or labels do. It was not unpacked."
        )


def check_members(name: str | Path, count: int) -> None:
    """Raise UserError for more files than any set has."""
    if count > MAX_MEMBERS:
        raise UserError(f"{name} holds more than {MAX_MEMBERS:,} files.")
