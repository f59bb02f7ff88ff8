"""Checkpoints: what a training run needs to go on after an epoch as if it had never stopped, in safetensors and JSON.

What belongs to a run by its names alone (data order, views, draws) is drawn again from seeds. Kept are the weights, the
optimiser's state, the average of the parameters, the state of torch's generators, and the sums that the losses hang on.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from bench.training.feed import Feed

FILE = "state.safetensors"


@dataclass
class Parts:
    """The moving parts of a training run."""

    student: nn.Module
    optimizer: torch.optim.Optimizer
    average: list[torch.Tensor]  # of the parameters; empty where none is kept
    feed: Feed  # whose `offset` grows

    def tensors(self) -> dict[str, torch.Tensor]:
        """Copies of everything that changes, by name, on the CPU."""
        kept = {f"student/{name}": tensor for name, tensor in self.student.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    kept[f"optimizer/{index}/{key}"] = value
        kept |= {f"average/{index}": tensor for index, tensor in enumerate(self.average)}
        kept["feed/offset"] = torch.as_tensor(self.feed.offset)
        kept["generator/cpu"] = torch.get_rng_state()
        device = self._device()
        if device.type == "cuda":
            kept["generator/cuda"] = torch.cuda.get_rng_state(device)
        return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in kept.items()}

    def restore(self, kept: dict[str, torch.Tensor]) -> None:
        """The inverse of `tensors`, in place. Layouts in memory are those of the parameters."""
        device, parameters = self._device(), self._parameters()
        self.student.load_state_dict(_below(kept, "student/"))
        for name, value in _below(kept, "optimizer/").items():
            index, _, key = name.partition("/")
            parameter = parameters[int(index)]
            like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
            self.optimizer.state[parameter][key] = like.to(device).copy_(value)
        for place, tensor in enumerate(self.average):
            tensor.copy_(kept[f"average/{place}"])
        self.feed.offset = kept["feed/offset"].to(device)
        torch.set_rng_state(kept["generator/cpu"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(kept["generator/cuda"], device)

    def _parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _device(self) -> torch.device:
        return next(self.student.parameters()).device


def _below(kept: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in kept.items() if name.startswith(prefix)}


def save(folder: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """Write a checkpoint into a folder of its own; the one before stays until the new one is whole on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.{os.getpid()}"
    save_file(tensors, temporary, metadata={"json": json.dumps(facts)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, folder / FILE)


def load(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """(tensors, facts) of the last whole checkpoint of a folder; None where there is none that can be read."""
    try:
        with safe_open(folder / FILE, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping: no iterator)
            return tensors, json.loads(file.metadata()["json"])
    except (OSError, SafetensorError, ValueError, TypeError, KeyError):
        return None


def remove(folder: Path) -> None:
    """Take a checkpoint away."""
    shutil.rmtree(folder, ignore_errors=True)
