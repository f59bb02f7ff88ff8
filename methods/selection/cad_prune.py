"""CAD-Prune: the images of each class that a run as long as the student's is still unsure about at its end."""

from __future__ import annotations

import numpy as np

from bench.api import Context, Train
from methods._dynamics import own_probabilities
from methods._order import lowest
from methods._quota import class_members

CITATION = (
    "Dey et al., Rethinking Dataset Distillation: Hard Truths about Soft Labels, CVPR 2026, arXiv 2604.18811, sec. 5."
)


def matched_epochs(images: int, selected: int, student_epochs: int) -> int:
    """Epochs over the whole split that show a network as many images as the student's training on the selection."""
    return round(student_epochs * selected / images)


def cad_scores(probabilities: np.ndarray, span: int, window: int) -> np.ndarray:
    """float64 [N]: mean over the last `window` starts k of U_k, from the labels' probabilities [K, N].

    U_k is the standard deviation (by span - 1) of the probability over the epochs k .. k + span - 1; k runs from
    K - span - window to K - span - 1, epochs counted from 0 (equations 1 and 2). So epoch K - 1 takes no part.
    """
    starts = range(len(probabilities) - span - window, len(probabilities) - span)
    return np.mean([probabilities[k : k + span].std(axis=0, ddof=1) for k in starts], axis=0)


def select(
    train: Train, ipc: int, ctx: Context, *, student_epochs: int = 300, span: int = 0, window: int = 2
) -> np.ndarray:
    """Take the `ipc` images of every class with the highest score. Deterministic: ties go to the lowest index.

    Difficulty is measured at the student's compute budget: the dynamics run over K = student_epochs ipc classes / N
    epochs of the whole split, rounded, as many images as the student sees. An image that is learnt early, or not at
    all, has a steady probability; one that is just being learnt has not.

    Deviations: no code of the authors is public. The equations, and that the highest of each class are kept, are as
    summaries and a reproduction of the paper give them; those differ in whether S, of which U is the deviation, is the
    label's probability or the EL2N error. Fixed here: S is the softmax probability of the label; the span is K -
    window, so that the windows reach back to the first epoch; K is at least window + 2 (a shorter run has no
    deviation); the run has the recipe of all training dynamics here, with a constant learning rate, not the student's,
    which a method cannot see. Its length is therefore told by `student_epochs`.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the training dynamics.
        student_epochs: epochs over the selection that the student is thought to be trained for; at least 1. The cost
            of the dynamics grows with it and with ipc.
        span: J, epochs of one deviation, at least 2; 0 stands for K - window. K is raised to span + window.
        window: W, deviations that are averaged; at least 1.

    Returns:
        int64 [num_classes * ipc], unique, class after class, highest score first.

    Raises:
        ValueError: an argument is out of range, a class has too few images, or a probability is not finite.
    """
    for name, value, least in (("student_epochs", student_epochs, 1), ("window", window, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    if span != 0 and span < 2:
        raise ValueError(f"span is {span}; it must be 0 or at least 2")
    groups = list(class_members(train, ipc))
    matched = matched_epochs(len(train), ipc * train.num_classes, student_epochs)
    epochs = max(matched, (span or 2) + window)
    scores = cad_scores(own_probabilities(ctx.dynamics_scores(epochs)), span or epochs - window, window)
    return lowest(scores, groups, ipc, highest=True)
