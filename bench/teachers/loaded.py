"""Loaded teachers: networks with their weights, as members of ensembles, and what they say of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from bench.artifacts.opened import Data
from bench.artifacts.store import DamagedArtifact, Store, arrays_digest
from bench.plugins.registry import Registry
from bench.plugins.spec import parse
from bench.teachers.ensemble import Member
from bench.teachers.teacher_files import TeacherRef
from bench.training.footprint import images_of_a_pass
from bench.training.networks import build_network
from bench.training.normalisation import statistics
from bench.views.render import normalise


def load(ref: TeacherRef, store: Store, registry: Registry, data: Data, *, device: str = "cpu") -> torch.nn.Module:
    """The network with its weights, in eval mode, parameters frozen. Raises DamagedArtifact where the weights are not
    those of the digest that records tell."""
    dataset = data.dataset
    model = build_network(
        parse(registry, "network", ref.network),
        channels=dataset.channels,
        size=dataset.size,
        classes=dataset.num_classes,
        seed=0,
    )
    state = _weights(ref, ref.path(store))
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return model.eval().requires_grad_(False).to(device)


def _weights(ref: TeacherRef, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a teacher's file, which have its digest."""
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping: no iterator)
    except SafetensorError as error:
        raise DamagedArtifact(
            f"{path} is no readable teacher ({error}). Delete the file; it will be made again."
        ) from None
    if arrays_digest({name: tensor.numpy() for name, tensor in state.items()}) != ref.digest:
        raise DamagedArtifact(
            f"{path}: its weights are not those of teacher {ref.digest[:8]}. Delete the file; it will be made again."
        )
    return state


def member(ref: TeacherRef, store: Store, registry: Registry, data: Data, *, device: str = "cpu") -> Member:
    """The teacher as a member of an ensemble."""
    mean, std = statistics(ref.normalisation, data.dataset)
    return Member(load(ref, store, registry, data, device=device), mean, std)


@torch.no_grad()
def predict(
    model: torch.nn.Module,
    images: torch.Tensor,
    *,
    mean: Any,
    std: Any,
    device: str = "cpu",
    batch: int = 250,
    features: bool = False,
) -> torch.Tensor:
    """float32 [n, C] logits (or [n, d] penultimate features) of uint8 or float images, on the CPU. The mode stays."""
    training = model.training
    model.eval()
    call: Callable[[torch.Tensor], torch.Tensor] = getattr(model, "features") if features else model  # noqa: B009
    at_once = min(batch, images_of_a_pass(images, device))
    pieces = [call(normalise(part.to(device), mean, std)).float().cpu() for part in torch.split(images, at_once)]
    model.train(training)
    return torch.cat(pieces)
