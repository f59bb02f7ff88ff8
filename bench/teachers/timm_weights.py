"""Weights of timm's models, from the folder that its hub keeps downloads in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bench.errors import UserError, unknown
from bench.teachers.state_files import read_state
from bench.training.normalisation import Statistics

FILES = ("model.safetensors", "pytorch_model.bin")  # what the hub calls them


def not_here(weights: str, recipe: str, otherwise: str) -> UserError:
    """The error for weights that would have to be fetched while a run is on its way."""
    return UserError(
        f"the weights '{weights}' are not on this machine, and a run fetches nothing. Type: condensebench teacher "
        f"DATASET --recipe {recipe}. {otherwise}"
    )


def timm_constants(name: str) -> Statistics:
    """(mean, std) that images are normalised with for a model, by timm's own account. Raises UserError."""
    config = _config(name)
    return tuple(config.mean), tuple(config.std)


def timm_state(name: str, recipe: str, download: bool) -> dict[str, torch.Tensor]:
    """The tensors of `timm:NAME` by timm's names. Raises UserError where they are not here and cannot be fetched."""
    import huggingface_hub

    repository = str(_config(name).hf_hub_id)
    for file in FILES:
        kept = huggingface_hub.try_to_load_from_cache(repository, file)
        if isinstance(kept, str) and Path(kept).is_file():
            return read_state(Path(kept))
    otherwise = f"They are the file {FILES[0]} of {repository} in the cache of the package huggingface_hub."
    if not download:
        raise not_here(f"timm:{name}", recipe, otherwise)
    try:
        return read_state(Path(huggingface_hub.hf_hub_download(repository, FILES[0])))
    except (OSError, ValueError) as error:  # of no network: an OSError of the package's own
        reason = str(error).partition("\n")[0]
        raise UserError(f"the weights 'timm:{name}' cannot be had: {reason} {otherwise}") from None


def _config(name: str) -> Any:
    import timm

    if not timm.is_model(name):
        raise UserError(f"weights 'timm:{name}': {unknown('model of timm', name, timm.list_models())}")
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        with_weights = timm.list_pretrained(f"{name.partition('.')[0]}*")
        raise UserError(f"weights 'timm:{name}': {unknown('weights of timm', name, with_weights)}")
    return config
