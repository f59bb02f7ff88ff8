"""The images of each class with the smallest (or largest) gradient of the loss by the last layer."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._el2n import el2n_scores
from methods._lastlayer import residuals
from methods._order import finite_rows, lowest, one_of
from methods._quota import class_members

CITATION = "Paul, Ganguli, Dziugaite, Deep Learning on a Data Diet, NeurIPS 2021."

_CHUNK_VALUES = 1 << 20  # values that are held in float64 at once (8 MiB)


def feature_lengths(features: np.ndarray) -> np.ndarray:
    """float64 [N]: ||(h, 1)|| of features [N, d]; the 1 belongs to the bias. Read in chunks.

    Raises:
        ValueError: a feature is NaN or infinite; the message names the image.
    """
    step = max(1, _CHUNK_VALUES // features.shape[1])
    out = np.empty(len(features))
    for start in range(0, len(features), step):
        here = np.arange(start, min(start + step, len(features)))
        rows = finite_rows(features[start : start + step], here, "the feature")
        out[here] = np.sqrt(np.einsum("nd,nd->n", rows, rows) + 1.0)
    return out


def error_lengths(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 [N]: ||softmax(logits) - one-hot(labels)|| of logits [N, C]. Read in chunks.

    Raises:
        ValueError: a logit is NaN or infinite; the message names the image.
    """
    step = max(1, _CHUNK_VALUES // logits.shape[1])
    out = np.empty(len(logits))
    for start in range(0, len(logits), step):
        here = np.arange(start, min(start + step, len(logits)))
        rows = finite_rows(logits[start : start + step], here, "a logit")
        out[here] = np.linalg.norm(residuals(rows, labels[here]), axis=1)
    return out


def select(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    epochs: int = 10,
    source: Literal["dynamics", "teacher"] = "dynamics",
    end: Literal["easy", "hard"] = "easy",
) -> np.ndarray:
    """Take the `ipc` images of every class at one end of the gradient norm. Deterministic: ties to the lowest index.

    The gradient by weights and bias of the last layer is (p - y) (x) (h, 1), so its norm is ||p - y|| ||(h, 1)||:
    exact, without forming it. The paper takes it by all weights, early in training, in expectation over networks.

    Deviations: last layer only, and one run. With source=dynamics, ||p - y|| is averaged over the first epochs of a
    network trained from scratch; features of those epochs are not kept, so h is the teacher's. With source=teacher,
    both factors are the trained teacher's, which has fitted the images already: the gradient is exact, but not early.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives features, and training dynamics or logits.
        epochs: first epochs over which the error is averaged; at least 1. source=teacher does not use it.
        source: where p is from.
        end: "easy" takes the smallest norms, "hard" the largest (as published, at high budgets).

    Returns:
        int64 [num_classes * ipc], unique, class after class, most extreme score first.

    Raises:
        ValueError: an argument is out of range, a class has too few images, or a value is not finite.
    """
    one_of("source", source, "dynamics", "teacher")
    one_of("end", end, "easy", "hard")
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1")
    groups = list(class_members(train, ipc))
    if source == "dynamics":
        errors = el2n_scores(ctx.dynamics_scores(epochs)) / epochs
    else:
        errors = error_lengths(ctx.logits(), train.labels)
    return lowest(errors * feature_lengths(ctx.features()), groups, ipc, highest=end == "hard")
