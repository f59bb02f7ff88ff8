"""The limit of decoded pixels on disk: `--cache-limit`, $CONDENSEBENCH_CACHE_LIMIT, or 32 GB."""

from __future__ import annotations

import os
import re

from bench.errors import UserError

VARIABLE = "CONDENSEBENCH_CACHE_LIMIT"
DEFAULT = "32GB"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def place_limit(text: str) -> None:
    """Make `--cache-limit` known to this process and to all that it starts. Raises UserError where it is no size."""
    parse_size(text, "--cache-limit")
    os.environ[VARIABLE] = text


def cache_limit() -> int:
    """Bytes of decoded pixels that may be kept in a store; 0: none are kept. Raises UserError."""
    return parse_size(os.environ.get(VARIABLE) or DEFAULT, f"${VARIABLE}")


def parse_size(text: str, where: str) -> int:
    """Bytes of a text such as 200GB. Raises UserError, which says where the text stands."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([a-zA-Z]{0,2})\s*", text)
    unit = match and match[2].upper()
    if match is None or unit not in _UNITS:
        raise UserError(f"{where}={text} is no size; type for instance 200GB (B, kB, MB, GB or TB), or 0 to keep none.")
    return int(float(match[1]) * _UNITS[unit])


def shown(size: int) -> str:
    """A size as it is told: 192.8 GB."""
    for unit in ("TB", "GB", "MB", "kB"):
        if size >= _UNITS[unit.upper()]:
            return f"{size / _UNITS[unit.upper()]:,.1f} {unit}"
    return f"{size} B"
