"""What each of the simpler compressors keeps, against plain references; what all share is in test_compressors.py."""

from __future__ import annotations

import importlib
import itertools
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, log_softmax, softmax

from bench.api import SoftLabels
from bench.errors import InfeasibleError
from bench.seeds import numpy_generator
from methods._codec import godec, sparse, topk, uniform
from methods._codec import labels as shared
from methods._codec.container import unpack
from methods.compressors import rpca

LAW = settings(max_examples=40, deadline=None, derandomize=True)
PLENTY = 1 << 30
RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.standard_normal((4, 9, 17))).astype(np.float16)


def module(name: str) -> ModuleType:
    return importlib.import_module(f"methods.compressors.{name}")


def encode(name: str, logits: np.ndarray, budget: int = PLENTY, seed: int = 0, **options) -> bytes:
    context = SimpleNamespace(numpy=lambda *coordinates: numpy_generator("test", seed, *coordinates))
    labels = SoftLabels(torch.as_tensor(logits), torch.zeros(len(logits), dtype=torch.int64))
    return module(name).encode(labels, budget, context, **options)


def both_ways(name: str, logits: np.ndarray, **options) -> np.ndarray:
    return module(name).decode(encode(name, logits, **options)).double().numpy()


@LAW
@given(rows=st.integers(1, 30), c=st.integers(1, 70), data=st.data())
def test_the_largest_classes_come_back_from_their_bits(rows, c, data):
    k = data.draw(st.integers(1, c))
    values = np.random.default_rng(data.draw(st.integers(0, 9))).integers(-5, 6, (rows, c)).astype(np.float16)
    classes = topk.largest(values, k)
    for row, picked in zip(values, classes, strict=True):
        assert picked.tolist() == sorted(sorted(range(c), key=lambda i: (-row[i], i))[:k])
    stored = topk.sections(classes, np.take_along_axis(values, classes, 1), c)
    assert {name: (part.dtype, part.size) for name, part in stored.items()} == {
        name: (np.dtype(kind), size) for name, (kind, size) in topk.specs(rows, k, c).items()
    }
    some = np.random.default_rng(1).integers(0, rows, 2 * rows)
    read, tops = topk.read(stored, some, k, c)
    np.testing.assert_array_equal(read, classes[some])
    np.testing.assert_array_equal(tops, np.take_along_axis(values, classes, 1)[some])


@pytest.mark.parametrize(("k", "c"), [(1, 1000), (10, 1000), (100, 1000), (500, 1000)])
def test_the_indices_take_little_more_than_there_is_to_tell(k, c):
    told = (gammaln(c + 1) - gammaln(k + 1) - gammaln(c - k + 1)) / np.log(2)
    index = sum(size for name, (_, size) in topk.specs(8, k, c).items() if name != "x")
    assert told <= index <= 1.13 * told + 1


@pytest.mark.parametrize("rest", ["mean", "minimum"])
@pytest.mark.parametrize("k", [1, 5, 16, 17])
def test_topk_keeps_the_largest_and_one_value_for_the_rest(k, rest):
    expected = LOGITS.astype(np.float64)
    for row in expected.reshape(-1, 17):
        others = np.argsort(-row, kind="stable")[k:]
        if len(others):
            row[others] = np.float16(row[others].mean() if rest == "mean" else row.min())
    np.testing.assert_array_equal(both_ways("topk", LOGITS, k=k, rest=rest), expected)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("k", [1, 5, 17])
def test_marginal_smoothing_spreads_what_is_left_evenly(k, temperature):
    expected = softmax(LOGITS.astype(np.float64) / temperature, 2)
    for row in expected.reshape(-1, 17):
        others = np.argsort(-row, kind="stable")[k:]
        if len(others):
            row[others] = row[others].mean()
    found = both_ways("marginal_smoothing", LOGITS, k=k, temperature=temperature)
    np.testing.assert_allclose(softmax(found / temperature, 2), expected, rtol=1e-2, atol=1e-7)
    np.testing.assert_allclose(np.log(softmax(found / temperature, 2)) * temperature, found, atol=1e-4)


@pytest.mark.parametrize("k", [1, 5, 17])
def test_marginal_renormalisation_leaves_nothing_to_the_others_at_any_temperature(k):
    probabilities = softmax(LOGITS.astype(np.float64), 2)
    kept = np.argsort(-probabilities, axis=2, kind="stable")[:, :, :k]
    expected = np.zeros_like(probabilities)
    np.put_along_axis(expected, kept, np.take_along_axis(probabilities, kept, 2), 2)
    expected /= expected.sum(2, keepdims=True)
    found = both_ways("marginal_renorm", LOGITS, k=k)
    np.testing.assert_allclose(softmax(found, 2), expected, rtol=1e-2)
    assert (softmax(found / 20, 2) > 1e-30).sum() == k * 36


