"""Standard output and error as the program writes to them: text of others is shown, never obeyed, in any encoding."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from bench.texts import visible

# What a terminal of cp1252, latin-1 or ASCII is given where it has no letter for a sign of ours.
PLAIN = {"±": "+-", "≥": ">=", "≤": "<=", "×": "x", "–": "-", "—": "-", "…": "...", "→": "->", "█": "#", "■": "#"}
ERRORS = "condensebench"  # the name of `_plain` among Python's ways to handle a letter that an encoding lacks


class Shown(io.TextIOBase):
    """A text stream that spells out what a terminal would obey (see bench.texts.visible).

    `rich_proxied_file` is the stream itself: rich draws its bars there, of texts that its callers made visible.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """UTF-8: every letter is taken, whatever the stream itself can write."""
        return "utf-8"

    def write(self, text: str) -> int:
        """Write the text made visible; returns its length, as streams do."""
        with self._read_or_not():
            self.rich_proxied_file.write(visible(text))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        with self._read_or_not():
            self.rich_proxied_file.flush()

    @contextlib.contextmanager
    def _read_or_not(self) -> Iterator[None]:
        """Go on where the reader of a pipe (`| head`) has seen enough: a verb does its work and keeps its exit code."""
        try:
            yield
        except BrokenPipeError:
            unread(self.rich_proxied_file)
        except OSError as error:  # a disk that is full
            error.filename = self.rich_proxied_file.name
            raise

    def writable(self) -> bool:
        """True: it is for writing."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.rich_proxied_file.isatty()

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self.rich_proxied_file.fileno()

    def close(self) -> None:
        """Close the stream."""
        self.rich_proxied_file.close()

    @property
    def closed(self) -> bool:
        """Whether the stream is closed."""
        return self.rich_proxied_file.closed

    def __del__(self) -> None:
        """Leave the stream open: a stream that is collected would close it, and it belongs to the caller."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)  # buffer and the like


def unread(stream: TextIO) -> None:
    """Let what else is written to a stream that nobody reads go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def protect_streams() -> None:
    """Put `Shown` in the place of standard output and error, once; a stream that is not there stays away."""
    codecs.register_error(ERRORS, _plain)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Shown):
            setattr(sys, name, Shown(stream))


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter) or ascii(letter)[1:-1] for letter in letters), error.end
