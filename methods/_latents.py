"""Prototypes of latents: what D4M does between the halves of an autoencoder, for any autoencoder.

D. Su et al., D^4M: Dataset Distillation via Disentangled Diffusion Model, CVPR 2024; code suduo94/D4M
(distillation/gen_prototype.py at add5091, gen_syn_image.py at da35d10).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from torch.nn import functional as F

from bench.api import Condensed, Context, Train
from methods._pixels import to_bytes
from methods._quota import class_members
from methods._random_networks import at_least

_CODED_AT_ONCE = 64  # images that go through an autoencoder together


class Autoencoder(Protocol):
    """What a method of your own brings: images to latents and back."""

    def encode(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Latents float [n, ...], of one shape for all images.

        Args:
            images: uint8 [n, channels, side, side], on the CPU; at most 64 at once.
            labels: int64 [n], their classes.
        """
        ...

    def decode(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Images in grey levels, float [n, channels, height, width]; of another size they are resized.

        Args:
            latents: prototypes float32 [n, ...], shaped as those of `encode`, on the CPU; at most 64 at once.
            labels: int64 [n], their classes: what a text prompt is written from.
        """
        ...


def condense_latents(
    train: Train,
    ipc: int,
    ctx: Context,
    autoencoder: Autoencoder,
    *,
    expand: int = 1,
    passes: int = 1,
    read: Callable[[np.ndarray], torch.Tensor] | None = None,
) -> Condensed:
    """Decode `ipc` prototypes of every class: centres of mini-batch k-means on the latents of its images.

    Args:
        train: the training split; the latents of one mini-batch are held at a time.
        ipc: images per class.
        ctx: gives the generators.
        autoencoder: the user's own, or one of methods/_autoencoders.py.
        expand: a mini-batch of k-means has expand * ipc latents (`km_expand` of the code); at least 1.
        passes: over the images of a class, each in another order; at least 1.
        read: images by index, as `encode` gets them; None is `train.images`. `train.sources` has a higher resolution
            where the data set keeps one.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range, a class has fewer than `ipc` images, or latents or decoded images are
            not finite or of the wrong shape.
    """
    at_least(expand=(expand, 1), passes=(passes, 1))
    images_of = read or train.images
    made = []
    for label, own in class_members(train, ipc):
        model = MiniBatchKMeans(
            ipc,
            batch_size=expand * ipc,
            n_init=1,
            random_state=int(ctx.numpy("clusters", label).integers(2**31)),
        )
        order = ctx.numpy("order", label)
        for _ in range(passes):
            shuffled = order.permutation(own)
            # A first batch of fewer than `ipc` latents has no clusters: the class has as many images.
            for start in range(0, len(shuffled), expand * ipc):
                rows, shape = _encoded(autoencoder, images_of, shuffled[start : start + expand * ipc], label)
                model.partial_fit(rows)
        prototypes = torch.from_numpy(model.cluster_centers_.astype(np.float32))
        made.append(_decoded(autoencoder, prototypes.view(ipc, *shape), label, train))
    return Condensed(
        images=torch.cat(made),
        labels=torch.arange(train.num_classes).repeat_interleave(ipc),
        provenance={"latent_shape": list(shape)},
    )


def _encoded(
    autoencoder: Autoencoder, images_of: Callable[[np.ndarray], torch.Tensor], indices: np.ndarray, label: int
) -> tuple[np.ndarray, torch.Size]:
    """(latents float64 [n, d], the shape of one of them)."""
    parts = []
    for start in range(0, len(indices), _CODED_AT_ONCE):
        images = images_of(indices[start : start + _CODED_AT_ONCE])
        with torch.no_grad():
            latents = autoencoder.encode(images, torch.full((len(images),), label))
        if len(latents) != len(images) or not latents.is_floating_point() or not latents.isfinite().all():
            raise ValueError(
                f"encode gave {latents.dtype} {list(latents.shape)} for {len(images)} images of class {label}; "
                f"latents must be finite floats [{len(images)}, ...]"
            )
        parts.append(latents.detach().double().cpu())
    together = torch.cat(parts)
    return together.flatten(1).numpy(), together.shape[1:]


def _decoded(autoencoder: Autoencoder, prototypes: torch.Tensor, label: int, train: Train) -> torch.Tensor:
    """uint8 [n, channels, size, size]."""
    parts = []
    for latents in prototypes.split(_CODED_AT_ONCE):
        with torch.no_grad():
            images = autoencoder.decode(latents, torch.full((len(latents),), label)).float().cpu()
        if images.ndim != 4 or images.shape[:2] != (len(latents), train.channels) or not images.isfinite().all():
            raise ValueError(
                f"decode gave {list(images.shape)} for {len(latents)} latents of class {label}; images must be finite "
                f"floats [{len(latents)}, {train.channels}, height, width], in grey levels"
            )
        if images.shape[2:] != (train.size, train.size):
            images = F.interpolate(images, size=(train.size, train.size), mode="bicubic", antialias=True)
        parts.append(to_bytes(images))
    return torch.cat(parts)
