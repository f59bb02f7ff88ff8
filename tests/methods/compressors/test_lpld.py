"""LPLD: which labels a pool holds, by whole rows and by stored batches, beside plain loops over what was stored."""

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
from bench.views.parameters import View, Views, batch_bounds
from methods._codec.container import CorruptBlobError
from methods.compressors import lpld

LAW = settings(max_examples=25, deadline=None, derandomize=True)
PLENTY = 1 << 30
IMAGES, K, C, BATCH = 23, 6, 5, 8  # batches of 8, 8 and 7 images


def views(images: int = IMAGES, k: int = K, batch: int = BATCH, unit: str = "batch") -> Views:
    augment = Augment(mix="cutmix", mix_unit=unit)
    return Views(augment, images, 8, mirror=True, batch=batch, seed=7, count=k)


def drawn(images: int = IMAGES, k: int = K, c: int = C, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(0).standard_normal((images, k, c))).astype(np.float32)


def encode(
    logits: np.ndarray,
    budget: int = PLENTY,
    *,
    of: Views | tuple[View, ...] = (),
    images=None,
    seed: int = 0,
    **options,
) -> bytes:
    context = SimpleNamespace(numpy=lambda *name: numpy_generator("test", seed, *name))
    classes = torch.zeros(len(logits), dtype=torch.int64)
    return lpld.encode(SoftLabels(torch.from_numpy(logits), classes, of, images), budget, context, **options)


def expected(logits: np.ndarray, of: Views, kept: set[tuple[int, int]], numbers: np.ndarray) -> np.ndarray:
    """One stored batch after the other: its images, in its view; NaN is what no batch brought."""
    out = np.full(logits.shape, np.nan, np.float32)
    for view, batch in kept:
        start, stop = batch_bounds(of.n, of.batch)[batch]
        for image in of[view].order[start:stop]:
            for at in np.flatnonzero(numbers == image):
                out[at, view] = logits[at, view].astype(np.float16)
    return out


def pairs(blob: bytes) -> list[tuple[int, int]]:
    return [tuple(pair) for pair in lpld.batches(blob).tolist()]


@pytest.mark.parametrize("order", ["random", "first"])
@pytest.mark.parametrize("budget", [350, 600, 900, 1200, PLENTY])
def test_a_pool_of_batches_is_that_of_a_plain_loop(order: str, budget: int) -> None:
    logits, of = drawn(), views()
    blob = encode(logits, budget, of=of, unit="batch", order=order)
    kept = pairs(blob)
    assert kept == sorted(set(kept))
    assert len(blob) <= budget
    touched = sorted({view for view, _ in kept})
    wanted = expected(logits, of, set(kept), np.arange(IMAGES))
    np.testing.assert_array_equal(lpld.decode(blob, touched).numpy(), wanted[:, touched])
    np.testing.assert_array_equal(
        lpld.decode(blob, touched[::-1] + touched[:1]), wanted[:, touched[::-1] + touched[:1]]
    )
    whole = [view for view in touched if {(view, batch) for batch in range(3)} <= set(kept)]
    assert lpld.rows(blob).tolist() == whole
    assert lpld.rows(blob).dtype == np.int64
    np.testing.assert_array_equal(lpld.decode(blob), wanted[:, whole])


def test_the_order_variant_keeps_the_batches_that_were_stored_first() -> None:
    logits, of = drawn(), views()
    for budget in (350, 600, 900, 1200):
        kept = pairs(encode(logits, budget, of=of, unit="batch", order="first"))
        assert kept == [divmod(number, 3) for number in range(len(kept))]
    assert pairs(encode(logits, of=of, unit="batch", order="first")) == [divmod(number, 3) for number in range(3 * K)]


def test_random_batches_depend_on_the_seed_and_more_bytes_add_to_them() -> None:
    logits, of = drawn(), views()
    few, many, other = (
        pairs(encode(logits, budget, of=of, unit="batch", seed=seed)) for budget, seed in ((500, 0), (800, 0), (500, 1))
    )
    assert set(few) < set(many)
    assert few != other
    assert [3 * view + batch for view, batch in many] != list(range(len(many)))


