"""Records by the hundred thousand: as valid as those of a real run, and quick to make.

Each is one of the committed records in another cell (images per class) and with other figures; the protocol's recipe
gives epochs, steps, views and bytes, so that `check records` finds nothing wrong with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.checks.records.prescribed import Prescribed
from bench.plugins.registry import ROOT, discover
from bench.protocol.recipe import Recipe
from bench.records.schema import line_digest
from bench.seeds import numpy_generator
from bench.trials.budget import Budget, reference_bytes
from bench.trials.trial import Trial

TEMPLATES = ROOT / "results/default-plan/records.jsonl"
REPLICATES = 10
START = datetime(2026, 1, 1, tzinfo=UTC)


def write_records(path: Path, count: int) -> None:
    """A record file of `count` lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for _, line in zip(range(count), lines(), strict=False):
            file.write(line + "\n")


def lines() -> Iterator[str]:
    """Lines without end: cell by cell, row by row, ten replicates each."""
    prescribed = Prescribed(discover(), Path(".condensebench"))
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in TEMPLATES.read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        trial = Trial.from_dict(fields["trial"])
        rows.setdefault((trial.dataset, trial.protocol, trial.method, trial.compressor, trial.budget), fields)
    random, number, ipc = numpy_generator("speed", "records"), 0, 0
    while True:
        ipc += 1
        for fields in rows.values():
            first = Trial.from_dict({**fields["trial"], "ipc": ipc})
            classes = fields["num_classes"]
            recipe = prescribed.recipe(first.protocol, first.dataset, ipc, first.student, classes)
            assert isinstance(recipe, Recipe)
            cell = {**fields, **_of_cell(fields, first, recipe, prescribed)}
            mean = random.uniform(0.2, 0.9)
            for replicate in range(REPLICATES):
                number += 1
                trial = Trial.from_dict({**first.as_dict(), "replicate": replicate})
                finished = (START + timedelta(seconds=number / 10)).isoformat(timespec="microseconds")
                changed: dict[str, Any] = {
                    "id": trial.id,
                    "trial": {**trial.as_dict(), "id": trial.id},
                    "finished": finished,
                }
                if fields["status"] == "ok":
                    tested = fields["num_test"]
                    right = min(tested, max(0, round(tested * (mean + random.normal(0, 0.02)))))
                    lost = float(random.uniform(0.7, 2)) * (1 - right / tested) + 0.01
                    changed |= {
                        "accuracy": right / tested,
                        "test_loss": lost,
                        "train_loss": float(10 ** random.uniform(-6, 0)),
                        "seconds": {stage: float(random.uniform(0.1, 9)) for stage in fields["seconds"]},
                        "condensed": {
                            **fields["condensed"],
                            "digest": hashlib.sha256(str(number).encode()).hexdigest(),
                            "per_class": [ipc, ipc],
                        },
                    }
                whole = {**cell, **changed}
                del whole["digest"]
                yield json.dumps({**whole, "digest": line_digest(whole)}, separators=(",", ":"), allow_nan=False)


def _of_cell(fields: dict[str, Any], trial: Trial, recipe: Recipe, prescribed: Prescribed) -> dict[str, Any]:
    """What the protocol and the images per class alone decide."""
    images = trial.ipc * fields["num_classes"]
    values: dict[str, Any] = {"num_images": images, "recipe": recipe.digest, "bytes_images": 124 * images}
    if trial.compressor is not None:
        reference = reference_bytes(images, recipe.views, fields["num_classes"])
        values |= {"num_views": recipe.views, "bytes_labels_reference": reference}
        if fields["status"] == "ok":
            total = reference
            if trial.budget is not None:
                total = Budget.parse(trial.budget).total_bytes(images, recipe.views, fields["num_classes"])
            values["bytes_labels"] = {"total": total, "shared": 0, "blobs": total, "views": 0}
    if fields["status"] == "ok":
        values |= {
            "epochs": recipe.epochs,
            "measured_after": recipe.epochs,
            "steps": prescribed.steps(recipe, images),
            "images_seen": prescribed.images_seen(recipe, images)[0],
        }
    return values
