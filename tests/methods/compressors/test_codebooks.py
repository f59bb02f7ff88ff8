"""Product quantisation: codebooks that images share or that a blob brings along, and codes of rows in them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.api import SoftLabels
from bench.errors import InfeasibleError
from bench.protocol.recipe import Augment
from bench.seeds import numpy_generator
from bench.views.parameters import Views
from methods._codec import codebooks
from methods._codec.codebooks import Codebooks, best_plan, scale_of, spectra
from methods._codec.container import CorruptBlobError, packed_size, unpack
from methods._codec.wholeset import images_of
from methods.compressors import pq

LAW = settings(max_examples=40, deadline=None, derandomize=True)
CTX = SimpleNamespace(numpy=lambda *name: numpy_generator("test", *name))


def made(n: int = 12, k: int = 30, c: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.standard_normal((n, k, 4)) @ rng.standard_normal((4, c))
    return (3 * rng.standard_normal((n, 1, c)) + low + 0.3 * rng.standard_normal((n, k, c))).astype(np.float16)


def labels(logits: np.ndarray, images: int | None = None) -> SoftLabels:
    n, k, _ = logits.shape
    views = (
        Views(Augment(crop_scale=(0.4, 1.0)), images, 8, mirror=True, batch=images, seed=1, count=k) if images else ()
    )
    return SoftLabels(torch.from_numpy(logits), torch.zeros(n, dtype=torch.int64), views, np.arange(n))


def error(logits: np.ndarray, decoded: torch.Tensor) -> float:
    wide = logits.astype(np.float64)
    return float(((decoded.double().numpy() - wide) ** 2).sum() / (wide**2).sum())


def test_the_set_is_as_large_as_its_views_say():
    assert images_of(labels(made(3))) == 3
    assert images_of(labels(made(3), 50)) == 50


def test_what_is_shared_counts_once_and_serves_every_shard():
    logits = made(24)
    first = labels(logits[:8], 24)
    shared = pq.fit(first, 6000, CTX)
    assert 0 < len(shared) < 6000
    left = (6000 - len(shared)) // 3
    for start in (0, 8, 16):
        blob = pq.encode(labels(logits[start : start + 8]), left, CTX, shared=shared)
        assert len(blob) <= left
        assert error(logits[start : start + 8], pq.decode(blob, shared=shared)) < 0.3
        whole = pq.decode(blob, shared=shared)
        assert torch.equal(pq.decode(blob, [7, 0, 7], shared=shared), whole[:, [7, 0, 7]])


def test_a_shard_with_fewer_bytes_drops_the_last_codes():
    logits = made()
    shared = pq.fit(labels(logits, 100), 30000, CTX)
    errors = []
    full = len(pq.encode(labels(logits), 1 << 20, CTX, shared=shared))
    for budget in (full, full - 1, full // 2):
        blob = pq.encode(labels(logits), budget, CTX, shared=shared)
        assert len(blob) <= budget
        errors.append(error(logits, pq.decode(blob, shared=shared)))
    assert errors == sorted(errors)
    with pytest.raises(InfeasibleError) as caught:
        pq.encode(labels(logits), 10, CTX, shared=shared)
    assert (
        len(pq.encode(labels(logits), caught.value.smallest_bytes, CTX, shared=shared)) == caught.value.smallest_bytes
    )


def test_another_shared_part_is_refused():
    logits = made()
    shared, other = (pq.fit(labels(made(seed=seed), 100), 30000, CTX) for seed in (0, 1))
    blob = pq.encode(labels(logits), 3000, CTX, shared=shared)
    with pytest.raises(CorruptBlobError, match="other than the one given"):
        pq.decode(blob, shared=other)
    with pytest.raises(CorruptBlobError):
        pq.decode(blob)
    damaged = bytearray(shared)
    damaged[len(shared) // 2] ^= 1
    with pytest.raises(CorruptBlobError):
        pq.decode(blob, shared=bytes(damaged))
    with pytest.raises(ValueError, match="16 classes, the labels have 9"):
        pq.encode(labels(made(c=9)), 3000, CTX, shared=shared)


def test_codes_name_the_nearest_centroids():
    logits = made()
    shared = pq.fit(labels(logits, 100), 30000, CTX)
    books = Codebooks.read(unpack(shared, "pq").sections)
    blob = pq.encode(labels(logits), 1 << 20, CTX, shared=shared)
    stored = unpack(blob, "pq").sections
    codes = codebooks.unpack_codes(stored["q"], len(books.groups), books.bits, np.arange(12 * 30))
    points = codebooks.project(books.scaled(logits), books.mean, books.basis, books.centred)[0].reshape(12 * 30, -1)
    at = 0
    for group, size in enumerate(books.groups):
        centroids = books.centroids[:, at : at + size].astype(np.float64)
        distance = np.square(points[:, None, at : at + size] - centroids[None]).sum(2)
        chosen = distance[np.arange(len(points)), codes[:, group]]
        np.testing.assert_allclose(chosen, distance.min(1), rtol=1e-6, atol=1e-12)
        at += size


@pytest.mark.parametrize("budget", [700, 2000, 8000])
def test_the_plan_takes_what_it_says_and_promises_about_what_comes(budget):
    logits = made(20, 40)
    blob = pq.encode(labels(logits), budget, CTX)
    assert 0.7 * budget < len(blob) <= budget
    scale = scale_of(logits)
    rows = np.ldexp(logits.astype(np.float64), -scale)

    def size(plan) -> int:
        return packed_size("pq", (20, 40, 16), plan.specs(16, 800) | plan.code_specs(20, 800) | {"n": ("<u2", 1)})

    plan, smallest = best_plan(spectra(rows), 800, size, budget)
    assert size(plan) == len(blob) > smallest
    found = np.square(pq.decode(blob).double().numpy() - logits).sum(2).mean() * 4.0**-scale
    assert 0.5 * plan.error < found < 2.8 * plan.error  # a scalar quantiser of 8 bits is at 2.7 (Panter and Dite)


def test_rows_are_told_from_their_images_where_images_differ():
    many, single = made(20, 40), made(800, 1)
    told = [int(unpack(pq.encode(labels(logits), 1500, CTX), "pq").sections["b"][1]) for logits in (many, single)]
    assert told == [1, 0]


@LAW
@given(
    rows=st.integers(1, 40),
    groups=st.integers(1, 7),
    bits=st.sampled_from(sorted(codebooks.CODE_BITS)),
    seed=st.integers(0, 9),
)
def test_codes_of_any_width_come_back(rows, groups, bits, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**bits, (rows, groups)).astype(np.uint8)
    packed = codebooks.pack_codes(codes, bits)
    assert packed.size == codebooks.code_specs(1, rows, groups, bits, 0)["q"][1]
    some = rng.integers(0, rows, 5)
    np.testing.assert_array_equal(codebooks.unpack_codes(packed, groups, bits, some), codes[some])
