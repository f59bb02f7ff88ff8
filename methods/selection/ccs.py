"""Coverage-centric selection: without the hardest share of each class, images spread over all difficulties."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._dynamics import margins
from methods._el2n import el2n_scores
from methods._order import one_of
from methods._quota import class_members

CITATION = "Zheng et al., Coverage-centric Coreset Selection for High Pruning Rates, ICLR 2023."
# The cut-offs for images per class are those of Xiao et al., Rethinking Large-scale Dataset Compression, 2025.
PUBLISHED = {
    "imagenet1k ipc=10": {"epochs": 60, "score": "aum", "cutoff": 0.3},
    "imagenet1k ipc=50": {"epochs": 60, "score": "aum", "cutoff": 0.3},
    "imagenet1k ipc=100": {"epochs": 60, "score": "aum", "cutoff": 0.2},
}

_ABOVE = 1.0001  # as published: the top of the range lies a little above the largest score, which then has a stratum


def strata_of(scores: np.ndarray, strata: int) -> np.ndarray:
    """int64 [n]: the stratum of each score, of `strata` equally wide ones between the smallest and the largest."""
    low, high = float(scores.min()), float(scores.max())
    width = (high - low) * _ABOVE / strata
    if width <= 0.0:
        return np.zeros(len(scores), dtype=np.int64)
    return np.minimum((scores - low) / width, strata - 1).astype(np.int64)


def budgets(sizes: np.ndarray, total: int) -> np.ndarray:
    """int64 [strata]: images to take of each, `total` together, at most `sizes` (their sum is at least `total`).

    From the smallest stratum up, each gets its size or an equal share (rounded down) of what is left, whichever is
    less. With fewer images than strata the smallest strata so get none: that is the published rule.
    """
    out, left = np.zeros(len(sizes), dtype=np.int64), total
    for turn, stratum in enumerate(np.argsort(sizes, kind="stable")):
        out[stratum] = min(int(sizes[stratum]), left // (len(sizes) - turn))
        left -= int(out[stratum])
    return out


def select(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    score: Literal["aum", "el2n"] = "aum",
    cutoff: float = 0.3,
    strata: int = 50,
    epochs: int = 30,
) -> np.ndarray:
    """Draw `ipc` images of every class, spread over its strata of difficulty, without the hardest share.

    Deviations: cut-off, strata and budgets are made within each class (the published method knows no classes; its
    balanced mode gives all classes the count of the last). Sampling is seeded (the published code's is not). The
    score's range is that of the images that are left. If fewer than `ipc` would be left, `ipc` are.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the training dynamics and the draws.
        score: "aum" sums probability margins (hard is low), "el2n" the errors (hard is high).
        cutoff: share of each class that is dropped at the hard end; in [0, 1).
        strata: equally wide ranges of the score; at least 1.
        epochs: epochs over which the score is summed, from the first; at least 1 (published for EL2N: 10).

    Returns:
        int64 [num_classes * ipc], unique, class after class, from the easiest stratum to the hardest.

    Raises:
        ValueError: an argument is out of range, a class has too few images, or a probability is not finite.
    """
    one_of("score", score, "aum", "el2n")
    if not 0.0 <= cutoff < 1.0:
        raise ValueError(f"cutoff is {cutoff}; it must be at least 0 and below 1")
    for name, value in (("strata", strata), ("epochs", epochs)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    groups = list(class_members(train, ipc))
    dynamics = ctx.dynamics_scores(epochs)
    hardness = -margins(dynamics, "probability") if score == "aum" else el2n_scores(dynamics)
    return np.concatenate(
        [own[_draw(hardness[own], ipc, cutoff, strata, ctx.numpy("draw", label))] for label, own in groups]
    )


def _draw(hardness: np.ndarray, ipc: int, cutoff: float, strata: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [ipc]: positions within one class."""
    left = max(ipc, len(hardness) - int(cutoff * len(hardness)))
    kept = np.argsort(hardness, kind="stable")[:left]
    stratum = strata_of(hardness[kept], strata)
    counts = budgets(np.bincount(stratum, minlength=strata), ipc)
    return np.concatenate(
        [rng.choice(kept[stratum == s], counts[s], replace=False) for s in range(strata) if counts[s] > 0]
    )
