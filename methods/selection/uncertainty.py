"""The images of each class of which the teacher is least (or most) certain."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import entr, softmax

from bench.api import Context, Train
from methods._order import finite_rows, lowest, one_of
from methods._quota import class_members

CITATION = "Coleman et al., Selection via Proxy: Efficient Data Selection for Deep Learning, ICLR 2020."

_CHUNK_VALUES = 1 << 21  # probabilities that are held in float64 at once (16 MiB)


def uncertainties(logits: np.ndarray, score: Literal["entropy", "margin", "confidence"]) -> np.ndarray:
    """float64 [N], high is uncertain, of logits [N, C] (may be memory-mapped: read in chunks).

    "entropy": -sum p log p, in nats. "margin": 1 - (p_1 - p_2), of the two largest probabilities. "confidence":
    1 - p_1. The last two are sums of the other probabilities, so nearly certain images keep their order.

    Raises:
        ValueError: a logit is NaN or infinite; the message names the image.
    """
    count, classes = logits.shape
    step = max(1, _CHUNK_VALUES // classes)
    out = np.empty(count)
    for start in range(0, count, step):
        here = np.arange(start, min(start + step, count))
        share = softmax(finite_rows(logits[start : start + step], here, "a logit"), axis=1)
        if score == "entropy":
            out[here] = entr(share).sum(axis=1)
        else:
            share[np.arange(len(here)), share.argmax(axis=1)] = 0.0
            out[here] = share.sum(axis=1)
            if score == "margin":
                out[here] += share.max(axis=1)
    return out


def select(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    score: Literal["entropy", "margin", "confidence"] = "entropy",
    end: Literal["low", "high"] = "high",
) -> np.ndarray:
    """Take the `ipc` images of every class at one end of the score. Deterministic: ties go to the lowest index.

    The labels of the images choose only the class in which an image competes. DeepCore without class balance sorts the
    wrong way round; here "high" is the most uncertain in all three scores. Deviations: the published scores are of a
    small proxy network; here they are the teacher's, which has learnt these images.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the teacher's logits.
        score: see `uncertainties`.
        end: "high" takes the most uncertain images (as published), "low" the most certain.

    Returns:
        int64 [num_classes * ipc], unique, class after class, most extreme score first.

    Raises:
        ValueError: a word is unknown, a class has too few images, or a logit is not finite.
    """
    one_of("score", score, "entropy", "margin", "confidence")
    one_of("end", end, "low", "high")
    groups = list(class_members(train, ipc))
    return lowest(uncertainties(ctx.logits(), score), groups, ipc, highest=end == "high")
