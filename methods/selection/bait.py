"""BAIT: images of each class that leave least of its Fisher information unexplained (forward, then backward greedy)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._fisher import Trace, forward_backward
from methods._lastlayer import residuals
from methods._order import finite_rows, one_of
from methods._quota import class_members

CITATION = (
    "Ash et al., Gone Fishing: Neural Active Learning with Fisher Embeddings, NeurIPS 2021; binary form: Huseljic et "
    "al., Fast Fishing: Approximating BAIT for Efficient and Scalable Deep Active Image Classification, ECML-PKDD 2024."
)
PUBLISHED = {"all data sets": {"information": "full", "ridge": 1.0, "oversample": 2.0}}

_LARGEST = 4096  # rows of the whole information matrix: 128 MiB each, of which there are some four


def curvature(logits: np.ndarray, label: int, information: Literal["binary", "full"]) -> np.ndarray:
    """float64 [n, C, r], whose product with its transpose is the information about the logits of each image.

    "full": diag(p) - p p' (r = C). "binary": p_label (1 - p_label) alone (C = r = 1). The complement of p_label is the
    sum of the others, so it does not drown when p_label is nearly 1.
    """
    share = residuals(logits, np.full(len(logits), label))
    other = -share[:, label]
    if information == "binary":
        return np.sqrt(other * (1.0 - other))[:, None, None]
    share[:, label] = 1.0 - other
    root = np.sqrt(share)
    # diag(s) (1 - s s') with s = sqrt(p): 1 - s s' is a projection, so its square is itself.
    out = -share[:, :, None] * root[:, None, :]
    diagonal = np.arange(share.shape[1])
    out[:, diagonal, diagonal] = root * (1.0 - share)
    out[:, label, label] = root[:, label] * other
    return out


def select(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    information: Literal["binary", "full"] = "binary",
    ridge: float = 1.0,
    oversample: float = 2.0,
) -> np.ndarray:
    """Forward and backward greedy on the Fisher information of the last layer, class by class. Deterministic.

    The information of an image about the last layer is (diag(p) - p p') (x) (h, 1) (h, 1)', a matrix of C (d + 1) rows.
    With information=full the greedy is exact on it: for small data sets only. With information=binary it is exact on
    that of the question "this class or another", p (1 - p) (h, 1) (h, 1)', p the teacher's probability of the class: a
    matrix of d + 1 rows for each class. For two classes that is the full form at twice the ridge; for more it is
    approximate.

    Deviations: the pool, and the mean information that is to be explained, are those of the class; nothing is labelled
    beforehand; features are divided by their root mean square length over the class, so that `ridge` means the same for
    every teacher.

    Cost on ImageNet's size (1.28M images, 512 features, 1,000 classes), extrapolated from one class on one core, with
    information=binary: 100 s at 10 images per class, 500 s at 50. With information=full: about
    10 s a class at 2,570 rows and 120 images (`digits`).

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the teacher's features and logits.
        information: "binary", or "full" where C (d + 1) is at most 4,096.
        ridge: added to the information of the picks; > 0.
        oversample: the first pass adds this multiple of ipc, the second takes the surplus away; >= 1.

    Returns:
        int64 [num_classes * ipc], unique, class after class, in the order of addition.

    Raises:
        ValueError: an argument is out of range, information=full is too large, a class has too few images, or a feature
            or logit is not finite.
    """
    one_of("information", information, "binary", "full")
    if not 0.0 < ridge < np.inf:
        raise ValueError(f"ridge is {ridge}; it must be a number above 0")
    if not 1.0 <= oversample < np.inf:
        raise ValueError(f"oversample is {oversample}; it must be at least 1")
    groups = list(class_members(train, ipc))
    features, logits = ctx.features(), ctx.logits()
    size = train.num_classes * (features.shape[1] + 1)
    if information == "full" and size > _LARGEST:
        raise ValueError(f"information=full needs a matrix of {size} rows here, at most {_LARGEST}; use binary")
    picks = []
    for label, own in groups:
        rows = finite_rows(features[own], own, "the feature")
        length = np.sqrt(np.einsum("nd,nd->", rows, rows) / len(rows))
        scaled = np.concatenate([rows / (length if length > 0 else 1.0), np.ones((len(rows), 1))], axis=1)
        left = curvature(finite_rows(logits[own], own, "a logit"), label, information)
        picks.append(own[forward_backward(Trace(left, scaled, ridge), ipc, oversample)])
    return np.concatenate(picks)
