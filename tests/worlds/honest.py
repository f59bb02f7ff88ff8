"""Records of `digits` as an honest run would write them, without running: every value follows from the protocol."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from bench.checks.records.check_records import check_records
from bench.checks.records.prescribed import Prescribed
from bench.finding import Finding
from bench.plugins.registry import Plugin, Registry
from bench.protocol.definition import Protocol
from bench.protocol.recipe import Recipe
from bench.records.files import Record
from bench.trials.budget import Budget, reference_bytes
from bench.trials.trial import Trial
from tests.worlds.kinds import NATIVE

CLASSES, TEST_IMAGES = 10, 600


def honest(prescribed: Prescribed, method: str = "random", replicate: int = 0, /, **changed: Any) -> Record:
    """A record that no rule objects to. Fields of the trial and of the record may be changed."""
    fields = {
        "dataset": "digits",
        "protocol": "small-soft-v1",
        "ipc": 10,
        "compressor": "svd",
        "budget": "10x",
        "student": "convnet:width=16",
        "method": method,
        "replicate": replicate,
    }
    fields |= {key: changed.pop(key) for key in list(changed) if key in fields}
    if fields["protocol"] == "small-hard-v1":
        fields |= {"compressor": None, "budget": None}
    trial = Trial(**fields)
    images = trial.ipc * CLASSES
    fixed = prescribed.protocol(trial.protocol)
    recipe = prescribed.recipe(trial.protocol, trial.dataset, trial.ipc, trial.student, CLASSES)
    assert isinstance(fixed, Protocol)
    assert isinstance(recipe, Recipe)
    dataset = prescribed.dataset(trial.dataset)
    luck = _rng(trial.replicate, "shared").normal(0, 6) + _rng(str(trial)).normal(0, 2)
    values: dict[str, Any] = {
        "id": trial.id,
        "trial": {**trial.as_dict(), "id": trial.id},
        "status": "ok",
        "finished": "2026-01-01T00:00:00.000000+00:00",
        "labels": recipe.labels,
        "recipe": recipe.digest,
        "accuracy": round(480 + luck) / TEST_IMAGES,
        "test_loss": 0.6 + 0.1 * _rng(str(trial), "test").random(),
        "train_loss": 0.05 + 0.01 * _rng(str(trial), "train").random(),
        "epochs": recipe.epochs,
        "steps": prescribed.steps(recipe, images),
        "images_seen": recipe.epochs * images,
        "measured_after": recipe.epochs,
        "num_test": TEST_IMAGES,
        "test_opened": 1,
        "bytes_images": 120 * images,
        "num_classes": CLASSES,
        "num_images": images,
        "num_views": recipe.views or None,
        "condensed": {
            "digest": _digest(trial.method, trial.replicate),
            "per_class": (trial.ipc, trial.ipc),
            "repeated": 0,
            "in_test_exact": 0,
            "in_test_near": 0,
            "train_in_test": 0,
        },
        "made_by": {
            "dataset": dataset,
            "teacher": prescribed.teacher(trial.protocol, trial.dataset, dataset or "", CLASSES),
            "protocol": fixed.digest,
            "method": _code(prescribed, "method", trial.method),
            "compressor": _code(prescribed, "compressor", trial.compressor),
            "network": _code(prescribed, "network", trial.student),
            "engine": prescribed.engine,
        },
        "seconds": {"condense": 0.1, "train": 2.0, "test": 0.1},
        "environment": NATIVE,
        "conduct": {"method": []},
    }
    if trial.compressor is not None:
        reference = reference_bytes(images, recipe.views, CLASSES)
        total = Budget.parse(trial.budget or "1x").total_bytes(images, recipe.views, CLASSES) - 30
        values["bytes_labels_reference"] = reference
        values["bytes_labels"] = {"total": total, "shared": 0, "blobs": total - 120, "views": 110}
    return Record(**{**values, **changed})


def altered(record: Record, **changed: Any) -> Record:
    """The record with other fields; a dict changes only its own keys of a field that is one."""
    fields = record.fields()
    for key, value in changed.items():
        fields[key] = {**fields[key], **value} if isinstance(value, dict) and isinstance(fields[key], dict) else value
    return Record(**fields)


def board(prescribed: Prescribed, *methods: str, replicates: int = 3, **changed: Any) -> list[Record]:
    """Honest records of `random` and of other methods."""
    return [honest(prescribed, method, r, **changed) for method in ("random", *methods) for r in range(replicates)]


def write(folder: Path, lines: list[Record]) -> Path:
    """A results folder that holds these records."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("".join(record.line() + "\n" for record in lines), encoding="utf-8")
    return folder


def findings(folder: Path, registry: Registry, store: Path, baseline: Path | None = None) -> tuple[Finding, ...]:
    """What `check records` finds, without the notes on what could not be checked and on what is not released yet."""
    checked = check_records(folder, registry=registry, store=store, baseline=baseline)
    return tuple(f for f in checked.findings if f.rule != "not-checked")


def _code(prescribed: Prescribed, kind: str, spec: str | None) -> str | None:
    plugin = prescribed.plugin(kind, spec) if spec is not None else None
    assert plugin is None or isinstance(plugin, Plugin)
    return plugin.digest if plugin else None


def _rng(*coordinates: Any) -> np.random.Generator:
    return np.random.default_rng(int(_digest(*coordinates)[:12], 16))


def _digest(*coordinates: Any) -> str:
    return hashlib.sha256(repr(coordinates).encode()).hexdigest()
