"""What a condensed set shares with the test split, against loops over all pairs; and that real data share nothing."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.artifacts.duplicates import NEAR, condensed_facts, equal_count, near, set_digest
from bench.artifacts.opened import Data
from bench.plugins.registry import discover
from bench.plugins.spec import parse


def some(seed: int, n: int, channels: int = 1, size: int = 8, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (n, channels, size, size)).astype(np.uint8)


def changed(images: np.ndarray, most: int, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-most, most + 1, images.shape)
    return np.clip(images.astype(int) + noise, 0, 255).astype(np.uint8)


def naive_near(images: np.ndarray, others: np.ndarray, limit: float) -> list[bool]:
    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(np.mean((a.astype(float) - b.astype(float)) ** 2)))

    return [any(apart(a, b) <= limit for b in others) for a in images]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    channels=st.sampled_from([1, 3]),
    size=st.sampled_from([1, 3, 8, 9, 13, 28, 32]),
    noise=st.integers(0, 40),
    contrast=st.integers(1, 256),
)
def test_near_images_are_those_of_the_plain_loop(
    seed: int, channels: int, size: int, noise: int, contrast: int
) -> None:
    others = some(seed, 7, channels, size, 0, contrast)
    images = np.concatenate([changed(others[:3], noise, seed), some(seed + 1, 3, channels, size, 0, contrast)])
    for limit in (NEAR, 0.0, 20.0):
        assert near(images, others, limit).tolist() == naive_near(images, others, limit)


def test_an_image_exactly_at_the_limit_is_near_and_one_beyond_is_not() -> None:
    black = np.zeros((1, 1, 8, 8), np.uint8)
    assert near(black + np.uint8(6), black).all()
    beyond = black + np.uint8(6)
    beyond[0, 0, 0, 0] = 7
    assert not near(beyond, black).any()


def test_nothing_is_near_where_there_is_nothing() -> None:
    assert near(some(0, 0), some(1, 3)).shape == (0,)
    assert not near(some(0, 2), some(1, 0)).any()


def test_what_a_set_shares_with_the_test_split_is_counted_once_an_image() -> None:
    test = some(0, 20)
    own = some(1, 6)
    images = np.concatenate([own, own[:2], own[:1], test[[4, 4, 9]], changed(test[[2, 5]], 3)])
    labels = np.array([0, 1, 1, 2, 2, 2, 0, 1, 0, 2, 2, 0, 1, 1])
    facts = condensed_facts(images, labels, test, classes=4, train_in_test=5)
    assert facts.pop("digest") == set_digest(images, labels)
    assert facts == {
        "per_class": (0, 5),  # no image of class 3
        "empty_classes": 1,
        "repeated": 3 + 2 + 2,  # one image three times, two images twice
        "in_test_exact": 3,
        "in_test_near": 2,
        "train_in_test": 5,
    }


def test_the_digest_of_a_set_is_that_of_its_shape_pixels_and_labels() -> None:
    images, labels = some(0, 3), np.arange(3)
    expected = hashlib.sha256(b"(3, 1, 8, 8)" + images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    assert set_digest(images, labels) == expected
    assert set_digest(np.asfortranarray(images), labels.astype(np.int32)) == expected
    assert len({expected, set_digest(images, labels[::-1]), set_digest(images.reshape(3, 1, 4, 16), labels)}) == 3


def test_images_that_stand_in_both_splits_are_counted() -> None:
    test = some(0, 9)
    batches = [some(1, 5), np.concatenate([test[:2], test[:1]]), test[3:4]]
    assert equal_count(batches, test) == 4
    assert equal_count([], test) == 0


@pytest.mark.parametrize("name", ["digits", "mnist5k"])
def test_real_images_of_the_training_split_are_never_near_the_test_split(name: str, tmp_path) -> None:
    data = Data(parse(discover(), "dataset", name), tmp_path)
    test = data.test_images()[0].numpy()
    train = data.train.images(np.arange(len(data.train))).numpy()
    assert equal_count([train], test) == 0
    assert not near(train, test).any()
    assert near(changed(test[:50], 8), test).all()  # the same images, each pixel up to 8 levels off


def test_a_thousand_images_against_two_thousand_take_a_moment() -> None:
    images, test = some(0, 1000, 3, 32), some(1, 2000, 3, 32)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        near(images, test)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0  # 0.05 s on a free core
