"""One call of a method, held to its contract."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from bench.api import Condensed
from bench.artifacts import pixels
from bench.artifacts.opened import TrainSplit
from bench.errors import PluginError
from bench.plugins.spec import Spec


def build_condensed(spec: Spec, train: TrainSplit, ipc: int, ctx: Any, *, balanced: bool = True) -> Condensed:
    """Run the method and check what it returns. Raises PluginError that names the method and the broken rule.

    balanced: whether every class must have `ipc` images; else the set has `ipc` times as many as there are classes.
    """
    return assembled(spec, returned(spec, train, ipc, ctx, balanced=balanced), train, ipc, balanced=balanced)


def returned(spec: Spec, train: TrainSplit, ipc: int, ctx: Any, *, balanced: bool = True) -> np.ndarray | Condensed:
    """What the method returns, checked: the indices (int64) of images that it picks, or the set that it makes. Raises
    PluginError, or what the method raises."""
    module = spec.plugin.module
    if "select" in spec.plugin.functions:
        return _check_indices(spec, module.select(train, ipc, ctx, **spec.parameters), train, ipc, balanced)
    condensed: Condensed = module.synthesize(train, ipc, ctx, **spec.parameters)
    _check_condensed(spec, condensed, train, ipc, balanced)
    return condensed


def assembled(
    spec: Spec, result: np.ndarray | Condensed, train: TrainSplit, ipc: int, *, balanced: bool = True
) -> Condensed:
    """The condensed set of what a method returned, checked again: here, no code of the method has to have run. Raises
    PluginError."""
    if not isinstance(result, Condensed):
        indices = _check_indices(spec, result, train, ipc, balanced)
        labels = torch.from_numpy(train.labels[indices])
        return Condensed(train.images(indices), labels, indices, provenance_of(spec))
    _check_condensed(spec, result, train, ipc, balanced)
    provenance = {**provenance_of(spec), **result.provenance}
    if (kind := pixels.kind_of(result.images)) != "uint8":
        provenance["pixels"] = kind
    images, soft = result.images.detach().cpu().contiguous(), result.soft_labels
    if soft is not None:
        soft = soft.detach().cpu().contiguous()
        provenance["soft_labels"] = pixels.kind_of(soft)
    return Condensed(images, result.labels.cpu(), result.indices, provenance, soft)


def picked(spec: Spec, returned: Any, train: TrainSplit, ipc: int, *, balanced: bool = True) -> np.ndarray:
    """int64 [M]: the indices that a method returned, checked again. Raises PluginError."""
    return _check_indices(spec, returned, train, ipc, balanced)


def provenance_of(spec: Spec) -> dict[str, Any]:
    """What every record tells of its method, whatever the method says itself."""
    texts = {"source": spec.plugin.constants.get("CITATION", ""), "deviations": spec.plugin.deviations}
    return {"parameters": spec.parameters, **{name: text for name, text in texts.items() if text}}


def _check_indices(spec: Spec, returned: Any, train: TrainSplit, ipc: int, balanced: bool) -> np.ndarray:
    array = np.asarray(returned)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise PluginError(
            f"method '{spec}': select(...) must return a 1-d array of indices (int64); it returned {array.dtype} "
            f"of shape {array.shape}."
        )
    indices = array.astype(np.int64)
    if len(indices) and (indices.min() < 0 or indices.max() >= len(train)):
        raise PluginError(f"method '{spec}': indices must lie in 0..{len(train) - 1}.")
    if len(np.unique(indices)) != len(indices):
        raise PluginError(f"method '{spec}': an image was picked twice; indices must be unique.")
    check_counts(spec, train.labels[indices], train.num_classes, ipc, balanced=balanced)
    return indices


def _check_condensed(spec: Spec, condensed: Any, train: TrainSplit, ipc: int, balanced: bool) -> None:
    if not isinstance(condensed, Condensed):
        raise PluginError(f"method '{spec}': synthesize(...) must return bench.api.Condensed, not {type(condensed)}.")
    images, labels = condensed.images, condensed.labels
    for name, value in (("images", images), ("labels", labels)):
        if not isinstance(value, torch.Tensor):
            raise PluginError(f"method '{spec}': {name} must be a torch tensor; it returned {type(value)}.")
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise PluginError(
            f"method '{spec}': labels must be int64 [M]; it returned {labels.dtype} {list(labels.shape)}."
        )
    expected = (len(labels), train.channels, train.size, train.size)
    if tuple(images.shape) != expected or pixels.kind_of(images) not in ("uint8", *pixels.FLOATS):
        raise PluginError(
            f"method '{spec}': images must be uint8 {list(expected)}, or float32 or float16 in grey levels; it "
            f"returned {images.dtype} {list(images.shape)}."
        )
    if fault := pixels.fault_of(images):
        raise PluginError(f"method '{spec}': {fault}.")
    check_counts(spec, labels.cpu().numpy(), train.num_classes, ipc, balanced=balanced)
    _check_soft_labels(spec, condensed.soft_labels, len(labels), train.num_classes)
    indices = condensed.indices
    if indices is not None:
        if not isinstance(indices, np.ndarray) or indices.dtype.kind not in "iu" or indices.shape != labels.shape:
            raise PluginError(f"method '{spec}': indices must be None or an int64 array [{len(labels)}].")
        if indices.min() < 0 or indices.max() >= len(train):
            raise PluginError(f"method '{spec}': indices must lie in 0..{len(train) - 1}.")
    try:
        json.dumps(dict(condensed.provenance))
    except (TypeError, ValueError) as error:
        raise PluginError(f"method '{spec}': provenance must hold JSON values only ({error}).") from None


def _check_soft_labels(spec: Spec, soft: Any, images: int, classes: int) -> None:
    if soft is None:
        return
    kind = str(getattr(soft, "dtype", type(soft))).removeprefix("torch.")
    if not isinstance(soft, torch.Tensor) or kind not in pixels.FLOATS or tuple(soft.shape) != (images, classes):
        shape = list(getattr(soft, "shape", ()))
        raise PluginError(
            f"method '{spec}': soft_labels must be a float32 or float16 torch tensor [{images}, {classes}], a row of "
            f"logits for each image; it returned {kind} {shape}."
        )
    if not bool(soft.isfinite().all()):
        row = int((~soft.isfinite()).any(dim=1).nonzero()[0])
        raise PluginError(
            f"method '{spec}': soft_labels must be finite; row {row} is not. The logarithm of a probability of 0 is "
            f"handed in as a large negative number."
        )


def check_counts(spec: Spec, labels: np.ndarray, classes: int, ipc: int, *, balanced: bool) -> None:
    """Hold the labels (int64 [M]) of a condensed set to `ipc` images of every class, or, where the protocol leaves the
    balance free, to as many in all. Raises PluginError."""
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise PluginError(f"method '{spec}': labels must lie in 0..{classes - 1}.")
    if not balanced:
        if len(labels) != ipc * classes:
            raise PluginError(
                f"method '{spec}': {ipc * classes} images are asked for, ipc = {ipc} times {classes} classes; it has "
                f"{len(labels)}."
            )
        return
    counts = np.bincount(labels, minlength=classes)
    wrong = np.flatnonzero(counts != ipc)
    if len(wrong):
        hint = " Protocols with recipe.class_balance = 'free' let it." if len(labels) == ipc * classes else ""
        raise PluginError(
            f"method '{spec}': exactly ipc = {ipc} images per class are asked for; class {wrong[0]} has "
            f"{counts[wrong[0]]}{f' ({len(wrong)} classes differ)' if len(wrong) > 1 else ''}.{hint}"
        )
