"""JSON that a page loads as a script: no markup, no control characters, each large value once."""

from __future__ import annotations

import json
import math
from typing import Any

from bench.texts import visible

# What could end a script, or a line of one, becomes an escape of JSON: the values stay the same.
_IN_SCRIPTS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def script(name: str, value: Any) -> str:
    """A script that sets a global variable to a value."""
    return f"{name} = {as_script_json(value)};\n"


def part(name: str, key: str, value: Any) -> str:
    """A script that adds one entry to a global object, which several such scripts share."""
    return f"window.{name} = window.{name} || {{}};\n{script(f'{name}[{json.dumps(key)}]', value)}"


def as_script_json(value: Any) -> str:
    """A value as JSON that is safe within a script; nan and infinity are null."""
    text = json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_IN_SCRIPTS)


def plain(value: Any) -> Any:
    """JSON values of any value of a record or a row: what is missing is null, and text is `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "item"):  # a scalar of numpy
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None  # pandas' NA


class Pool:
    """Values that many records share, each kept once; a record refers to them by number."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, value: Any) -> int:
        """The number of a value, which is added where it is new."""
        key = json.dumps(plain(value), sort_keys=True)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(plain(value))
        return self._numbers[key]
