"""The vector-quantised autoencoder: what training is worth, what is shared, and that decoding is exact."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.api import SoftLabels
from bench.errors import InfeasibleError
from bench.protocol.recipe import Augment
from bench.seeds import numpy_generator
from bench.views.parameters import Views
from methods._codec import vqae
from methods._codec.codebooks import scale_of
from methods._codec.container import CorruptBlobError, unpack
from methods._codec.vqae import Autoencoder, Shape
from methods.compressors import vq

CTX = SimpleNamespace(numpy=lambda *name: numpy_generator("test", *name))


def made(n: int = 12, k: int = 30, c: int = 16, seed: int = 0) -> np.ndarray:
    """Logits that bend: what a linear decoder cannot follow."""
    rng = np.random.default_rng(seed)
    plane = rng.standard_normal((n, k, 3))
    return (np.abs(plane @ rng.standard_normal((3, 8))) @ rng.standard_normal((8, c))).astype(np.float16)


def labels(logits: np.ndarray, images: int | None = None) -> SoftLabels:
    n, k, _ = logits.shape
    views = (
        Views(Augment(crop_scale=(0.4, 1.0)), images, 8, mirror=True, batch=images, seed=1, count=k) if images else ()
    )
    return SoftLabels(torch.from_numpy(logits), torch.zeros(n, dtype=torch.int64), views, np.arange(n))


def squared(logits: np.ndarray, decoded: torch.Tensor) -> float:
    wide = logits.astype(np.float64)
    return float(((decoded.double().numpy() - wide) ** 2).sum() / (wide**2).sum())


def test_training_lowers_the_error_and_never_raises_it():
    logits = made().reshape(-1, 16)
    exponent = scale_of(logits)
    rows = np.ldexp(logits.astype(np.float64), -exponent)
    errors = []
    for steps in (0, 3, 300):
        model = vqae.train(rows, Shape(8, 2, vqae.HIDDEN), exponent, 0, steps)
        errors.append(((model.decode(model.encode(rows)) - logits) ** 2).sum())
    assert errors[1] <= errors[0]
    assert errors[2] < 0.95 * errors[0]


def test_the_network_decodes_as_it_is_written_down():
    logits = made()
    stored = unpack(vq.encode(labels(logits), 12000, CTX, steps=30), "vq").sections
    model = Autoencoder.read(stored)
    assert model.shape.hidden == vqae.HIDDEN
    codes = np.random.default_rng(0).integers(0, 2**model.shape.bits, (5, model.shape.tokens)).astype(np.uint8)
    latent = model.codes.astype(np.float64)[codes].reshape(5, -1)
    hidden = np.maximum(latent @ model.inner.astype(np.float64).T + model.offset, 0)
    plain = model.mean + latent @ model.linear.astype(np.float64).T + hidden @ model.outer.astype(np.float64).T
    np.testing.assert_allclose(model.decode(codes), np.ldexp(plain, model.exponent), rtol=1e-3, atol=2e-3)


def test_the_network_is_shared_by_all_shards_and_counts_once():
    logits = made(24)
    shared = vq.fit(labels(logits[:8], 24), 9000, CTX, steps=30)
    left = (9000 - len(shared)) // 3
    for start in (0, 8, 16):
        shard = logits[start : start + 8]
        blob = vq.encode(labels(shard), left, CTX, shared=shared)
        whole = vq.decode(blob, shared=shared)
        assert len(blob) <= left
        assert squared(shard, whole) < 0.5
        assert torch.equal(vq.decode(blob, [7, 0, 7], shared=shared), whole[:, [7, 0, 7]])


def test_another_network_is_refused():
    logits = made()
    shared, other = (vq.fit(labels(made(seed=seed), 100), 30000, CTX, steps=0) for seed in (0, 1))
    blob = vq.encode(labels(logits), 3000, CTX, shared=shared)
    for wrong in (other, b""):
        with pytest.raises(CorruptBlobError, match="other than the one given"):
            vq.decode(blob, shared=wrong)
    with pytest.raises(ValueError, match="16 classes, the labels have 9"):
        vq.encode(labels(made(c=9)), 3000, CTX, shared=shared)
    with pytest.raises(InfeasibleError) as caught:
        vq.encode(labels(logits), 10, CTX, shared=shared)
    assert (
        len(vq.encode(labels(logits), caught.value.smallest_bytes, CTX, shared=shared)) == caught.value.smallest_bytes
    )


def test_shapes_grow_in_bits_and_take_what_they_announce():
    found = vqae.shapes(16)
    rates = [shape.bits * shape.tokens for shape in found]
    assert rates == sorted(rates)
    rows = np.ldexp(made().reshape(-1, 16).astype(np.float64), -6)
    for shape in (found[0], found[len(found) // 2], found[-1]):
        stored = vqae.train(rows, shape, 6, 0, 1).sections()
        announced = {name: (np.dtype(kind), size) for name, (kind, size) in shape.specs(16).items()}
        assert {name: (part.dtype, part.size) for name, part in stored.items()} == announced
