"""The stages as Ray runs them: by name, each with its function, its kind of worker and its share of a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast


@dataclass(frozen=True)
class Stage:
    """A stage as Ray runs it: its function (or `module:function`), the kind of worker, and its share of a GPU where
    nothing is known of the memory that it needs (bench/driver/shares.py).

    The driver hands out stages and runs none, so it does not load their modules, nor torch, which they compute with.
    """

    place: str | Callable[..., Any]
    role: Literal["student", "method"]
    gpus: float | None  # None: what the method's module says

    @property
    def function(self) -> Callable[..., Any]:
        """What runs: its module is loaded now, unless it was."""
        if callable(self.place):
            return self.place
        module, _, name = self.place.partition(":")
        return cast(Callable[..., Any], getattr(importlib.import_module(module), name))


STAGES = {
    "describe": Stage("bench.artifacts.describe:describe", "student", gpus=0.0),
    "teach": Stage("bench.stages.teach:teach", "student", gpus=1.0),
    "condense": Stage("bench.stages.condense:condense", "method", gpus=None),
    "encode_labels": Stage("bench.stages.encode:encode_labels", "method", gpus=1.0),
    "evaluate": Stage("bench.stages.evaluate:evaluate", "student", gpus=1.0),
    "learning_curve": Stage("bench.stages.curve:learning_curve", "student", gpus=1.0),
}
WITHOUT_TORCH = {"describe"}  # where the data set was described before
