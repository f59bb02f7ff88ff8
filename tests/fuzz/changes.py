"""Changed inputs: bytes, JSON and TOML values, parts of a file; all drawn from one generator."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.worlds import ROOT

Files = dict[str, bytes]  # name -> content; a name that begins with LINK or PIPE is one
LINK, PIPE = "link ", "pipe "

ODD: tuple[Any, ...] = (
    None, True, "", "x", "\x1b[2J", "\u202e", "\ud800", "9" * 400 + "x", 0, -1, 2**53, 2**63, 10**400, 1.5, -0.0, 1e308,
    [], {}, [[]], {"by": "ipc"}, ["a", 1], "a:b=c,d=e", "../../x", "\x00",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**36, 2**62, 2**63)
MOST = 200_000  # bytes of an input: what is doubled and doubled again would cost time and find nothing new


@cache
def content(path: str) -> bytes:
    """A file of the project."""
    return (ROOT / path).read_bytes()


def bytes_changed(data: bytes, random: Random, most: int = 4) -> bytes:
    """A few bytes changed, cut out, doubled or put in; now and then the end is cut off."""
    out = bytearray(data)
    for _ in range(random.randint(1, most)):
        at, length = random.randrange(len(out) + 1), random.choice((1, 1, 2, 8, 64))
        kind = random.randrange(9)
        if kind < 3:
            out[at : at + length] = random.randbytes(min(length, len(out) - at))
        elif kind < 4:
            del out[at : at + length]
        elif kind < 5:
            out[at:at] = out[at : at + length] * random.choice((1, 2, 50))
        elif kind < 6:
            del out[at:]
        elif kind < 7:
            number, width = random.choice(NUMBERS), random.choice((1, 2, 4, 8))
            order = random.choice(("little", "big"))
            out[at : at + width] = (number % 256**width).to_bytes(width, order)
        elif kind < 8 and at < len(out):
            out[at] = (out[at] + random.choice((-1, 1, 128))) % 256
        else:
            out[at:at] = random.choice((b"[", b"{", b'"', b"9", b".", b"-", b"\xff", b"\x00", b"e9")) * random.choice(
                (1, 9, 3000)
            )
    return bytes(out[:MOST])


def spliced(one: bytes, other: bytes, random: Random) -> bytes:
    """The beginning of one input and the end of another."""
    return one[: random.randrange(len(one) + 1)] + other[random.randrange(len(other) + 1) :]


def value_changed(value: Any, random: Random) -> Any:
    """A JSON or TOML value with one part changed, left out or doubled."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(sorted(value))
        kind = random.random()
        if kind < 0.1:
            return {name: each for name, each in value.items() if name != key}
        if kind < 0.15:
            return {**value, str(random.choice(ODD)): random.choice(ODD)}
        return {**value, key: value_changed(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.8:
        at = random.randrange(len(value))
        return [*value[:at], value_changed(value[at], random), *value[at:][: random.randrange(3)]]
    return random.choice(ODD)


def as_toml(value: Any) -> str:
    """A value as TOML; what TOML lacks becomes text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(str(key))} = {as_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=True).replace("\\ud800", "?")


def toml_changed(path: str, random: Random) -> bytes:
    """A TOML file of the project, changed."""
    if random.random() < 0.5:
        return bytes_changed(content(path), random)
    changed = value_changed(_toml(path), random)
    if not isinstance(changed, Mapping):
        return b"x"
    return "\n".join(f"{as_toml(str(key))} = {as_toml(each)}" for key, each in changed.items()).encode()


@cache
def _toml(path: str) -> dict[str, Any]:
    return tomllib.loads(content(path).decode())


def name_changed(name: str, random: Random) -> str:
    """The name of a file, changed; it stays below the folder that it is written to."""
    text = bytes_changed(name.encode("utf-8", "surrogateescape"), random, 2).decode("utf-8", "surrogateescape")
    parts = [part[:100].encode("utf-8", "surrogateescape")[:200] for part in text.split("/")]
    kept = [part for part in parts if part.strip(b".") and b"\0" not in part]
    return "/".join(part.decode("utf-8", "surrogateescape") for part in kept[:6]) or "x"


def tree_changed(files: Files, random: Random) -> Files:
    """A tree with a file changed, left out, doubled, renamed, or in its place a link or a pipe."""
    out = dict(files)
    for _ in range(random.randint(1, 3)):
        name = random.choice(sorted(out)) if out else "x"
        kind = random.randrange(10)
        data = out.pop(name, b"")
        if kind < 5:
            out[name] = bytes_changed(data, random)
        elif kind < 7:
            out[name_changed(name, random)] = data
        elif kind < 8:
            out[name] = out[f"{name}.2"] = data
        elif kind < 9:
            target = random.choice(("/etc", "/dev/zero", ".", "..", "missing", name.rpartition("/")[2] or "."))
            out[f"{LINK}{name}"] = target.encode("utf-8", "surrogateescape")
        elif random.random() < 0.5:
            out[f"{PIPE}{name}"] = b""
    return out


def placed(files: Files, folder: Path) -> None:
    """Write the files of an input below a folder. What a file system does not take is left out."""
    for name, data in files.items():
        path = folder / name.removeprefix(LINK).removeprefix(PIPE)
        try:
            if path.parent != folder:
                path.parent.mkdir(parents=True, exist_ok=True)
            if name.startswith(LINK):
                path.symlink_to(data.decode("utf-8", "surrogateescape"))
            elif name.startswith(PIPE):
                import os

                os.mkfifo(path)
            else:
                path.write_bytes(data)
        except (OSError, ValueError):
            continue
