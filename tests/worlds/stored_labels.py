"""Soft labels of digits: what a small teacher says of some views, and a compressor of a few lines that stores it."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import torch

from bench.api import SoftLabels
from bench.labels.label_file import LabelFile
from bench.labels.making import label_views, teacher_logits
from bench.labels.reader import EncodedLabels
from bench.protocol.recipe import Recipe
from bench.teachers.ensemble import Ensemble, Member
from bench.views.parameters import Views
from tests.worlds.fakes import trained_teacher

MEAN, STD = (0.3,), (0.35,)
VIEWS, CLASSES = 6, 10


def recipe(**augment: Any) -> Recipe:
    kept = {"crop_scale": (0.4, 1.0), "mix": "cutmix", **augment}
    return Recipe.model_validate(
        {"labels": "stored", "views": VIEWS, "epochs": 1, "batch": 10, "loss": {"name": "kl"}, "augment": kept}
    )


def views_of(images: int, **augment: Any) -> Views:
    return label_views(recipe(**augment), images, protocol="p", dataset="digits", size=8, mirror=True)


def say(images: torch.Tensor, views: Views, indices: np.ndarray) -> torch.Tensor:
    return teacher_logits(Ensemble([Member(trained_teacher(), MEAN, STD)]), images, views, indices)


def soft(logits: torch.Tensor, images: np.ndarray | None = None) -> SoftLabels:
    return SoftLabels(logits, torch.zeros(len(logits), dtype=torch.int64), views_of(270), images)


def compressor(**functions: Any) -> types.ModuleType:
    """A compressor of a few lines: float16, as it is."""
    module = types.ModuleType("methods.compressors.fake")

    def plain_encode(labels: SoftLabels, budget_bytes: int, ctx: Any) -> bytes:
        return labels.logits.numpy().tobytes()

    def plain_decode(blob: bytes, rows: Any = None) -> torch.Tensor:
        values = torch.frombuffer(bytearray(blob), dtype=torch.float16).reshape(-1, VIEWS, CLASSES)
        return values if rows is None else values[:, rows]

    module.__dict__.update({"encode": plain_encode, "decode": plain_decode, **functions})
    return module


def read_rows(module: types.ModuleType, blobs: list[bytes], images: int, shared: bytes = b"") -> torch.Tensor:
    file = LabelFile.from_bytes(LabelFile(views_of(images).to_bytes(), shared, tuple(blobs)).to_bytes())
    return EncodedLabels(file, module, images, "fake").rows([4, 1])
