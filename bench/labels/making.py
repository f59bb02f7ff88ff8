"""Making of soft labels: the stored views of a condensed set, and what the teachers say of them, shard by shard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bench.protocol.recipe import Recipe
from bench.seeds import seed
from bench.teachers.ensemble import Ensemble, label_view
from bench.views.parameters import Views


def label_views(recipe: Recipe, images: int, *, protocol: str, dataset: str, size: int, mirror: bool) -> Views:
    """The K stored views of a condensed set. They depend on the protocol, the data set and the number of images, not on
    the method: every method's images meet the same crops (common random numbers)."""
    return Views(
        recipe.augment,
        images,
        size,
        mirror=mirror,
        batch=recipe.batch,
        seed=seed("views", protocol, dataset, images),
        count=recipe.views,
    )


def teacher_logits(
    ensemble: Ensemble,
    images: torch.Tensor,
    views: Views,
    indices: np.ndarray,
    norms: torch.Tensor | None = None,
    some: Sequence[int] | None = None,
) -> torch.Tensor:
    """float16 [len(indices), views, C]: what the teachers say of each view of each of these images.

    Args:
        ensemble: one teacher or several.
        images: the whole set (uint8 or float [N, channels, size, size]): a view may mix in any of them.
        views: of the whole set.
        indices: int64, ascending.
        norms: float32 [len(views), teachers, batches], see bench.teachers.ensemble.label_view.
        some: indices of the views that are asked for; None: all.
    """
    columns = [
        label_view(ensemble, images, views, k, indices, None if norms is None else norms[k]).to(torch.float16).cpu()
        for k in (range(len(views)) if some is None else some)
    ]
    return torch.stack(columns, dim=1)
