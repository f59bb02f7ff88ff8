"""Synthetic records with realistic values, for the tests of records, statistics and tables."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from bench.records.files import Record


def made_by(protocol: str = "small-soft-v1", **changed: str) -> dict[str, str | None]:
    parts = ("dataset", "teacher", "method", "compressor", "network", "engine")
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in parts}
    return {**digests, "protocol": hashlib.sha256(protocol.encode()).hexdigest(), **changed}


def trial(method: str = "random", replicate: int = 0, **changed: Any) -> dict[str, Any]:
    fields = {
        "dataset": "glyphs:classes=100",
        "protocol": "small-soft-v1",
        "method": method,
        "ipc": 10,
        "compressor": "none",
        "budget": None,
        "student": "convnet",
        "replicate": replicate,
        **changed,
    }
    return {**fields, "id": hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]}


def record(accuracy: float | None = 0.5, *, method: str = "random", replicate: int = 0, **changed: Any) -> Record:
    """An ok record; `status`, `made_by` and other fields of Record may be given, all else goes to the trial."""
    own = {key: changed.pop(key) for key in list(changed) if key in Record.model_fields}
    fields = trial(method, replicate, **changed)
    hard = fields["compressor"] is None
    status = own.get("status", "ok")
    values: dict[str, Any] = {
        "id": fields["id"],
        "trial": fields,
        "status": status,
        "made_by": made_by(fields["protocol"]),
        "num_classes": 100,
        "num_images": 100 * fields["ipc"],
        "num_views": 0 if hard else 100,
        "environment": {"python": "3.11.9", "torch": "2.9.0", "numpy": "2.3.0", "machine": "a CPU", "host": "Linux"},
        "finished": f"2026-01-01T00:00:{replicate:02d}.000000+00:00",
    }
    if status == "ok":
        reference = 100 * fields["ipc"] * 100 * 225
        labels = None if hard else {"total": reference, "shared": 64, "blobs": reference - 64 - 25_000, "views": 25_000}
        values |= {
            "accuracy": accuracy,
            "test_loss": 1.9,
            "train_loss": 0.4,
            "steps": 5000,
            "epochs": 100,
            "bytes_images": 3_123_456,
            "bytes_labels": labels,
            "bytes_labels_reference": None if hard else reference,
            "seconds": {"method": 0.3, "train": 2.0 + replicate},
        }
    if status == "failed":
        values["error"] = {"type": "ValueError", "message": "no images left", "traceback": "Traceback ..."}
    if status == "infeasible":
        values["smallest_bytes"] = 220
    return Record(**{**values, **own})


def cell(mean: float, n: int = 3, *, seed: int = 0, method: str = "random", **changed: Any) -> list[Record]:
    """n replicates about `mean`. Replicate r has the same luck under every method: the student's seeds are shared."""
    shared = np.random.default_rng(7).normal(0, 0.008, n)
    own = np.random.default_rng(seed).normal(0, 0.002, n)
    accuracies = np.clip(mean + shared - shared.mean() + own - own.mean(), 0, 1).round(6)
    return [record(float(a), method=method, replicate=r, **changed) for r, a in enumerate(accuracies)]
