"""Text of others, as data: text files, what may be shown of a text, and how much.

Names, messages and records come from plugins and from strangers. A terminal, a spreadsheet or a browser would obey
some of their letters. Everything that prints such text passes through `visible`, and what has no bound through `cut`.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.errors import UserError

MESSAGE = 2_000  # characters of a message that are kept
TRACEBACK = 20_000  # characters of a traceback that are kept
FILE_BYTES = 4 * 2**20  # of a text file that is read as a whole

# What has no picture of its own and changes what stands around it: control characters but line break and tab, marks of
# writing direction, zero-width letters, line and paragraph separators, halves of surrogate pairs, tags.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
# Colours and other orders to a terminal: CSI and OSC sequences.
_ORDERS = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def visible(text: str) -> str:
    r"""The text with every hidden or commanding character spelt out, as JSON spells it: ESC is \u001b."""
    return _HIDDEN.sub(_spelt, text)


def _spelt(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def without_orders(text: str) -> str:
    """The text without colours and other orders to a terminal."""
    return _ORDERS.sub("", text)


def cut(text: str, most: int = MESSAGE) -> str:
    """The text, or its beginning and its end with what is missing between them: at most `most` characters and a note.

    An exception tells its reason at the end of a traceback and at the beginning of a message; both are kept.
    """
    if len(text) <= most:
        return text
    head, tail = most - most // 4, most // 4
    return f"{text[:head]} [... {len(text) - head - tail:,} characters left out ...] {text[-tail:]}"


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, with any line ends.

    Raises UserError where the file holds something else, or more than `FILE_BYTES`.
    """
    with path.open("rb") as file:
        content = file.read(FILE_BYTES + 1)
    if len(content) > FILE_BYTES:
        raise UserError(
            f"{path} has more than {FILE_BYTES // 2**20} MiB, which no such file needs. Is it the right one?"
        )
    if content.startswith(_UTF16):
        raise UserError(
            f"{path} is no text file in UTF-8: it begins as UTF-16 does, which some editors write. Save it as UTF-8."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is no text file (UTF-8): byte {error.start} is {content[error.start]:#04x}. Save it as UTF-8."
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
