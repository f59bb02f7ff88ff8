"""Sets as tensors: .pt files of DC, DSA, DM, MTT and IDC, safetensors, npz; and constants that undo a normalisation.

| author | layout | pixels |
|---|---|---|
| DC, DSA, DM | `res_*.pt`: {"data": [[images, labels], ...]}, a pair for each experiment | normalised |
| MTT | `images_best.pt` and, beside it, `labels_best.pt` | normalised |
| TESLA, DATM | as MTT's; `labels_best.pt` holds learnt labels, floats [M, C] | normalised |
| IDC | `data.pt`: [images, labels] | in [0, 1] |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.errors import UserError
from bench.strangers import labels_beside, read_npz, read_safetensors, read_torch, tensors_of
from methods._published.published_set import PublishedSet, check_labels, in_class_order, some

Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation per channel, in [0, 1]

# As the authors' code has them: DC, DSA and DM (VICO-UoE/DatasetCondensation, utils.py), MTT (its utils.py). Both
# normalise CIFAR-100 as CIFAR-10.
UNDO: dict[str, Constants] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.0,), (1.0,)),  # pixels lie in [0, 1]
    "levels": ((0.0,), (1 / 255,)),  # pixels are grey levels already
}
LONGEST = 200  # characters of typed constants


def constants(undo: str) -> Constants | None:
    """Mean and standard deviation by the name that is typed, or as `0.49+0.48+0.45/0.20+0.20+0.20`; None for ""."""
    if not undo:
        return None
    if undo in UNDO:
        return UNDO[undo]
    try:
        mean, std = (tuple(float(each) for each in part.split("+")) for part in undo[:LONGEST].split("/"))
        if len(mean) != len(std) or not all(np.isfinite((*mean, *std))) or min(std) <= 0:
            raise ValueError
    except ValueError:
        raise UserError(
            f"undo={undo}; allowed: {', '.join(UNDO)}, or means and standard deviations of the channels, such as "
            f"undo=0.49+0.48+0.45/0.20+0.20+0.20"
        ) from None
    return mean, std


def open_tensors(file: Path, layout: str, classes: int, undo: str, experiment: int) -> PublishedSet:
    """A file of tensors: images uint8, or floats that `undo` brings to grey levels, [M, c, h, w]; labels [M], or learnt
    ones [M, C] (in safetensors and npz `soft_labels`, beside `labels` or alone).

    The class of an image without a whole number is that of the largest value of its learnt label. Where that leaves
    classes of different sizes, images stand class after class, as the authors' code writes them.

    Args:
        file: to read.
        layout: "pt", "npz" or "safetensors".
        classes: of the data set.
        undo: see `constants`; needed for floats.
        experiment: which set of a file that holds several.

    Raises:
        UserError: it is none, a tensor is missing or of another kind, a label is out of range.
    """
    if layout == "pt":
        images, labels, soft = _of_torch(file, experiment)
    else:
        arrays = read_npz(file) if layout == "npz" else read_safetensors(file)
        soft = arrays.get("soft_labels")
        needed = ("images", "labels") if soft is None else ("images",)
        missing = [name for name in needed if name not in arrays]
        if missing:
            raise UserError(
                f"{file} has no tensor {' and '.join(map(repr, missing))}; it has {some(list(arrays))}. "
                f"images [M, c, h, w] and labels [M] are needed."
            )
        images, labels = arrays["images"], arrays.get("labels")
    if layout != "pt" and experiment:
        raise UserError(
            f"experiment={experiment} is for files of DC, DSA and DM that hold several; {file} holds one set."
        )
    if images.ndim != 4 or (images.dtype != np.uint8 and images.dtype.kind != "f"):
        raise UserError(
            f"{file}: images must be uint8 or floats [M, c, h, w]; they are {images.dtype} {list(images.shape)}."
        )
    if soft is not None:
        _check_soft(soft, len(images), classes, str(file))
    if labels is None:
        assert soft is not None  # one of both is there
        labels = _classes_of(soft, classes)
    check_labels(labels, len(images), classes, str(file))
    if 0 in images.shape:
        raise UserError(f"{file}: images are {list(images.shape)}; a side of 0 pixels holds no picture.")
    return in_class_order(_grey_levels(images, undo, str(file)), labels, (), soft)


def _check_soft(soft: np.ndarray, images: int, classes: int, source: str) -> None:
    """Raise UserError unless learnt labels are finite floats [images, classes]."""
    if soft.dtype.kind != "f" or soft.shape != (images, classes):
        raise UserError(
            f"{source}: learnt labels must be floats [{images}, {classes}]; they are {soft.dtype} {list(soft.shape)}."
        )
    if not np.isfinite(soft).all():
        raise UserError(f"{source} holds learnt labels that are not finite.")


def _classes_of(soft: np.ndarray, classes: int) -> np.ndarray:
    """int64 [M], see `open_tensors`."""
    largest: np.ndarray = soft.argmax(axis=1).astype(np.int64)
    if len(set(np.bincount(largest, minlength=classes).tolist())) > 1 and len(soft) % classes == 0:
        return np.repeat(np.arange(classes), len(soft) // classes)
    return largest


def _grey_levels(images: np.ndarray, undo: str, source: str) -> np.ndarray:
    known = constants(undo)
    if images.dtype == np.uint8:
        if known is not None:
            raise UserError(f"undo={undo} is for floats; the images of {source} are uint8.")
        return images
    if known is None:
        low, high = float(images.min()), float(images.max())
        raise UserError(
            f"{source}: images are floats from {low:.3g} to {high:.3g}. Say what they were normalised with, so that it "
            f"is undone: undo=NAME with one of {', '.join(UNDO)} (unit: pixels in 0..1; levels: in 0..255), or "
            f"undo=MEANS/STDS"
        )
    mean, std = (np.array(part, np.float64).reshape(-1, 1, 1) for part in known)
    if len(mean) not in (1, images.shape[1]):
        raise UserError(f"{source}: images have {images.shape[1]} channels; undo={undo} has constants of {len(mean)}.")
    return (255 * (images.astype(np.float64) * std + mean)).astype(np.float32)


def _of_torch(file: Path, experiment: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """(images, labels [M], learnt labels [M, C]); one of both kinds of labels may be None."""
    beside = labels_beside(file)
    content: Any = read_torch(file)
    pairs = content.get("data") if isinstance(content, dict) else None
    if isinstance(pairs, list | tuple) and pairs and all(isinstance(pair, list | tuple) for pair in pairs):
        if not 0 <= experiment < len(pairs):
            raise UserError(f"experiment={experiment}: {file} holds {len(pairs)}, numbered 0 to {len(pairs) - 1}.")
        content = pairs[experiment]
    elif experiment:
        raise UserError(
            f"experiment={experiment} is for files of DC, DSA and DM that hold several; {file} holds one set."
        )
    elif beside is not None:
        content = [content, read_torch(beside)]
    tensors = tensors_of(content)
    images = [each for each in tensors if each.ndim == 4]
    labels = [each for each in tensors if each.ndim == 1 and not each.is_floating_point()]
    soft = [each for each in tensors if each.ndim == 2 and each.is_floating_point()]
    if len(images) != 1 or len(labels) > 1 or len(soft) > 1 or not (labels or soft):
        shapes = some([str(list(each.shape)) for each in tensors])
        hint = (
            " Labels in a file of their own are looked for beside images_NAME.pt, as labels_NAME.pt." if images else ""
        )
        raise UserError(
            f"{file} holds tensors {shapes}; images [M, c, h, w] and whole-number labels [M] (or learnt ones, "
            f"floats [M, C]), one of each, are needed.{hint}"
        )
    picture = images[0].detach()
    whole = picture.dtype in (torch.float16, torch.float32) or not picture.is_floating_point()
    return (
        (picture if whole else picture.float()).numpy(),
        labels[0].detach().numpy() if labels else None,
        soft[0].detach().float().numpy() if soft else None,
    )
