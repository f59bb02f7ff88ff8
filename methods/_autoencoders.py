"""Autoencoders that are fitted to the training split, for data that need no downloads: linear and convolutional."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.decomposition import IncrementalPCA
from sklearn.utils import gen_batches
from torch import nn
from torch.nn import functional as F

from bench.api import Context, Train

_BATCH = 64  # images of a step of the fit
_RATE = 3e-3  # of Adam


class Linear:
    """Principal components of the pixels. Decoding a mean of latents gives the mean image, less what is left out."""

    def __init__(self, train: Train, latents: int) -> None:
        pixels = train.channels * train.size**2
        count = min(latents, len(train), pixels)
        self._shape = (train.channels, train.size, train.size)
        self._model = IncrementalPCA(count)
        for part in gen_batches(len(train), max(_BATCH, count), min_batch_size=count):
            self._model.partial_fit(self._rows(train.images(np.arange(part.start, part.stop))))

    def encode(self, images: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        """float64 [n, latents]."""
        return torch.from_numpy(self._model.transform(self._rows(images)))

    def decode(self, latents: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        """Grey levels [n, channels, size, size]."""
        rows = self._model.inverse_transform(latents.double().numpy())
        return torch.from_numpy(rows).view(len(latents), *self._shape)

    @staticmethod
    def _rows(images: torch.Tensor) -> np.ndarray:
        return images.flatten(1).double().numpy()


class Convolutional(nn.Module):
    """Two convolutions of stride 2 to a quarter of the side, and back; trained on the split's own pixels.

    Squared error alone, without the noise, the adversary and the perceptual loss of Stable Diffusion's autoencoder.
    """

    def __init__(self, train: Train, ctx: Context, *, latents: int, width: int, epochs: int) -> None:
        super().__init__()
        self._ctx, self._size = ctx, train.size
        weights, order = ctx.torch("autoencoder"), ctx.torch("order of the autoencoder")
        with torch.device("meta"):  # without values, and without random numbers
            self.down = nn.Sequential(
                nn.Conv2d(train.channels, width, 3, stride=2, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
                nn.SiLU(),
                nn.Conv2d(2 * width, latents, 3, padding=1),
            )
            self.widen = nn.Conv2d(latents, 2 * width, 3, padding=1)
            self.middle = nn.Conv2d(2 * width, width, 3, padding=1)
            self.last = nn.Conv2d(width, train.channels, 3, padding=1)
        self.to_empty(device=ctx.device)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters():
                    values = torch.empty(parameter.shape).uniform_(-bound, bound, generator=weights)
                    parameter.data.copy_(values)
        trainer = torch.optim.Adam(self.parameters(), lr=_RATE)
        self.last_loss = 0.0  # the mean over the last epoch, in variances of the data set's pixels
        for _ in range(epochs):
            total = 0.0
            for rows in torch.randperm(len(train), generator=order).split(_BATCH):
                wanted = self._normalised(train.images(rows.numpy()))
                trainer.zero_grad()
                loss = F.mse_loss(self._up(self.down(wanted)), wanted)
                loss.backward()
                trainer.step()
                total += float(loss.detach()) * len(rows)
            self.last_loss = total / len(train)

    def encode(self, images: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        """float32 [n, latents, size / 4, size / 4], the size rounded up twice."""
        latents: torch.Tensor = self.down(self._normalised(images))
        return latents

    def decode(self, latents: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        """Grey levels [n, channels, size, size]."""
        images = self._up(latents.to(self._ctx.device))
        black, white = (
            self._normalised(torch.full((1, images.shape[1], 1, 1), level, dtype=torch.uint8)) for level in (0, 255)
        )
        return (images - black) / (white - black) * 255

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        return self._ctx.normalise(images.to(self._ctx.device))

    def _up(self, latents: torch.Tensor) -> torch.Tensor:
        half = (self._size + 1) // 2
        x = F.silu(self.widen(latents))
        x = F.silu(self.middle(F.interpolate(x, size=(half, half), mode="nearest")))
        images: torch.Tensor = self.last(F.interpolate(x, size=(self._size, self._size), mode="nearest"))
        return images
