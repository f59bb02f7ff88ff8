"""Label solve: random images with the labels of which kernel ridge regression on them predicts the training split."""

from __future__ import annotations

import numpy as np
import torch

from bench.api import Condensed, Context, Train
from methods._quota import class_members

NAME = "label-solve"
CITATION = (
    "Nguyen, Chen, Lee, Dataset Meta-Learning from Kernel Ridge-Regression, ICLR 2021; the kernel: Jacot et al., "
    "NeurIPS 2018."
)

_BATCH = 1000  # training images that are compared with the set at once
_RANK = 1e-10  # singular values below this share of the largest are taken for zero


def synthesize(train: Train, ipc: int, ctx: Context, *, depth: int = 3, ridge: float = 1e-6) -> Condensed:
    """Draw `ipc` images of every class, and solve for their labels.

    Kernel ridge regression on the set (X, y) predicts K(t, X) (K(X, X) + r I)^-1 y for an image t. The labels y are
    those of least squared error over the whole training split, whose targets are one-hot minus 1 / classes (KIP's). The
    kernel is the neural tangent kernel of a fully connected network of infinite width, with ReLU and without biases, on
    normalised pixels. Labels are values of a regression: protocols of squared error take them as they are.

    Deviations: KIP's convolutional kernels take hours on CPU; this is its FC kernel. Images are not augmented.

    Args:
        train: the training split, read in batches.
        ipc: images per class.
        ctx: gives generators and the normalisation.
        depth: hidden layers of the network behind the kernel, at least 1.
        ridge: r as a share of the mean of the diagonal of K(X, X), above 0.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class, and labels float32.

    Raises:
        ValueError: a class has fewer than `ipc` images, `depth` is below 1, or `ridge` is not above 0.
    """
    if depth < 1 or not ridge > 0:
        raise ValueError(f"depth is {depth} and ridge is {ridge}; depth must be at least 1 and ridge above 0")
    picks = [ctx.numpy("draw", label).choice(own, ipc, replace=False) for label, own in class_members(train, ipc)]
    indices = np.concatenate(picks)
    images = train.images(indices)
    support = _pixels(ctx, images)
    # Labels y = A z of least error have the z of least error: with z = A^-1 y the prediction is K(t, X) z.
    gram, right = np.zeros((len(indices),) * 2), np.zeros((len(indices), train.num_classes))
    for rows, batch in train.batches(_BATCH):
        compared = _tangent_kernel(_pixels(ctx, batch), support, depth)
        gram += compared.T @ compared
        right += compared.T @ _targets(train.labels[rows], train.num_classes)
    weights = np.linalg.lstsq(gram, right, rcond=_RANK)[0]
    own = _tangent_kernel(support, support, depth)
    labels = own @ weights + ridge * float(own.diagonal().mean()) * weights
    return Condensed(
        images=images,
        labels=torch.from_numpy(train.labels[indices]),
        indices=indices,
        soft_labels=torch.from_numpy(labels.astype(np.float32)),
    )


def _pixels(ctx: Context, images: torch.Tensor) -> np.ndarray:
    """float64 [n, d]: normalised, one row an image."""
    return ctx.normalise(images.to(ctx.device)).flatten(1).double().cpu().numpy()


def _targets(labels: np.ndarray, classes: int) -> np.ndarray:
    """float64 [n, C]: one-hot minus 1 / C."""
    return np.eye(classes)[labels] - 1 / classes


def _tangent_kernel(rows: np.ndarray, others: np.ndarray, depth: int) -> np.ndarray:
    """float64 [n, m]: of a network of `depth` hidden layers, whose weights are scaled so that norms stay (He's rule).

    With s = |x| |x'| / d and c the cosine of two images, a layer makes c -> (c (pi - arccos c) + sqrt(1 - c^2)) / pi of
    the cosine, and its derivative is (pi - arccos c) / pi.
    """
    width = rows.shape[1]
    norms = np.sqrt(np.outer((rows**2).sum(axis=1), (others**2).sum(axis=1))) / width
    cosine = rows @ others.T / width / np.maximum(norms, np.finfo(np.float64).tiny)
    tangent = cosine
    for _ in range(depth):
        cosine = np.clip(cosine, -1.0, 1.0)
        slope = (np.pi - np.arccos(cosine)) / np.pi
        cosine = cosine * slope + np.sqrt(1 - cosine**2) / np.pi
        tangent = cosine + tangent * slope
    return norms * tangent
