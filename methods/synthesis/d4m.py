"""D4M's clustering: decoded centres of the latents of each class, by an autoencoder that is fitted to the split."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bench.api import Condensed, Context, Train
from methods._autoencoders import Convolutional, Linear
from methods._latents import condense_latents
from methods._order import one_of
from methods._quota import class_members
from methods._random_networks import at_least

TEACHER = False  # it labels, under protocols of soft labels
CITATION = (
    "Su et al., D^4M: Dataset Distillation via Disentangled Diffusion Model, CVPR 2024, and its code (suduo94/D4M); "
    "the clustering: Sculley, Web-scale k-means clustering, WWW 2010."
)


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    autoencoder: Literal["convolutional", "linear"] = "convolutional",
    latents: int = 4,
    width: int = 32,
    epochs: int = 20,
    expand: int = 1,
    passes: int = 1,
) -> Condensed:
    """Encode all images, cluster the latents of each class by mini-batch k-means, and decode the `ipc` centres.

    Deviations: the published method has the autoencoder of Stable Diffusion 1.5, and refines each centre by its
    diffusion under the class's name (strength 0.7, guidance 8) before it is decoded. Neither is here: this is D4M's
    clustering, and its published figures do not apply. `docs/own-autoencoder.md` shows how to bring both; sets that the
    authors publish are read by `folder`. The code drops the rest of a class that fills no mini-batch; here it counts.

    Args:
        train: the training split, read in batches.
        ipc: images per class.
        ctx: gives the normalisation and the generators; the teacher is not used.
        autoencoder: "convolutional", of stride 4, or "linear": principal components of the pixels.
        latents: channels of a latent map (Stable Diffusion: 4); of "linear", components: so many times the pixels of
            such a map; at least 1.
        width: channels of the first convolution; not read by "linear"; at least 1.
        epochs: of the autoencoder's training; not read by "linear"; at least 1.
        expand: a mini-batch of k-means has expand * ipc latents; at least 1 (ImageNet's script: 1).
        passes: of k-means over the images of a class; at least 1 (published: 1).

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range, or a class has fewer than `ipc` images.
    """
    one_of("autoencoder", autoencoder, "convolutional", "linear")
    at_least(latents=(latents, 1), width=(width, 1), epochs=(epochs, 1), expand=(expand, 1), passes=(passes, 1))
    list(class_members(train, ipc))  # a class with too few images is told before anything is trained
    if autoencoder == "linear":
        side = -(-train.size // 4)
        return condense_latents(train, ipc, ctx, Linear(train, latents * side**2), expand=expand, passes=passes)
    network = Convolutional(train, ctx, latents=latents, width=width, epochs=epochs)
    condensed = condense_latents(train, ipc, ctx, network, expand=expand, passes=passes)
    provenance = {**condensed.provenance, "autoencoder_loss": network.last_loss}
    return dataclasses.replace(condensed, provenance=provenance)
