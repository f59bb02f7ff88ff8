"""SCORE selection: exact greedy on coding rates, informative and discriminative images with simple soft labels."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._coding_rate import greedy, label_coding_rate
from methods._quota import class_members

CITATION = (
    "SCORE: Soft Label Compression-Centric Dataset Condensation via Coding Rate Optimization, 2025, arXiv 2503.13935; "
    "coding rates: Yu et al., Maximal Coding Rate Reduction, NeurIPS 2020."
)

# Table 5 of the paper. It gives neither eps, nor K, nor the layer and scaling of the features, nor the candidates.
PUBLISHED = {
    "imagenet1k": {"alpha": 5.0, "beta": 1.0, "crop_scale": 0.4, "cutmix": True},
    "tiny-imagenet ipc=10": {"alpha": 5.0, "beta": 0.001, "crop_scale": 0.3, "cutmix": True},
    "tiny-imagenet ipc=50": {"alpha": 10.0, "beta": 0.001, "crop_scale": 0.4, "cutmix": True},
    "imagewoof": {"alpha": 5.0, "beta": 0.1, "crop_scale": 0.3, "cutmix": True},
    "imagenette": {"alpha": 0.1, "beta": 0.1, "crop_scale": 0.2, "cutmix": True},
}
CHECK_EXCEPTIONS = {
    "class-numbers-do-not-matter": "the greedy visits the classes by number, and every pick weighs on the next; "
    "with order=global, where no class comes first, the rule is kept",
}

_BATCH_VALUES = 1 << 24  # soft-label values turned into probabilities at once


def select(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    alpha: float = 5.0,
    beta: float = 0.1,
    eps: float = 0.7071067811865476,
    k: int = 5,
    normaliser: Literal["budget", "running"] = "budget",
    order: Literal["round_robin", "sequential", "global"] = "round_robin",
    unit_norm: bool = True,
    candidates: int = 0,
    crop_scale: float = 0.4,
    cutmix: bool = False,
) -> np.ndarray:
    """Pick ipc images per class by exact greedy on R_I - alpha R_P - beta R_C. Deterministic, unless `candidates` are
    drawn.

    Deviations: what the paper leaves open is fixed here. alpha and beta are the commonest values of Table 5 (the row of
    ImageWoof; `PUBLISHED` has all). eps^2 = 0.5 and unit-norm features are those of MCR2, from which SCORE takes its
    rates without naming either. k is not published. The budget normaliser is the one for which the paper's proof holds;
    "running" with "sequential" is the letter of eq. 5, and with alpha > 1 fills the first class with its most redundant
    images. With a single class R_P equals R_I: alpha = 1 leaves only R_C (and ties), alpha > 1 prefers redundant
    images. Algorithm 1 takes the best of a batch of candidate images, whose size and drawing it leaves open; here every
    image is a candidate unless `candidates` says otherwise. Its soft labels are those of the training recipe, with
    Table 5's crops and CutMix; here crops are ImageNet-1K's for every data set, and no image's label depends on a
    partner unless `cutmix` is on. The precision eps of the features serves the labels too.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the teacher's features, and its soft labels where beta > 0.
        alpha: weight of R_P, the rate within the classes; >= 0.
        beta: weight of R_C, the rate of an image's k soft labels (softmax at temperature 1); >= 0. R_C is absolute,
            0.5 to 3 nats, while a pick adds at most 1/2 log(1 + 1 / mu) to R_I: a large beta sorts by R_C.
        eps: coding precision, in units of the features; > 0. Also that of R_C.
        k: views per image whose soft labels enter R_C; >= 1.
        normaliser: "budget" (n of the finished set) or "running" (n of the set so far).
        order: "round_robin" over the classes, "sequential" (half the time, about 3 % less objective) or "global".
        unit_norm: True scales every feature to length 1 first (a zero feature stays zero).
        candidates: images that a pick is the best of, drawn anew for each pick from those that may be picked; 0 is all
            of them. With normaliser "budget" only.
        crop_scale: smallest share of the area in the k views; above 0 and at most 1.
        cutmix: True pastes a box of another training image into each view.

    Returns:
        int64 [num_classes * ipc], unique, in the order of picking.

    Raises:
        ValueError: a class has fewer than ipc images, a parameter is out of range, or a feature is not finite.
    """
    list(class_members(train, ipc))  # refuses a class that cannot fill its quota
    if k < 1:
        raise ValueError(f"k must be >= 1; got {k}")
    if not 0 < crop_scale <= 1:
        raise ValueError(f"crop_scale must be above 0 and at most 1; got {crop_scale}")
    soft = ctx.soft_labels(None, k, crop_scale=crop_scale, cutmix=cutmix) if beta > 0 else None
    label_rate = None if soft is None else _label_rates(soft, eps)
    return greedy(
        ctx.features(),
        train.labels,
        ipc,
        num_classes=train.num_classes,
        label_rate=label_rate,
        alpha=alpha,
        beta=beta,
        eps=eps,
        normaliser=normaliser,
        order=order,
        unit_norm=unit_norm,
        candidates=candidates,
        generator=ctx.numpy("candidates") if candidates else None,
    ).indices


def _label_rates(logits: np.ndarray, eps: float) -> np.ndarray:
    """R_C of every image from its logits [N, k, C], in slices: all probabilities never stand in memory at once."""
    step = max(1, _BATCH_VALUES // (logits.shape[1] * logits.shape[2]))
    rates = [label_coding_rate(_softmax(logits[i : i + step]), eps) for i in range(0, len(logits), step)]
    return np.concatenate(rates)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