@pytest.mark.parametrize("name", ["smoothing", "marginal_smoothing", "marginal_renorm"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_probabilities_survive_any_scale_of_the_logits(name, scale):
    logits = (RNG.standard_normal((2, 3, 5)) * scale).astype(np.float32)
    found = both_ways(name, logits, **({} if name == "smoothing" else {"k": 5}))
    np.testing.assert_allclose(softmax(found, 2), softmax(logits.astype(np.float64), 2), atol=1e-6)


def test_smoothing_keeps_class_and_probability_of_the_largest():
    found = softmax(both_ways("smoothing", LOGITS), 2)
    true = softmax(LOGITS.astype(np.float64), 2)
    np.testing.assert_array_equal(found.argmax(2), true.argmax(2))
    np.testing.assert_allclose(found.max(2), true.max(2), rtol=5e-3)
    np.testing.assert_allclose(np.sort(found, 2)[:, :, 0], np.sort(found, 2)[:, :, -2], rtol=1e-6)
    assert len(encode("smoothing", LOGITS)) < 36 * (16 + 5) / 8 + 45


def test_hard_labels_are_the_classes_and_nothing_else():
    found = both_ways("fkd_hard", LOGITS)
    for temperature in (1, 20, 90):
        one_hot = torch.softmax(torch.from_numpy(found).float() / temperature, 2).numpy()
        np.testing.assert_array_equal(one_hot, np.eye(17)[LOGITS.argmax(2)])
    assert len(encode("fkd_hard", LOGITS)) < 36 * 5 / 8 + 25


def test_the_mean_label_is_the_mean_in_either_domain():
    wide = LOGITS.astype(np.float64)
    mean = np.broadcast_to(wide.mean(1, keepdims=True), wide.shape)
    np.testing.assert_allclose(both_ways("mean", LOGITS), mean, rtol=1e-3, atol=1e-3)
    found = softmax(both_ways("mean", LOGITS, domain="probabilities", temperature=4.0) / 4, 2)
    expected = softmax(wide / 4, 2).mean(1, keepdims=True)
    np.testing.assert_allclose(found, np.broadcast_to(expected, wide.shape), rtol=5e-3)


def test_lpqld_keeps_a_tenth_of_the_views_and_its_classes_in_sixteen_bits():
    logits = np.tile(LOGITS, (1, 10, 1))
    blob = encode("lpqld", logits, k=5)
    pool = module("lpqld").rows(blob)
    assert len(pool) == 9
    assert len(blob) == pytest.approx(4 * 9 * 5 * 4 + 9 * 4, abs=45)
    assert module("lpqld").rows(encode("lpqld", logits[:2], k=5)).tolist() == pool.tolist()
    assert module("lpqld").rows(encode("lpqld", logits, k=5, seed=1)).tolist() != pool.tolist()
    decoded = module("lpqld").decode(blob).double().numpy()
    expected = np.full((4, 9, 17), -np.inf)
    kept = np.argsort(-logits[:, pool], axis=2, kind="stable")[:, :, :5]
    np.put_along_axis(expected, kept, np.take_along_axis(logits[:, pool], kept, 2).astype(np.float64), 2)
    for temperature in (1, 20):
        np.testing.assert_allclose(softmax(decoded / temperature, 2), softmax(expected / temperature, 2), rtol=1e-6)
    assert np.isfinite(decoded).all()
    outside = next(view for view in range(90) if view not in pool)
    with pytest.raises(ValueError, match=f"view {outside} is not in the pool"):
        module("lpqld").decode(blob, [outside])


def test_lpqld_at_an_enormous_scale_stays_finite():
    decoded = both_ways("lpqld", (LOGITS.astype(np.float64) * 1e36).astype(np.float32), k=3)
    assert np.isfinite(decoded).all()


@pytest.mark.parametrize("name", ["topk", "marginal_smoothing", "marginal_renorm", "lpqld"])
def test_a_k_that_does_not_fit_is_infeasible_at_the_size_it_needs(name):
    needed = len(encode(name, LOGITS, k=6))
    with pytest.raises(InfeasibleError) as caught:
        encode(name, LOGITS, needed - 1, k=6)
    assert caught.value.smallest_bytes == needed
    assert len(encode(name, LOGITS, needed, k=6)) == needed


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("coder", uniform.CODERS)
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_quantisation_errs_by_half_a_step_at_most(bits, coder, offset):
    logits = LOGITS.astype(np.float32) / 7 + offset  # an offset, which float16 rounds, must not cost range
    blob = encode("quant", logits, bits=bits, coder=coder)
    stored = unpack(blob, "quant").sections
    steps = shared.scaled(stored["d"].reshape(4, 9), shared.decode_exponents(stored["e"], 4))
    assert stored["b"].tolist() == [bits]
    found = module("quant").decode(blob).double().numpy()
    for row, back, step in zip(logits.reshape(-1, 17), found.reshape(-1, 17), steps.ravel(), strict=True):
        wide = row.astype(np.float64)
        assert np.abs(back - wide).max() <= step / 2 * (1 + 1e-6) + np.spacing(np.float32(offset + 9))
        # Half a unit of float16 below the least value, another one above the ideal step.
        unit = np.spacing(np.float16(np.abs(wide).max()))
        assert step <= ((wide.max() - wide.min() + unit) / (2**bits - 1)) * 1.001 + 1e-6
        assert len(np.unique(back)) <= 2**bits


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 9, 17), (3, 4, 300)])
def test_no_coder_is_longer_than_packed_bits(bits, shape):
    for logits in (np.random.default_rng(0).uniform(-1, 1, shape), np.random.default_rng(0).laplace(size=shape)):
        plain, *coded = (encode("quant", logits.astype(np.float16), bits=bits, coder=name) for name in uniform.CODERS)
        for blob in coded:
            assert len(blob) <= len(plain)
            assert torch.equal(module("quant").decode(blob), module("quant").decode(plain))


