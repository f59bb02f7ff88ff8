"""A world in which a trial takes a fraction of a second: a data set of 48 images that logs who opens what, methods that
work, fail or kill their worker, and two protocols of two epochs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.worlds.plugins import write

VARY = {"finished", "seconds", "peak_bytes", "digest"}  # fields of a record that differ between two runs of one trial
LOG = """
import os


def log(*words):
    line = " ".join(map(str, (os.getpid(), os.environ.get("CONDENSEBENCH_ROLE", "-"), *words))) + "\\n"
    descriptor = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)

"""

DATASET = """
import hashlib

import numpy as np

from bench.api import Dataset


class Source:
    def __init__(self, split, images):
        self.split, rng = split, np.random.default_rng(len(split))
        self.labels = np.arange(images) % 3
        self.images = rng.integers(0, 60, (images, 1, 8, 8)).astype(np.uint8)
        self.images[:, 0, 2, 2] += (90 * self.labels).astype(np.uint8)

    def __len__(self):
        return len(self.labels)

    def read(self, indices):
        log("read", self.split)
        return self.images[indices]

    def digest(self):
        return hashlib.sha256(self.images.tobytes()).hexdigest()


def load(root):
    return Dataset(3, 1, 8, 8, False, (0.2,), (0.2,), lambda: Source("train", 48), lambda: Source("test", 24))
"""

FIRST = """
import numpy as np


def select(train, ipc, ctx, *, offset: int = 0):
    log("method first")
    return np.concatenate([train.class_indices(c)[offset : offset + ipc] for c in range(train.num_classes)])
"""

CHANCE = """
import numpy as np


def select(train, ipc, ctx):
    log("method chance")
    rng = ctx.numpy("choice")
    return np.concatenate([rng.choice(train.class_indices(c), ipc, replace=False) for c in range(train.num_classes)])
"""

PROTOCOL = """
title = "Two epochs"
source = "A test's own."
labels = "{labels}"
teacher = "small-teacher-v1"
student = "convnet:width=4"
[recipe]
epochs = 2
batch = 8
views = {views}
loss = {{ name = "{loss}" }}
"""


def raising(line: str) -> str:
    """A method whose only statement is `line`."""
    return f"def select(train, ipc, ctx):\n    {line}\n"


@dataclass
class World:
    """Folders and plugin files of one test."""

    root: Path

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def plugins(self) -> list[Path]:
        return sorted((self.root / "plugins").glob("*"))

    def add(self, name: str, source: str) -> None:
        """A plugin file; Python sources can call log(...)."""
        if name.endswith(".py"):
            source = f'"""A plugin of a test."""\n{LOG.format(log=str(self.root / "log"))}\n{source}'
        write(self.root / "plugins" / name, source)

    def log(self) -> list[tuple[int, str, str]]:
        """(process, role, what) of all that was logged."""
        lines = (self.root / "log").read_text().splitlines()
        return [(int(process), role, what) for process, role, what in (line.split(" ", 2) for line in lines)]

    def lines(self) -> list[dict[str, Any]]:
        """Every record as it stands in the file."""
        path = self.results / "records.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def flags(
        self, *more: str, methods: tuple[str, ...] = ("first", "chance"), protocol: str = "quick-hard"
    ) -> list[str]:
        """The command line after `condensebench`."""
        named = [f"--method={method}" for method in methods]
        files = [f"--plugin={path}" for path in self.plugins]
        places = [f"--results={self.results}", f"--store={self.root / 'store'}"]
        return ["run", "--dataset=tiny", f"--protocol={protocol}", *named, "--ipc=2", *places, *files, *more]


def make_world(root: Path) -> World:
    """The plugins above under `root`."""
    world = World(root)
    world.add("tiny.py", DATASET)
    world.add("first.py", FIRST)
    world.add("chance.py", CHANCE)
    world.add("quick-hard.toml", PROTOCOL.format(labels="hard", views=0, loss="ce"))
    world.add("quick-soft.toml", PROTOCOL.format(labels="stored", views=2, loss="kl"))
    return world
