"""A vector-quantised autoencoder: each row as tokens of one codebook, decoded by a small network that images share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.errors import InfeasibleError
from methods._codec import codebooks, sharedpart, vqae
from methods._codec import domain as domains
from methods._codec import labels as common
from methods._codec.container import Container, Specs, pack, packed_size
from methods._codec.topk import flat_rows
from methods._codec.vqae import Autoencoder, Shape
from methods._codec.wholeset import images_of

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "In the spirit of arXiv 2603.03808, Vector-Quantized Soft Label Compression for Dataset Distillation"
CHECK_EXCEPTIONS = {
    "plenty-of-bytes-give-the-labels-back": "four numbers become one of 256 codes: no number of bytes buys finer ones",
}
CODEC = "vq"
_FITTED_ON = 8192  # rows at most
_SPARE = 16  # bytes of each shard: the label file has headers of its own


def fit(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    steps: int = 400,
    domain: str = "logits",
    temperature: float = 1.0,
) -> bytes:
    """The decoder and the codebook, trained on some rows.

    The paper's abstract says what is compared and what comes out; its code is not public, and of the network only the
    kinds of its numbers are (a codebook's size, widths of code and hidden layer). Fixed here: what is written in
    `methods/_codec/vqae.py`, 256 codes of 4 numbers, 64 hidden units, squared error of what is approximated, Adam;
    as many tokens as the budget holds, shorter codes and no hidden part where it holds less.

    Args:
        labels: logits [n, K, C] of some images of the set.
        budget_bytes: for the whole set, what is returned included.
        ctx: seeds training.
        steps: of training.
        domain, temperature: as of `encode`.

    Returns:
        bytes; none at all where not even the smallest network fits besides the codes of all images.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
    """
    values = domains.entered(_checked(labels, steps), domain, temperature)
    n, k, c = values.shape
    shards = -(-images_of(labels) // n)
    besides = sharedpart.REFERENCE | domains.blob_specs(domain)

    def size(shape: Shape) -> int:
        blob = packed_size(CODEC, (n, k, c), besides | _code_specs(n * k, shape))
        own = packed_size(CODEC, (n, k, c), shape.specs(c) | domains.shared_specs(domain))
        return own + shards * (blob + _SPARE)

    fitting = [shape for shape in vqae.shapes(c) if size(shape) <= budget_bytes]
    if not fitting:
        return b""
    model = _trained(values, fitting[-1], ctx, steps)
    return pack(CODEC, (n, k, c), model.sections() | domains.told(domain, temperature))


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    steps: int = 400,
    domain: str = "logits",
    temperature: float = 1.0,
    shared: bytes = b"",
) -> bytes:
    """The tokens of each row.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: seeds training where there is nothing shared.
        steps: of training where there is nothing shared.
        domain: "logits", or "probabilities" at the temperature (see `methods/_codec/domain.py`).
        temperature: T of the probabilities.
        shared: from `fit`; without it the blob holds a network of its own.

    Raises:
        ValueError: a value that is not finite, an argument out of its range; `shared` is of another number of classes,
            or of another domain.
        InfeasibleError: the tokens of the shared network, or the smallest network of its own, do not fit.
    """
    logits = _checked(labels, steps)
    domains.check(domain, temperature)
    if shared:
        domains.require(sharedpart.opened(CODEC, shared, logits.shape[2]), domain, temperature)

    def plain(values: np.ndarray, budget: int) -> bytes:
        return _encode(values, budget, ctx, steps, shared)

    return _stored(shared).encode(logits, budget_bytes, domain, temperature, plain)


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None, *, shared: bytes = b"") -> torch.Tensor:
    """float32 [n, len(rows), C].

    Args:
        blob: from `encode`.
        rows: view indices 0..K-1, None for all.
        shared: what `encode` was given.

    Raises:
        CorruptBlobError: a damaged blob, or one that was made with another shared part.
        ValueError: a row out of range.
    """
    return _stored(shared).decode(blob, rows)


def invalid(blob: bytes) -> tuple[int, int]:
    """(negative values, rows whose sum was not one) of approximated probabilities, see `methods/_codec/domain.py`."""
    return _stored(b"").invalid(blob)


def _encode(values: np.ndarray, budget_bytes: int, ctx: Context, steps: int, shared: bytes) -> bytes:
    n, k, c = values.shape
    head: dict[str, np.ndarray]
    if shared:
        model = Autoencoder.read(sharedpart.opened(CODEC, shared, c).sections)
        needed = packed_size(CODEC, (n, k, c), sharedpart.REFERENCE | _code_specs(n * k, model.shape))
        common.require(needed, budget_bytes, "the tokens of each row")
        head = sharedpart.reference(shared)
    else:
        sizes = {
            shape: packed_size(CODEC, (n, k, c), shape.specs(c) | _code_specs(n * k, shape)) for shape in vqae.shapes(c)
        }
        fitting = [shape for shape, size in sizes.items() if size <= budget_bytes]
        if not fitting:
            least = min(sizes.values())
            raise InfeasibleError(least, f"the smallest network takes more than the {budget_bytes} bytes left")
        model = _trained(values, fitting[-1], ctx, steps)
        head = model.sections()
    codes = []
    for _, chunk in common.chunks(values):
        codes.append(model.encode(np.ldexp(chunk.reshape(-1, c).astype(np.float64), -model.exponent)))
    return pack(CODEC, (n, k, c), head | {"q": codebooks.pack_codes(np.concatenate(codes), model.shape.bits)})


def _checked(labels: SoftLabels, steps: int) -> np.ndarray:
    if steps < 0:
        raise ValueError(f"steps: must be at least 0, got {steps}")
    return common.checked_logits(labels)


def _code_specs(rows: int, shape: Shape) -> Specs:
    return {"q": ("u1", (rows * shape.tokens * shape.bits + 7) // 8)}


def _trained(values: np.ndarray, shape: Shape, ctx: Context, steps: int) -> Autoencoder:
    flat = values.reshape(-1, values.shape[2])
    some = np.unique(np.linspace(0, len(flat) - 1, min(len(flat), _FITTED_ON)).astype(np.int64))
    exponent = codebooks.scale_of(flat[some])
    seed = int(ctx.numpy("autoencoder").integers(2**31))
    return vqae.train(np.ldexp(flat[some].astype(np.float64), -exponent), shape, exponent, seed, steps)


def _stored(shared: bytes) -> domains.Stored:
    return domains.Stored(CODEC, partial(_restored, shared=shared))


def _restored(container: Container, rows: np.ndarray, shared: bytes) -> torch.Tensor:
    n, k, c = container.shape
    model = Autoencoder.read(sharedpart.sections(CODEC, container, shared))
    codes = codebooks.unpack_codes(container.sections["q"], model.shape.tokens, model.shape.bits, flat_rows(n, k, rows))
    largest = np.finfo(np.float32).max
    values = model.decode(codes).clip(-largest, largest).astype(np.float32)
    return torch.from_numpy(values).reshape(n, len(rows), c)
