"""A vector-quantised autoencoder: each row as tokens of one codebook, decoded by a small network that images share."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.errors import InfeasibleError
from methods._codec import codebooks, vqae
from methods._codec import labels as common
from methods._codec.container import Container, CorruptBlobError, Specs, pack, packed_size, unpack
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
_REFERENCE: Specs = {"s": ("<u4", 1)}  # checksum of the shared part that a blob was made with


def fit(labels: SoftLabels, budget_bytes: int, ctx: Context, *, steps: int = 400) -> bytes:
    """The decoder and the codebook, trained on some rows.

    The paper's abstract says what is compared and what comes out; its code is not public, and of the network only the
    kinds of its numbers are (a codebook's size, widths of code and hidden layer). Fixed here: what is written in
    `methods/_codec/vqae.py`, 256 codes of 4 numbers, 64 hidden units, squared error of the logits, Adam; as many tokens
    as the budget holds, shorter codes and no hidden part where it holds less.

    Args:
        labels: logits [n, K, C] of some images of the set.
        budget_bytes: for the whole set, what is returned included.
        ctx: seeds training.
        steps: of training.

    Returns:
        bytes; none at all where not even the smallest network fits besides the codes of all images.

    Raises:
        ValueError: a value that is not finite, steps below 0.
    """
    values = _checked(labels, steps)
    n, k, c = values.shape
    shards = -(-images_of(labels) // n)

    def size(shape: Shape) -> int:
        blob = packed_size(CODEC, (n, k, c), _REFERENCE | _code_specs(n * k, shape))
        return packed_size(CODEC, (n, k, c), shape.specs(c)) + shards * (blob + _SPARE)

    fitting = [shape for shape in vqae.shapes(c) if size(shape) <= budget_bytes]
    return pack(CODEC, (n, k, c), _trained(values, fitting[-1], ctx, steps).sections()) if fitting else b""


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context, *, steps: int = 400, shared: bytes = b"") -> bytes:
    """The tokens of each row.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: seeds training where there is nothing shared.
        steps: of training where there is nothing shared.
        shared: from `fit`; without it the blob holds a network of its own.

    Raises:
        ValueError: a value that is not finite, steps below 0; `shared` is of another number of classes.
        InfeasibleError: the tokens of the shared network, or the smallest network of its own, do not fit.
    """
    values = _checked(labels, steps)
    n, k, c = values.shape
    head: dict[str, np.ndarray]
    if shared:
        model = _shared(shared, c)
        needed = packed_size(CODEC, (n, k, c), _REFERENCE | _code_specs(n * k, model.shape))
        common.require(needed, budget_bytes, "the tokens of each row")
        head = {"s": np.array([zlib.crc32(shared)], np.uint32)}
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
    container = unpack(blob, CODEC)
    n, k, c = container.shape
    picked = common.checked_rows(rows, k)
    model = _model(container, shared)
    stored = container.sections["q"]
    codes = codebooks.unpack_codes(stored, model.shape.tokens, model.shape.bits, flat_rows(n, k, picked))
    largest = np.finfo(np.float32).max
    values = model.decode(codes).clip(-largest, largest).astype(np.float32)
    return torch.from_numpy(values).reshape(n, len(picked), c)


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


def _model(container: Container, shared: bytes) -> Autoencoder:
    stored = container.sections
    if "s" not in stored:
        return Autoencoder.read(stored)
    if zlib.crc32(shared) != int(stored["s"][0]):
        raise CorruptBlobError("label blob was made with a shared part other than the one given")
    return _shared(shared, container.shape[2])


def _shared(shared: bytes, classes: int) -> Autoencoder:
    container = unpack(shared, CODEC)
    if container.shape[2] != classes:
        raise ValueError(f"shared: was fitted on {container.shape[2]} classes, the labels have {classes}")
    return Autoencoder.read(container.sections)
