"""Former code digests: those of records of schema 1 to 3, and of the same code by today's rule.

Until schema 3 a digest covered the text of import lines, and nothing of bench/ behind them. code_digests.json holds the
digests by both rules of every method, compressor and network as they stood when the rule changed. It also holds changes
of code that change no byte of what was recorded, each with the reason and the commits on both sides.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("code_digests.json")


def renewed(digest: str | None) -> str | None:
    """The digest by today's rule of the code that has this one by the former rule; as it is where that is not known."""
    return digest if digest is None else _after().get(digest, digest)


def former(digest: str) -> tuple[str, ...]:
    """The digests by the former rule of the code that has this one by today's; none for code of today."""
    return tuple(before for before, after in _after().items() if after == digest)


def equal(digest: str | None) -> str | None:
    """The digest of later code that gives the same bytes as the code of this one; as it is where there is none."""
    while digest is not None and digest in _equal():  # code that changed twice
        digest = _equal()[digest]
    return digest


@cache
def _equal() -> dict[str, str]:
    changes = json.loads(FILE.read_text(encoding="utf-8"))["equal"]
    return {before: after for change in changes for before, after in change["digests"].values()}


@cache
def _after() -> dict[str, str]:
    code = json.loads(FILE.read_text(encoding="utf-8"))["digests"].values()
    return {before: each["after"] for each in code for before in each["before"]}
