"""Weights that others trained: torchvision's, for ImageNet-1K, named as `torchvision:resnet18:IMAGENET1K_V1`.

torchvision downloads them into torch's folder of checkpoints; the first digits of a file's sha256 stand in its name,
and no file is read that does not fit them. Nothing but tensors is unpickled (`weights_only`).
"""

from __future__ import annotations

import difflib
import hashlib
import pickle
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from bench.api import Dataset
from bench.errors import UserError
from bench.plugins.spec import Spec
from bench.training.networks import build_network
from protocols.networks._external import SMALL

PREFIX = "torchvision"


def find_weights(text: str) -> Any:
    """torchvision's entry (`url`, `meta`) of `torchvision:MODEL:NAME`. Raises UserError for a name that it has not."""
    import torchvision

    prefix, _, rest = text.partition(":")
    model, _, name = rest.partition(":")
    if prefix != PREFIX or not name:
        raise UserError(
            f"weights '{text}' must read {PREFIX}:MODEL:NAME, for instance torchvision:resnet18:IMAGENET1K_V1."
        )
    try:
        known = list(torchvision.models.get_model_weights(model))
    except ValueError:
        raise UserError(f"weights '{text}': torchvision has no model '{model}'.") from None
    for entry in known:
        if entry.name == name:
            return entry
    near = difflib.get_close_matches(name, [entry.name for entry in known], n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(entry.name for entry in known) or 'none'}."
    raise UserError(f"weights '{text}': torchvision has no such weights of '{model}'; {hint}")


def network_of(text: str) -> str:
    """The network that weights belong to: torchvision:resnet18."""
    return text.rpartition(":")[0]


def build(network: Spec, weights: str, dataset: Dataset) -> tuple[nn.Module, float]:
    """(the network with these weights, top-1 accuracy in [0, 1] on ImageNet-1K by torchvision's own account).

    Raises:
        UserError: the weights are not for such images or classes, or they cannot be had.
    """
    entry = find_weights(weights)
    classes = len(entry.meta["categories"])
    if dataset.channels != 3 or dataset.num_classes != classes or dataset.size <= SMALL:
        raise UserError(
            f"weights '{weights}' are for {classes} classes of colour images of more than {SMALL} px; this data set "
            f"has {dataset.num_classes} classes of {dataset.channels}x{dataset.size}x{dataset.size} images. Name a "
            f"teacher that is trained on it, for instance imagenet-subset-resnet18-v1."
        )
    model: Any = build_network(
        network, channels=dataset.channels, size=dataset.size, classes=dataset.num_classes, seed=0
    )
    model.model.load_state_dict(_state(entry.url, weights))
    return model, float(entry.meta["_metrics"]["ImageNet-1K"]["acc@1"]) / 100


def _state(url: str, weights: str) -> dict[str, torch.Tensor]:
    """The tensors, from torch's folder of checkpoints, downloaded into it on first use."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlparse(url).path).name
    wanted = re.search(r"-([0-9a-f]{8,})\.", path.name)
    assert wanted is not None  # so are all of torchvision's named
    if path.is_file() and not _sha256(path).startswith(wanted[1]):
        raise UserError(
            f"{path} is not what torchvision publishes: its sha256 does not begin with {wanted[1]}. Delete the file."
        )
    try:
        return torch.hub.load_state_dict_from_url(
            url, str(folder), map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (
        OSError,
        RuntimeError,
        pickle.UnpicklingError,
    ) as error:  # no network is an OSError, a wrong hash a RuntimeError
        raise UserError(
            f"the weights '{weights}' cannot be had: {error}. Where there is no network, put the file {url} at {path}"
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
