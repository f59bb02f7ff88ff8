"""Readers of what comes back from a plugin's process: JSON, and arrays in files beside it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch

from bench.confinement.wire import Closed, from_plugin, plain, rebuilt
from bench.errors import UserError
from tests.fuzz.changes import Files, bytes_changed, tree_changed, value_changed
from tests.fuzz.reader import Reader, folder, of_tree

MESSAGE = "message.json"
VALUE = {
    "images": torch.zeros(4, 1, 3, 3, dtype=torch.uint8), "labels": torch.arange(4), "indices": np.arange(4),
    "provenance": {"score": 0.5, "names": ["a", ("b", None)]}, "blob": b"some bytes",
}  # fmt: skip


@cache
def _honest() -> Files:
    place = folder() / "answer"
    place.mkdir()
    message = json.dumps({"value": plain(VALUE, place / "1")}).encode()
    return {MESSAGE: message, **{path.name: path.read_bytes() for path in sorted(place.iterdir())}}


def _answer(random: Random) -> Files:
    files = dict(_honest())
    kind = random.randrange(10)
    if kind < 4:
        changed = value_changed(json.loads(files[MESSAGE]), random)
        files[MESSAGE] = json.dumps(changed).encode()
    elif kind < 6:
        files[MESSAGE] = bytes_changed(files[MESSAGE], random)
    elif kind < 9:
        name = random.choice(sorted(set(files) - {MESSAGE}))
        files[name] = bytes_changed(files[name], random)
    else:
        message = files.pop(MESSAGE)
        files = {MESSAGE: message, **tree_changed(files, random)}
    return files


def _read(root: Path) -> None:
    try:
        rebuilt(from_plugin((root / MESSAGE).read_bytes()).get("value"), root / "1")
    except Closed as error:
        raise UserError(str(error)) from None


READERS: dict[str, Reader] = {"plugin-answer": of_tree(_answer, _read)}
