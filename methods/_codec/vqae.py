"""A vector-quantised autoencoder of rows: tokens from one codebook, a decoder with a linear and a hidden part.

    z = W^T (x - mean), cut into M tokens of `WIDTH` numbers; each becomes the nearest of k codes (c);
    x' = mean + W c + V relu(U c + b)

W also encodes (tied weights), so that nothing is stored that the decoder does not need. Training starts from principal
components and k-means and goes on by gradients that pass the quantisation straight through (van den Oord, Vinyals and
Kavukcuoglu 2017). Weights are stored as float16, codes are rounded to 2^-20 and hidden values to 2^-16: all sums of
products are then exact in float64, so that a row has the same bits whichever rows are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from methods._codec import codebooks
from methods._codec.container import Specs

WIDTH = 4  # numbers in a token
HIDDEN = 64
CODE_BITS = (8, 4, 2, 1)
_BATCH = 256
_COMMITMENT = 0.25  # as published for images
_CODE_GRID, _HIDDEN_GRID, _HIDDEN_MOST = 2.0**20, 2.0**16, 64.0


@dataclass(frozen=True)
class Shape:
    """How large an autoencoder is."""

    bits: int  # of a code
    tokens: int  # M
    hidden: int  # 0: linear

    def specs(self, classes: int) -> Specs:
        """Sections of `Autoencoder.sections`."""
        latent = self.tokens * WIDTH
        sizes = {"m": classes, "c": 2**self.bits * WIDTH, "W": classes * latent}
        sizes |= {"U": self.hidden * latent, "a": self.hidden, "V": classes * self.hidden}
        return {"b": ("<u2", 3), "e": ("<i2", 1)} | {name: ("<f2", size) for name, size in sizes.items()}


def shapes(classes: int) -> list[Shape]:
    """From coarse to fine: more bits for a row, and of as many bits fewer and longer codes, and a hidden part."""
    most = -(-classes // WIDTH)
    found = [
        Shape(bits, tokens, hidden) for bits in CODE_BITS for tokens in range(1, most + 1) for hidden in (0, HIDDEN)
    ]
    return sorted(found, key=lambda shape: (shape.bits * shape.tokens, shape.bits, shape.hidden))


@dataclass(frozen=True)
class Autoencoder:
    """Trained weights, float16, for rows scaled by 2^-exponent."""

    shape: Shape
    exponent: int
    mean: np.ndarray  # [C]
    codes: np.ndarray  # [k, WIDTH]
    linear: np.ndarray  # W [C, M * WIDTH]
    inner: np.ndarray  # U [hidden, M * WIDTH]
    offset: np.ndarray  # b [hidden]
    outer: np.ndarray  # V [C, hidden]

    def sections(self) -> dict[str, np.ndarray]:
        """As `Shape.specs` announces."""
        head = np.array([self.shape.bits, self.shape.tokens, self.shape.hidden], np.uint16)
        weights = {
            "m": self.mean,
            "c": self.codes,
            "W": self.linear,
            "U": self.inner,
            "a": self.offset,
            "V": self.outer,
        }
        return {"b": head, "e": np.array([self.exponent], np.int16)} | {name: w.ravel() for name, w in weights.items()}

    @classmethod
    def read(cls, stored: Mapping[str, np.ndarray]) -> Autoencoder:
        """The inverse of `sections`."""
        shape = Shape(*(int(v) for v in stored["b"]))
        latent, c = shape.tokens * WIDTH, stored["m"].size
        linear, inner = stored["W"].reshape(c, latent), stored["U"].reshape(shape.hidden, latent)
        outer = stored["V"].reshape(c, shape.hidden)
        return cls(
            shape, int(stored["e"][0]), stored["m"], stored["c"].reshape(-1, WIDTH), linear, inner, stored["a"], outer
        )

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [R, M]: the nearest codes, for scaled rows [R, C]."""
        latent = (rows - self.mean.astype(np.float64)) @ self.linear.astype(np.float64)
        tokens, codes = latent.reshape(-1, WIDTH), self.codes.astype(np.float64)
        nearest = ((codes**2).sum(1) - 2 * tokens @ codes.T).argmin(1)
        return nearest.astype(np.uint8).reshape(len(rows), self.shape.tokens)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """float64 [R, C] in the labels' own scale, of codes [R, M]."""
        wide = np.rint(self.codes.astype(np.float64) * _CODE_GRID) / _CODE_GRID
        latent = wide[codes].reshape(len(codes), self.shape.tokens * WIDTH)
        hidden = latent @ self.inner.astype(np.float64).T + self.offset.astype(np.float64)
        hidden = np.rint(hidden.clip(0, _HIDDEN_MOST) * _HIDDEN_GRID) / _HIDDEN_GRID
        linear = latent @ self.linear.astype(np.float64).T
        return np.ldexp(self.mean.astype(np.float64) + linear + hidden @ self.outer.astype(np.float64).T, self.exponent)


