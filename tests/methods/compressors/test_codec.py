"""The pieces that compressors share: container, bit packing, exponents, low-rank maths, sparse rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods._codec import bits, labels, lowrank, sparse
from methods._codec.container import CorruptBlobError, pack, packed_size, unpack

LAW = settings(max_examples=40, deadline=None, derandomize=True)


def sample_blob() -> bytes:
    return pack("svd", (3, 4, 5), {"a": np.arange(7, dtype=np.uint8), "b": np.array([1.5, -2], np.float16)})


def test_container_gives_back_what_went_in_and_its_header_is_small():
    blob = sample_blob()
    parsed = unpack(blob, "svd")
    assert parsed.shape == (3, 4, 5)
    assert parsed.sections["a"].tolist() == list(range(7))
    assert parsed.sections["b"].tolist() == [1.5, -2]
    assert len(blob) == packed_size("svd", (3, 4, 5), {"a": ("u1", 7), "b": ("<f2", 2)})
    assert len(blob) - 11 < 32


def test_container_stores_little_endian_whatever_it_is_given():
    swapped = np.array([1, 258], np.dtype(">u2"))
    assert unpack(pack("x", (1, 1, 1), {"s": swapped}), "x").sections["s"].tolist() == [1, 258]


def test_every_flipped_bit_is_an_error():
    blob = sample_blob()
    for position in range(len(blob)):
        damaged = bytearray(blob)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(CorruptBlobError):
            unpack(bytes(damaged), "svd")


@pytest.mark.parametrize("cut", [0, 3, 6, 10, 25])
def test_a_blob_cut_short_is_an_error(cut):
    with pytest.raises(CorruptBlobError):
        unpack(sample_blob()[:cut], "svd")


def test_a_blob_of_another_codec_or_version_says_so():
    with pytest.raises(CorruptBlobError, match=r"'svd'.*'cur'"):
        unpack(sample_blob(), "cur")
    newer = bytearray(sample_blob())
    newer[2] = 9
    with pytest.raises(CorruptBlobError, match="version 9"):
        unpack(bytes(newer), "svd")


@LAW
@given(st.lists(st.tuples(st.integers(0, 24), st.integers(0, 2**24 - 1)), min_size=1, max_size=50))
def test_packed_bits_read_back_at_any_width(pairs):
    widths = np.array([w for w, _ in pairs])
    values = np.array([v & ((1 << w) - 1) for w, v in pairs])
    packed = bits.pack(values, widths)
    assert packed.size == (widths.sum() + 7) // 8
    assert bits.take(packed, np.cumsum(widths) - widths, widths).tolist() == values.tolist()


@LAW
@given(st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=50))
def test_uint_sections_read_back_at_the_announced_size(values):
    section = bits.encode_uints(np.array(values))
    assert section.size == bits.encoded_uints_size(len(values), max(values) - min(values))
    assert bits.decode_uints(section, len(values)).tolist() == values


def test_equal_uints_take_five_bytes():
    assert bits.encode_uints(np.full(1000, 1024)).size == 5


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_norm_exponents_bound_the_norm_by_a_power_of_two(scale):
    values = (np.random.default_rng(0).standard_normal((3, 4, 5)) * scale).astype(np.float32)
    values[1] = 0
    exponents = labels.norm_exponents(values)
    assert exponents[1] == 0
    norms = np.linalg.norm(labels.scaled(values, -exponents).reshape(3, -1), axis=1)
    assert ((norms[[0, 2]] >= 0.5) & (norms[[0, 2]] < 1)).all()
    assert labels.decode_exponents(labels.encode_exponents(exponents), 3).tolist() == exponents.tolist()


@pytest.mark.parametrize("shape", [(3, 20, 12), (3, 12, 20), (2, 150, 200), (1, 1, 7), (2, 6, 2)])
def test_truncated_svd_is_as_good_as_numpys(shape):
    matrices = np.random.default_rng(1).standard_normal(shape)
    matrices /= np.linalg.norm(matrices, axis=(1, 2), keepdims=True)
    for rank in {1, min(shape[1:]) // 2 or 1, min(shape[1:])}:
        left, right, singular = lowrank.truncated_svd(matrices, rank)
        reference = np.linalg.svd(matrices, compute_uv=False)
        optimum = np.sqrt((reference[:, rank:] ** 2).sum(1))
        error = np.linalg.norm(matrices - left @ right, axis=(1, 2))
        np.testing.assert_allclose(singular, reference[:, :rank], rtol=2e-4)
        rounding = min(shape[1:]) * np.finfo(np.float32).eps  # of a float32 factorisation of matrices of norm 1
        assert (error <= optimum * (1 + 1e-4) + rounding).all()


def test_randomised_svd_finds_an_exact_low_rank_matrix():
    rng = np.random.default_rng(2)
    matrices = rng.standard_normal((4, 30, 3)) @ rng.standard_normal((4, 3, 25)) / 100
    left, right, _ = lowrank.randomised_svd(matrices, 3, rng.standard_normal((25, 8)), 1)
    np.testing.assert_allclose(left @ right, matrices, atol=1e-12)


def test_leverage_scores_match_the_singular_vectors():
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((1, 9, 3)) @ rng.standard_normal((1, 3, 14)) / 20
    rows, columns = lowrank.leverage_scores(matrix, 1.0)
    u, _, vt = np.linalg.svd(matrix[0])
    np.testing.assert_allclose(rows[0], (u[:, :3] ** 2).sum(1) / 3, atol=1e-9)
    np.testing.assert_allclose(columns[0], (vt[:3] ** 2).sum(0) / 3, atol=1e-9)
    flat = lowrank.leverage_scores(np.zeros((1, 4, 5)), 0.5)
    assert flat[0].tolist() == [[0.25] * 4]
    assert flat[1].tolist() == [[0.2] * 5]


def entries_of(matrix: np.ndarray, rng: np.random.Generator) -> sparse.Entries:
    rows, columns = np.nonzero(matrix)
    shuffled = rng.permutation(len(rows))
    return sparse.Entries(rows[shuffled], columns[shuffled], matrix[rows, columns][shuffled].astype(np.float16))


@LAW
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 70), st.floats(0, 1), st.integers(0, 10**6))
def test_sparse_rows_read_back_exactly_within_the_announced_bits(n, k, c, density, seed):
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((n, k, c)).astype(np.float16)
    dense[rng.random((n, k, c)) >= density * rng.random((n, 1, 1))] = 0
    stored = sparse.sections([entries_of(image, rng) for image in dense], k, c)
    rows = rng.integers(0, k, 5)
    out = torch.zeros(n, 5, c, dtype=torch.float64)
    sparse.add_rows(out, stored, k, rows)
    assert np.array_equal(out.numpy(), dense[:, rows].astype(np.float64))

    fullest = (dense != 0).sum(2).max(1)
    announced = sparse.image_bits(k, c, (dense != 0).sum((1, 2)), fullest).sum()
    taken = sum(stored[name].nbytes for name in "chlx")
    assert announced <= 8 * taken < announced + 24


def test_sparse_entries_cost_less_than_a_plain_index():
    at_five_percent = sparse.image_bits(300, 1000, np.array([15000]), np.array([90]))[0] / 15000
    assert at_five_percent < 16 + 10 - 3
