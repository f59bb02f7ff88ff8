"""Laws that every compressor keeps on whatever it is given: round trips, budgets, scales, damaged bytes, bad values."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods._codec.container import CorruptBlobError
from tests.worlds.compressors import (
    FIXED,
    encode,
    error,
    every,
    every_budgeted,
    keeps_probabilities,
    kept,
    module,
    noise,
    smallest,
)

LAW = settings(max_examples=6, deadline=None, derandomize=True)
SET_WIDE = {"klt", "pq", "vq"}
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(2, 12))


def drawn(shape: tuple[int, int, int], seed: int, half: bool, exponent: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape)
    return values.astype(np.float16) if half else np.ldexp(values, exponent).astype(np.float32)


@every
@LAW
@given(shape=SHAPES, seed=st.integers(0, 99), half=st.booleans(), exponent=st.integers(-6, 6))
def test_labels_come_back_whatever_their_shape(name, options, shape, seed, half, exponent):
    logits = drawn(shape, seed, half, exponent)
    blob = encode(name, logits, **options)
    decoded = module(name).decode(blob)
    assert decoded.shape == (shape[0], len(kept(name, blob, shape[1])), shape[2])
    assert torch.isfinite(decoded).all()
    if name not in FIXED:
        # Columns and rows that CUR picks by leverage may all but depend on each other; what they miss is lost then.
        assert error(name, blob, logits, **options) < (1.0 if name == "cur" else 1e-4)


@every
@LAW
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_what_came_back_comes_back_again(name, options, shape, seed):
    """Nothing is lost twice: a code of decoded labels is at most a rounding away from them."""
    if name in ("lpld", "lpqld"):
        pytest.skip("of a pool, another pool is drawn")
    once = module(name).decode(encode(name, drawn(shape, seed, half=True), **options))
    twice = module(name).decode(encode(name, once, **options))
    gap = torch.softmax(twice.double(), 2) - torch.softmax(once.double(), 2)
    assert gap.abs().max() < 5e-3


@every_budgeted
@LAW
@given(seed=st.integers(0, 9), extra=st.integers(0, 900), more=st.integers(0, 900))
def test_a_larger_budget_is_never_worse(name, options, seed, extra, more):
    logits = noise(4, 9, 14, seed)
    first = smallest(name, logits, **options) + extra
    # klt searches for a step and a plan, and the search isn't monotone: of 198 pairs of neighbouring budgets on sets
    # like this 36 were worse, by some per cent, one by 78. Twice the bytes were not, in 130 pairs.
    more = max(more, first) if name == "klt" else more
    small, large = (encode(name, logits, budget, **options) for budget in (first, first + more))
    if name == "lpld":  # its rows are exact; what a budget buys is how many there are
        assert len(kept(name, small, 9)) <= len(kept(name, large, 9))
        return
    assert error(name, large, logits, **options) <= error(name, small, logits, **options) * (1 + 1e-3) + 1e-6


@every
@LAW
@given(seed=st.integers(0, 9), exponent=st.integers(-99, 99))
def test_a_scale_between_1e_minus_30_and_1e30_changes_nothing_but_the_scale(name, options, seed, exponent):
    if keeps_probabilities(name, options):
        pytest.skip("probabilities are another matter at another scale")
    logits = noise(3, 8, 10, seed).astype(np.float32)
    plain = encode(name, logits, **options)
    scaled = encode(name, np.ldexp(logits, exponent), **options)
    back = torch.ldexp(module(name).decode(scaled).double(), torch.tensor(-exponent))
    torch.testing.assert_close(back, module(name).decode(plain).double(), rtol=1e-3, atol=1e-5)


@functools.cache
def blob_of(name: str, options: tuple) -> bytes:
    return encode(name, noise(), 2000, **dict(options))


def refused(name: str, data: bytes) -> None:
    with pytest.raises(CorruptBlobError):
        module(name).decode(data)
    if hasattr(module(name), "rows"):
        with pytest.raises(CorruptBlobError):
            module(name).rows(data)


@every
def test_any_damaged_byte_of_the_header_and_some_of_the_rest_are_refused(name, options):
    blob = blob_of(name, tuple(options.items()))
    rng = np.random.default_rng(0)
    places = [*range(min(100, len(blob))), *rng.integers(0, len(blob), 60)]
    for place in places:
        damaged = bytearray(blob)
        damaged[place] ^= int(rng.integers(1, 256))
        refused(name, bytes(damaged))


@every
def test_a_blob_cut_short_or_with_bytes_too_many_is_refused(name, options):
    blob = blob_of(name, tuple(options.items()))
    for length in {*range(min(60, len(blob))), *np.random.default_rng(1).integers(0, len(blob), 30), len(blob) - 1}:
        refused(name, blob[:length])
    refused(name, blob + b"\0")
    refused(name, blob[:20] + blob[21:])
    refused(name, bytes(len(blob)))


@every
def test_a_blob_of_another_compressor_is_refused_by_name(name, options):
    other = "none" if name != "none" else "mean"
    with pytest.raises(CorruptBlobError, match="none"):
        module(name).decode(encode(other, noise()))


@every_budgeted
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_bad_value_is_told_before_a_bad_budget(name, options, value):
    """It is looked for before any work, so no budget is too small to hear of it."""
    logits = noise().copy()
    logits[1, 3, 2] = value
    with pytest.raises(ValueError, match="image 1, row 3, column 2"):
        encode(name, logits, 0, **options)


@every
@pytest.mark.parametrize("extreme", [1e6, -690.0, 65520.0, 3e38])
def test_one_extreme_logit_comes_back_as_far_as_the_others_bear(name, options, extreme):
    """65,520 is the least that float16 takes for infinity."""
    logits = noise(2, 4, 6).astype(np.float32)
    logits[1, 2, 3] = extreme
    blob = encode(name, logits, **options)
    decoded = module(name).decode(blob)
    stored = kept(name, blob, 4).tolist()
    assert torch.isfinite(decoded).all()
    if name in FIXED or keeps_probabilities(name, options):
        return
    if 2 in stored:
        assert float(decoded[1, stored.index(2), 3]) == pytest.approx(extreme, rel=2e-2)
    if name in SET_WIDE or options.get("layout") == "set":
        return  # a codebook or a basis of all images has one scale
    # The image without it is none the worse.
    own = decoded[0].numpy() - logits[0, stored]
    assert np.abs(own).max() <= 2e-2 * np.abs(logits[0]).max()