def train(rows: np.ndarray, shape: Shape, exponent: int, seed: int, steps: int) -> Autoencoder:
    """From principal components and k-means, then `steps` of Adam on the squared error.

    What training makes worse on these rows (few steps, few rows) is not kept.

    Args:
        rows: float64 [R, C], scaled by 2^-exponent.
        shape: one of `shapes`.
        exponent: see `codebooks.scale_of`.
        seed: of k-means, the hidden part and the batches.
        steps: of at most 256 rows each.
    """
    start = _start(rows, shape, seed)
    first = _stored(start, shape, exponent)
    _descend([weight for weight in start.values() if weight.numel()], start, rows, seed, steps)
    last = _stored(start, shape, exponent)
    return min((first, last), key=lambda model: _error(model, rows))


def _start(rows: np.ndarray, shape: Shape, seed: int) -> dict[str, torch.Tensor]:
    mean = rows.mean(0)
    latent = shape.tokens * WIDTH
    directions = np.linalg.eigh((rows - mean).T @ (rows - mean))[1][:, ::-1][:, :latent]
    directions = np.pad(directions, ((0, 0), (0, latent - directions.shape[1])))
    # Every token gets a loud, a less loud, ... component: tokens that resemble each other can share a codebook.
    linear = directions.reshape(len(mean), WIDTH, shape.tokens).swapaxes(1, 2).reshape(len(mean), latent)
    tokens = ((rows - mean) @ linear).reshape(-1, WIDTH)
    some = np.random.default_rng(seed).permutation(len(tokens))[:8192]
    codes = codebooks.centres(tokens[some], 2**shape.bits, seed)
    generator = torch.Generator().manual_seed(seed)
    inner = torch.randn(shape.hidden, latent, generator=generator, dtype=torch.float64)
    inner /= max(float(np.abs(tokens).mean()) * latent**0.5, 1e-6)  # hidden values of about one, whatever the scale
    parts = {"mean": mean, "codes": codes, "linear": linear, "inner": inner.clamp(-1e3, 1e3).numpy()}
    parts |= {"offset": np.zeros(shape.hidden), "outer": np.zeros((len(mean), shape.hidden))}
    return {name: torch.tensor(part, dtype=torch.float32, requires_grad=True) for name, part in parts.items()}


def _descend(
    weights: list[torch.Tensor], named: dict[str, torch.Tensor], rows: np.ndarray, seed: int, steps: int
) -> None:
    data = torch.from_numpy(rows.astype(np.float32))
    variance = max(float(((data - data.mean(0)) ** 2).sum(1).mean()), 1e-30)
    # A step moves a weight by this share of its size: weights of a scale of their own need rates of their own.
    groups = [{"params": [w], "lr": 0.003 * max(float(w.detach().square().mean().sqrt()), 1e-3)} for w in weights]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = data[torch.randint(len(data), (min(_BATCH, len(data)),), generator=generator)]
        latent = (batch - named["mean"]) @ named["linear"]
        tokens = latent.reshape(-1, WIDTH)
        nearest = torch.cdist(tokens.detach(), named["codes"].detach()).argmin(1)
        codes = named["codes"][nearest].reshape(latent.shape)
        passed = latent + (codes - latent).detach()
        hidden = torch.relu(passed @ named["inner"].T + named["offset"])
        back = named["mean"] + passed @ named["linear"].T + hidden @ named["outer"].T
        loss = ((back - batch) ** 2).sum(1).mean()
        loss = loss + ((codes - latent.detach()) ** 2).sum(1).mean()
        loss = loss + _COMMITMENT * ((latent - codes.detach()) ** 2).sum(1).mean()
        optimiser.zero_grad()
        (loss / variance).backward()
        optimiser.step()
        schedule.step()


def _stored(weights: dict[str, torch.Tensor], shape: Shape, exponent: int) -> Autoencoder:
    largest = float(np.finfo(np.float16).max)
    halves = {name: w.detach().numpy().clip(-largest, largest).astype(np.float16) for name, w in weights.items()}
    return Autoencoder(shape, exponent, **halves)


def _error(model: Autoencoder, rows: np.ndarray) -> float:
    """Squared error on rows; infinite where training went astray."""
    back = np.ldexp(model.decode(model.encode(rows)), -model.exponent)
    error = float(((back - rows) ** 2).sum())
    return error if np.isfinite(error) else float("inf")
