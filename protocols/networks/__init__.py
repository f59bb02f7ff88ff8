"""Students and teachers by name: a file in this folder, or any classifier as `timm:NAME` or `torchvision:NAME`.

A network's file has `build(channels, size, num_classes, *, ...) -> nn.Module` with literal defaults. Every network
maps normalised float32 images [n, channels, size, size] to logits [n, num_classes] and gives its penultimate
activations [n, d] by `features(x)`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.errors import UserError

LIBRARIES = {"timm": "timm_models", "torchvision": "torchvision_models"}  # prefix -> file


def names() -> list[str]:
    """What can be built: the networks of this folder, then `timm:NAME` and `torchvision:NAME`."""
    files = {p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_")}
    return [*sorted(files - set(LIBRARIES.values())), *(f"{library}:NAME" for library in LIBRARIES)]


def build(name: str, *, channels: int, size: int, num_classes: int, seed: int, **params: Any) -> nn.Module:
    """A freshly initialised network. The same arguments give the same bits; no global random state is changed.

    Args:
        name: `convnet`, `resnet`, `timm:NAME` or `torchvision:NAME`.
        channels: of the images.
        size: pixels, height and width of the images.
        num_classes: logits.
        seed: 0 .. 2**63 - 1, of the initial weights.
        params: keyword arguments of the network's own `build`.

    Raises:
        UserError: the name, a parameter or its value is not known, or the network does not fit the image size.
    """
    library, _, model = name.partition(":")
    if library in LIBRARIES and model:
        module = importlib.import_module(f"protocols.networks.{LIBRARIES[library]}")
        arguments: tuple[Any, ...] = (channels, size, num_classes, model)
    elif name in names():
        module = importlib.import_module(f"protocols.networks.{name}")
        arguments = (channels, size, num_classes)
    else:
        raise UserError(unknown_name("network", name, names()))
    allowed = [p.name for p in inspect.signature(module.build).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for key in params:
        if key not in allowed:
            raise UserError(f"network {name!r} has no parameter {key!r}; allowed: {', '.join(allowed) or 'none'}")

    # Layers draw their weights from the global generator: lend it seeded, then put it back (the CPU's only, since
    # seeding CUDA's too would change a state that is not put back).
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return module.build(*arguments, **params)


def unknown_name(kind: str, name: str, allowed: list[str], shown: int = 12) -> str:
    """The message for a name that does not exist: the nearest ones, else what is allowed."""
    near = difflib.get_close_matches(name, allowed, n=3)
    if near:
        return f"unknown {kind} {name!r}; did you mean {' or '.join(near)}?"
    more = f", ... ({len(allowed)} in all)" if len(allowed) > shown else ""
    return f"unknown {kind} {name!r}; allowed: {', '.join(allowed[:shown])}{more}"
