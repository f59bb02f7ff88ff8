"""A store with two condensed sets of digits and their stored labels, and records of students trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.artifacts.describe import describe
from bench.artifacts.duplicates import set_digest
from bench.artifacts.refs import CondensedRef, DatasetRef, Workspace, read_condensed
from bench.plugins.registry import discover
from bench.records.files import Record
from bench.stages.condense import condense
from bench.stages.encode import encode_labels
from bench.stages.teach import teach
from bench.trials.trial import Trial
from tests.worlds.records import cell, made_by

METHODS = ("herding", "random")
CODES = (("none", None), ("svd", "10x"))
IPC = 2


@dataclass(frozen=True)
class Kept:
    """The store, its workspace, and what lies there."""

    store: Path
    ws: Workspace
    dataset: DatasetRef
    sets: dict[str, CondensedRef]
    records: list[Record]

    def arrays(self, method: str) -> dict[str, np.ndarray]:
        """The condensed set of a method."""
        return dict(read_condensed(self.ws, self.sets[method]).arrays)


def make_kept(store: Path) -> Kept:
    """Both sets condensed and labelled as a run does; no student is trained."""
    ws = Workspace(store, discover(()))
    dataset = describe(ws, "digits")
    teacher = teach(ws, "small-teacher-v1", dataset)
    sets, records = {}, []
    for seed, method in enumerate(METHODS):
        sets[method] = ref = condense(ws, method, dataset, teacher, IPC, 0)
        arrays = read_condensed(ws, ref).arrays
        digest = set_digest(arrays["images"], arrays["labels"])
        counts = dict.fromkeys(("repeated", "in_test_exact", "in_test_near", "train_in_test"), 0)
        names: dict[str, Any] = {
            "method": method,
            "dataset": "digits",
            "ipc": IPC,
            "num_classes": 10,
            "made_by": made_by(dataset=dataset.digest, teacher=teacher.digest),
            "condensed": {"digest": digest, "per_class": (IPC, IPC), **counts},
        }
        for compressor, budget in CODES:
            trial = Trial("digits", "small-soft-v1", method, IPC, compressor, budget, "convnet:width=16", 0)
            encode_labels(ws, trial, dataset, [teacher], ref, [0])
            records += cell(0.5 + 0.1 * seed, 3, seed=seed, compressor=compressor, budget=budget, **names)
    _dynamics(ws, dataset)
    _losses(ws, records)
    return Kept(store, ws, dataset, sets, records)


def _dynamics(ws: Workspace, dataset: DatasetRef) -> None:
    """Training dynamics of two epochs, by chance."""
    shape = 2, dataset.train_images
    chances = np.random.default_rng(0).dirichlet(np.ones(10), shape).astype(np.float16)
    ws.store.get("dynamics", {"dataset": dataset.digest}, lambda: ({"probabilities": chances}, {}))


def _losses(ws: Workspace, records: list[Record]) -> None:
    """The losses of the first student of `random`, and of another training of the same trial."""
    [first] = [each for each in records if each.trial["method"] == "random" and each.trial["replicate"] == 0][:1]
    for last in (first.train_loss, 9.0):
        inputs = {"trial": first.run.as_dict(), "last": last}
        ws.store.get("losses", inputs, lambda last=last: ({"losses": np.array([2.0, 1.0, last])}, {}))