def test_every_batch_is_as_likely_to_be_kept_as_any_other() -> None:
    logits, of = drawn(), views()
    count = np.zeros((K, 3))
    for seed in range(120):
        for view, batch in pairs(encode(logits, 700, of=of, unit="batch", seed=seed)):
            count[view, batch] += 1
    share = count.sum() / count.size
    # A count is binomial or narrower; five standard deviations.
    assert np.abs(count - share).max() < 5 * np.sqrt(share * (1 - share / 120))


@pytest.mark.parametrize("order", ["random", "first"])
def test_shards_keep_the_same_batches_but_for_the_last_few(order: str) -> None:
    logits, of = drawn(), views()
    parts = [np.arange(0, 12), np.arange(12, 23)]
    kept = []
    for numbers in parts:
        blob = encode(logits[numbers], 300 + len(numbers) * 25, of=of, images=numbers, unit="batch", order=order)
        kept.append(pairs(blob))
        touched = sorted({view for view, _ in kept[-1]})
        wanted = expected(logits[numbers], of, set(kept[-1]), numbers)
        np.testing.assert_array_equal(lpld.decode(blob, touched).numpy(), wanted[:, touched])
    small, large = sorted(kept, key=len)
    assert set(small) <= set(large)
    assert len(large) - len(small) <= 3


def test_images_in_any_order_are_found_again() -> None:
    logits, of = drawn(), views()
    numbers = np.array([20, 3, 11, 4])
    blob = encode(logits[numbers], of=of, images=numbers, unit="batch")
    np.testing.assert_array_equal(lpld.decode(blob), logits[numbers].astype(np.float16).astype(np.float32))


@LAW
@given(images=st.integers(1, 40), k=st.integers(1, 9), batch=st.integers(1, 12), extra=st.integers(0, 3000))
def test_no_budget_is_exceeded_and_the_smallest_size_is_enough(images: int, k: int, batch: int, extra: int) -> None:
    logits, of = drawn(images, k), views(images, k, batch)
    with pytest.raises(InfeasibleError) as caught:
        encode(logits, 0, of=of, unit="batch")
    least = caught.value.smallest_bytes
    assert len(encode(logits, least, of=of, unit="batch")) == least
    assert len(encode(logits, least + extra, of=of, unit="batch")) <= least + extra


def test_what_is_left_unused_is_less_than_a_batch() -> None:
    logits, of = drawn(), views()
    for budget in (400, 500, 777, 1000):
        assert budget - len(encode(logits, budget, of=of, unit="batch")) < BATCH * C * 2 + 8


def test_large_logits_keep_their_scale() -> None:
    logits, of = drawn(scale=1e30), views()
    found = lpld.decode(encode(logits, of=of, unit="batch")).numpy()
    np.testing.assert_allclose(found, logits, atol=1e-3 * np.abs(logits).max())


def test_a_view_without_a_batch_is_named() -> None:
    blob = encode(drawn(), 540, of=views(), unit="batch", order="first")
    assert lpld.rows(blob).tolist() == [0]
    with pytest.raises(ValueError, match="view 5 was pruned"):
        lpld.decode(blob, [0, 5])


@pytest.mark.parametrize(
    ("of", "told"),
    [((), "are not known here"), (views(unit="image"), "were made image by image"), (tuple(views()), "not known")],
)
def test_labels_that_were_not_stored_by_batch_have_no_batches_to_prune(of, told: str) -> None:
    with pytest.raises(ValueError, match=f"unit: 'batch' needs views .*{told}.*unit=row"):
        encode(drawn(), of=of, unit="batch")


def test_views_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="6 rows an image and 4 views"):
        encode(drawn(), of=views(k=4), unit="batch")


def test_whole_rows_have_no_batches() -> None:
    assert lpld.batches(encode(drawn(), of=views())) is None


def test_a_flipped_byte_anywhere_is_an_error() -> None:
    blob = encode(drawn(), 500, of=views(), unit="batch")
    for position in range(len(blob)):
        damaged = bytearray(blob)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(CorruptBlobError):
            lpld.decode(bytes(damaged))