def test_range_coding_comes_to_the_entropy_and_zstd_near_it():
    logits = np.random.default_rng(0).laplace(size=(3, 20, 200)).astype(np.float16)
    plain, coded, zipped = (encode("quant", logits, bits=4, coder=coder) for coder in uniform.CODERS)
    codes = uniform.read(unpack(plain, "quant").sections, 3, 20, 200, np.arange(20))
    share = np.bincount(codes.ravel(), minlength=16) / codes.size
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum() * codes.size / 8
    assert len(coded) - (len(plain) - codes.size / 2) == pytest.approx(entropy, rel=0.02, abs=20 * 8)
    assert len(coded) < len(zipped) < len(plain)


def test_zstd_finds_repetitions_that_frequencies_do_not_tell():
    row = np.random.default_rng(0).uniform(-1, 1, 150)
    logits = np.tile(row, (6, 4, 1)).astype(np.float16)  # six images alike
    _, coded, zipped = (len(encode("quant", logits, bits=8, coder=coder)) for coder in uniform.CODERS)
    assert zipped < 0.4 * coded


def test_one_code_alone_takes_no_bits():
    flat = np.full((2, 5, 300), 1.5, np.float16)
    for bits in (2, 8):
        assert len(encode("quant", flat, bits=bits, coder="range")) < 2 * 5 * 4 + 70
    np.testing.assert_array_equal(both_ways("quant", flat, coder="range"), flat)


def test_more_budget_buys_more_bits_a_value():
    widths = []
    for budget in (400, 500, 700, PLENTY):
        widths.append(int(unpack(encode("quant", LOGITS, budget), "quant").sections["b"][0]))
    assert widths == sorted(widths)
    assert widths[-1] == 8


def planted(k: int = 40, c: int = 60, rank: int = 2, share: float = 0.01) -> np.ndarray:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((k, rank)) @ rng.standard_normal((rank, c))
    matrix[rng.random(matrix.shape) < share] += 20
    return matrix[None]


def test_godec_finds_a_planted_rank_and_its_outliers():
    matrix = planted()
    blob = encode("godec", matrix.astype(np.float32), 2 * 2 * 100 + 300)
    stored = unpack(blob, "godec").sections
    assert stored["U"].size == 2 * 40
    rest = module("godec").decode(blob).numpy() - matrix
    assert (rest**2).sum() < 1e-4 * (matrix**2).sum()


@pytest.mark.parametrize("budget", [400, 800, 2000, 4000])
def test_godec_is_no_worse_than_a_cut_pursuit_at_equal_bytes(budget):
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((3, 30, 5)) @ rng.standard_normal((3, 5, 50)) + 0.3 * rng.laplace(size=(3, 30, 50))
    logits = logits.astype(np.float16)
    errors = []
    for compressor in ("godec", "rpca"):
        back = module(compressor).decode(encode(compressor, logits, 3 * budget)).numpy()
        errors.append(((back - logits) ** 2).sum())
    assert errors[0] <= 1.02 * errors[1] + 1e-6 * np.square(logits.astype(np.float64)).sum()


@LAW
@given(k=st.integers(1, 20), c=st.integers(1, 40), room=st.integers(0, 20000), seed=st.integers(0, 5))
def test_the_entries_fit_their_room_and_are_the_largest(k, c, room, seed):
    rest = np.random.default_rng(seed).standard_normal((k, c))
    kept = godec.largest_entries(rest, room, 0.5)
    count = len(kept.rows)
    fullest = np.bincount(kept.rows, minlength=k).max()
    assert sparse.image_bits(k, c, np.array([count]), np.array([fullest]))[0] <= room
    assert len({*zip(kept.rows.tolist(), kept.columns.tolist(), strict=True)}) == count
    if 0 < count < k * c:
        inside = np.abs(rest[kept.rows, kept.columns])
        rest[kept.rows, kept.columns] = 0
        assert inside.min() >= np.abs(rest).max()


def test_log_softmax_of_what_is_kept_of_probabilities_is_what_comes_back():
    for name, k in itertools.product(("marginal_smoothing", "marginal_renorm"), (2, 17)):
        found = both_ways(name, LOGITS, k=k)
        np.testing.assert_allclose(log_softmax(found, 2), found, atol=1e-5)


def test_rpca_and_godec_write_the_same_parts():
    stored = [set(unpack(encode(m.CODEC, LOGITS, 900), m.CODEC).sections) for m in (rpca, module("godec"))]
    assert stored[0] == stored[1]
