"""The evaluation recipe: every value that a protocol fixes for one cell (data set, ipc, student), after resolution.

A protocol file (see bench/protocol.py) resolves to one `Recipe`; the training loop reads nothing else. Every default is
written here and takes part in the protocol's digest.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A strict, frozen piece of a recipe: an unknown key or a value out of range is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Optimizer(Part):
    """torch's AdamW or SGD, with torch's own meaning of every value."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    nesterov: bool = False
    decay: Literal["weights", "all"] = "weights"  # "weights": tensors of two or more dimensions only (no bias, no norm)


class Schedule(Part):
    """Learning rate of epoch e of E, as a multiple of `lr`.

    cosine: (1 + cos(pi e / (zeta E))) / 2; zeta=1 ends near 0, zeta=2 ends at one half (RDED, EDC).
    """

    name: Literal["cosine", "constant"] = "cosine"
    zeta: Positive = 1.0


class Loss(Part):
    """ce: cross-entropy with the hard label (mixed by area under CutMix and Mixup).
    kl: KL(softmax(teacher/T) || softmax(student/T)), summed over classes, mean over the batch."""

    name: Literal["ce", "kl"] = "ce"
    temperature: Positive = 1.0
    times_t_squared: bool = False


class Augment(Part):
    """One view of an image: crop, flip, then mix with a partner, then cut out; patches are cut before the crop."""

    patches: Literal["none", "shuffle", "extract"] = "none"
    patch_grid: Annotated[int, Field(ge=1)] = 1  # patches per side
    crop_scale: tuple[Share, Share] = (1.0, 1.0)  # share of the area; (1, 1) keeps the whole image
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Share = 0.5  # probability; only where the data set says that a mirrored image keeps its class
    mix: Literal["none", "cutmix", "mixup"] = "none"
    mix_alpha: Positive = 1.0  # lambda ~ Beta(alpha, alpha)
    mix_probability: Share = 1.0
    mix_unit: Literal["image", "batch"] = "image"  # lambda, box, partner per image, or one lambda and box a batch
    cutout: Share = 0.0  # side of the erased square as a share of the image's side; 0 is none
    cutout_probability: Share = 1.0


class Recipe(Part):
    """All that is fixed in one cell. `labels`: hard (class labels) or stored (teacher logits, made once, K views)."""

    labels: Literal["hard", "stored"]
    views: Annotated[int, Field(ge=0)] = 0  # K, stored views per image; 0 for hard labels
    epochs: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    augment: Augment = Augment()
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay per step of an average of the parameters; 0 is off
