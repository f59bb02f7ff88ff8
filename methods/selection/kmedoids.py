"""k-means medoids: the images of each class that stand for the clusters of its features."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from bench.api import Context, Train
from methods._order import finite_rows
from methods._quota import class_members

CITATION = (
    "Sorscher et al., Beyond Neural Scaling Laws, NeurIPS 2022 (k-means prototypes); seeds: Arthur and Vassilvitskii, "
    "k-means++, SODA 2007."
)
CHECK_EXCEPTIONS = {
    "other-seeds-give-other-images": "a few images have one best clustering, which every seed finds; with more images "
    "and clusters seeds end in different ones",
}


def medoids(rows: np.ndarray, count: int, seed: int, *, restarts: int = 1) -> np.ndarray:
    """The `count` distinct rows that stand for the centres of Lloyd's k-means.

    Every centre gets a row of its own so that the sum of squared distances between centres and rows is least (an
    assignment problem, solved exactly). Where no two centres share their nearest row, that is the nearest row of each.

    Args:
        rows: float64 [n, d].
        count: clusters, at most n. With fewer distinct rows than that, some centres coincide.
        seed: of k-means++, below 2^32.
        restarts: seedings; the one with the least sum of squares is kept.

    Returns:
        int64 [count], those of large clusters first. Memory n count.
    """
    model = KMeans(count, init="k-means++", n_init=restarts, random_state=seed, algorithm="lloyd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: served, see above
        model.fit(rows)
    _, chosen = linear_sum_assignment(cdist(model.cluster_centers_, rows, "sqeuclidean"))
    sizes = np.bincount(model.labels_, minlength=count)
    return chosen[np.argsort(-sizes, kind="stable")].astype(np.int64)


def select(train: Train, ipc: int, ctx: Context, *, unit_norm: bool = False, restarts: int = 1) -> np.ndarray:
    """Cluster the teacher's features of each class into `ipc` parts and take an image for each part.

    Deviations: Sorscher et al. cluster the self-supervised features of all classes and rank images by the distance to
    their prototype; here the clusters are of one class, of the teacher's features, and the images nearest to their
    centres are the selection.

    Cost on ImageNet's size (1.28M images, 512 features, 1,000 classes), extrapolated from one class on one core: 30 s
    at 10 images per class, 80 s at 50.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the teacher's features, and a seed for each class.
        unit_norm: True scales every feature to length 1 first (a zero feature stays zero).
        restarts: seedings of k-means; the best is kept; at least 1.

    Returns:
        int64 [num_classes * ipc], unique, class after class, images of large clusters first.

    Raises:
        ValueError: restarts is below 1, a class has fewer than `ipc` images, or a feature is not finite.
    """
    if restarts < 1:
        raise ValueError(f"restarts is {restarts}; it must be at least 1")
    groups = list(class_members(train, ipc))
    features = ctx.features()
    picks = []
    for label, own in groups:
        rows = finite_rows(features[own], own, "the feature")
        if unit_norm:
            length = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / np.where(length > 0, length, 1.0)
        seed = int(ctx.numpy("clusters", label).integers(2**32))
        picks.append(own[medoids(rows, ipc, seed, restarts=restarts)])
    return np.concatenate(picks)
