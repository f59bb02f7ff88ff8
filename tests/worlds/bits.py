"""Digests of all that is drawn, picked, encoded or trained, as one process makes it: `python -m tests.worlds.bits`.

Prints JSON: name -> sha256. The data set is `digits` with the teacher that ships, one image per class; native or
portable as the environment of the process says.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace, read_condensed
from bench.errors import InfeasibleError
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages import isolation
from bench.stages.condense import condense
from bench.stages.evaluate import evaluate
from bench.stages.teach import teach
from bench.trials.trial import Trial
from tests.worlds.compressors import NAMES, encode, module, noise

RECOVERED = ("sre2l", "cda", "dwa", "dm", "dc", "dsa", "gvbsm", "edc", "lpld")


def sha(*parts: object) -> str:
    """Hex sha256 of arrays and values."""
    content = hashlib.sha256()
    for part in parts:
        content.update(
            np.ascontiguousarray(part).tobytes() if not isinstance(part, bytes | str) else str(part).encode()
        )
    return content.hexdigest()


def data_sets(ws: Workspace) -> Iterator[tuple[str, str]]:
    """Both splits and the constants of the embedded data sets."""
    for spec in ("digits", "mnist5k", "glyphs:classes=10"):
        yield f"data set {spec}", describe(ws, spec).digest


def picks(ws: Workspace) -> Iterator[tuple[str, str]]:
    """The condensed set of every selection method, and of those that cut or mix images."""
    dataset = describe(ws, "digits")
    teacher = teach(ws, "small-teacher-v1", dataset)
    for plugin in ws.registry.all("method"):
        if plugin.name in ("folder", *RECOVERED):
            continue
        ref = condense(
            ws, str(parse(ws.registry, "method", plugin.name)), dataset, teacher, 1, 0, not plugin.unbalanced
        )
        arrays = read_condensed(ws, ref).arrays
        yield f"method {plugin.name}", sha(arrays["images"], arrays["labels"])


def blobs() -> Iterator[tuple[str, str]]:
    """Encoded and decoded labels of every compressor."""
    logits = noise(6, 9, 14, 1)
    for name in NAMES:
        options = {"steps": 4} if name == "vq" else {}
        try:
            blob = encode(name, logits, 900, **options)
        except InfeasibleError as error:
            blob = encode(name, logits, error.smallest_bytes, **options)
        yield f"compressor {name}", sha(blob, module(name).decode(blob).numpy())


def training(ws: Workspace) -> Iterator[tuple[str, str]]:
    """A student of a whole trial, by its losses."""
    dataset = describe(ws, "digits")
    teacher = teach(ws, "small-teacher-v1", dataset)
    trial = Trial("digits", "small-hard-v1", "random", 1, None, None, "convnet:width=16", 0)
    condensed = condense(ws, "random", dataset, teacher, 1, 0)
    isolation._method_code_ran = False  # nothing here is a result
    fields = evaluate(ws, trial, dataset, condensed)
    yield (
        "student convnet:width=16",
        sha(*(float(fields[key]).hex() for key in ("accuracy", "test_loss", "train_loss"))),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), discover())
        digests = dict([*data_sets(workspace), *blobs(), *picks(workspace), *training(workspace)])
    json.dump(digests, sys.stdout, indent=1, sort_keys=True)
