"""The embedded data sets: fixed, stratified, disjoint splits with released digests, and glyphs drawn from a seed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bench.artifacts.describe import released_dataset_digest
from bench.errors import UserError
from protocols.datasets import _glyph_choice, _glyph_classes, _glyph_drawing, digits, glyphs, mnist5k
from protocols.datasets.__main__ import drawn_with
from protocols.datasets._arrays import (
    ArraySource,
    array_digest,
    atomic_path,
    read_digests,
    stratified_split,
)

EMBEDDED = {"digits": (digits, 1197, 600), "mnist5k": (mnist5k, 4000, 1000)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def released(name: str, split: str) -> str:
    return read_digests()["datasets"][name][split]["sha256"]


def everything(source: ArraySource) -> np.ndarray:
    return source.read(np.arange(len(source)))


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_real_data_set_has_the_released_splits(name: str, tmp_path: Path) -> None:
    module, trains, tests = EMBEDDED[name]
    dataset = module.load(tmp_path)
    train, test = dataset.train(), dataset.test()
    assert (len(train), len(test)) == (trains, tests)
    assert train.digest() == released(name, "train")
    assert test.digest() == released(name, "test")
    assert list(tmp_path.iterdir()) == []

    images = everything(train)
    assert images.dtype == np.uint8
    assert images.shape == (trains, dataset.channels, dataset.source_size, dataset.source_size)
    assert images.max() == 255
    np.testing.assert_allclose(images.mean(axis=(0, 2, 3)) / 255, dataset.mean, atol=1e-4)
    np.testing.assert_allclose(images.std(axis=(0, 2, 3)) / 255, dataset.std, atol=1e-4)

    share = tests / (trains + tests)
    for label in range(10):
        of_class = [np.count_nonzero(split.labels == label) for split in (train, test)]
        assert abs(of_class[1] - share * sum(of_class)) < 1
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in everything(test)}


def test_images_that_occur_twice_stay_on_the_train_side() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(100, 1, 4, 4), dtype=np.uint8)
    images[50:70] = images[:20]
    labels = np.arange(100) % 5
    train, test = stratified_split(images, labels, 20, "a test")
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(100))
    assert np.array_equal(np.bincount(labels[test]), [4] * 5)
    assert not {i.tobytes() for i in images[train]} & {i.tobytes() for i in images[test]}
    again = stratified_split(images, labels, 20, "a test")
    assert np.array_equal(test, again[1])
    assert not np.array_equal(test, stratified_split(images, labels, 20, "another")[1])


def test_a_split_that_duplicates_make_impossible_is_refused() -> None:
    with pytest.raises(ValueError, match="test_size=2"):
        stratified_split(np.zeros((4, 1, 2, 2), np.uint8), np.zeros(4, int), 2, "a test")


def test_reading_by_index_gives_copies_in_the_order_asked_for() -> None:
    images = np.arange(5 * 3 * 2 * 2, dtype=np.uint8).reshape(5, 3, 2, 2)
    source = ArraySource(images, np.arange(5))
    read = source.read(np.array([4, 0, 0]))
    assert np.array_equal(read, images[[4, 0, 0]])
    read[:] = 0
    assert images[4].any()
    assert source.read(np.array([], dtype=np.int64)).shape == (0, 3, 2, 2)
    assert source.labels.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        source.labels[0] = 1
    with pytest.raises(IndexError):
        source.read(np.array([5]))
    with pytest.raises(ValueError, match="uint8"):
        ArraySource(images.astype(float), np.arange(5))


def test_a_digest_sees_pixels_labels_shape_and_order() -> None:
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
    labels = np.arange(6)
    changed = images.copy()
    changed[3, 0, 1, 1] ^= 1
    digests = {
        array_digest(images, labels),
        array_digest(changed, labels),
        array_digest(images, labels[::-1]),
        array_digest(images[::-1], labels),
        array_digest(images.reshape(6, 1, 1, 4), labels),
    }
    assert len(digests) == 5
    assert array_digest(images[::-1][::-1], labels.astype(np.int32)) == array_digest(images, labels)


def test_a_file_that_was_not_finished_is_never_seen(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"

    def stopped_half_way() -> None:
        with atomic_path(target) as path:
            path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stopped_half_way()
    assert os.listdir(target.parent) == []
    with atomic_path(target) as path:
        path.write_text("whole")
    assert os.listdir(target.parent) == ["file"]
    assert target.read_text() == "whole"


def test_glyphs_are_drawn_from_the_seed_alone(cache: Path, tmp_path: Path) -> None:
    four, again, eight = (glyphs.load(r, classes=c) for r, c in ((cache, 4), (tmp_path, 4), (cache, 8)))
    for split, count in (("train", 100), ("test", 20)):
        source, twice, larger = (getattr(d, split)() for d in (four, again, eight))
        assert source.digest() == twice.digest()
        assert np.array_equal(source.labels, np.repeat(np.arange(4), count))
        assert np.array_equal(everything(source), larger.read(np.arange(4 * count)))
    other = glyphs.load(cache, classes=2, seed=1).train()
    assert not np.array_equal(other.read(np.arange(3)), four.train().read(np.arange(3)))


def test_glyphs_are_read_from_the_cache_the_second_time(cache: Path) -> None:
    glyphs.load(cache, classes=4).train()
    written = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    source = glyphs.load(cache, classes=4).test()
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == written
    assert not any(name.startswith(".") for name in written)
    assert source.read(np.array([79])).shape == (1, 3, 64, 64)


def test_no_glyph_is_drawn_twice(cache: Path) -> None:
    dataset = glyphs.load(cache, classes=8)
    images = np.concatenate([everything(dataset.train()), everything(dataset.test())])
    assert len({image.tobytes() for image in images}) == len(images) == 8 * 120


def test_an_image_equal_to_an_earlier_one_is_drawn_again() -> None:
    seen: set[bytes] = set()
    first = glyphs._draw_new(0, "A", 0, seen)
    assert glyphs._draw_new(0, "A", 0, seen) == _glyph_drawing.draw(0, "A", 0, attempt=1).tobytes() != first


def test_glyphs_state_what_they_are(cache: Path) -> None:
    dataset = glyphs.load(cache, classes=8)
    assert (dataset.num_classes, dataset.channels, dataset.size, dataset.source_size) == (8, 3, 32, 64)
    assert not dataset.mirror
    assert dataset.class_names == tuple("01234567")
    images = everything(dataset.train()).reshape(-1, 3, 32, 2, 32, 2).mean(axis=(3, 5)) / 255
    np.testing.assert_allclose(images.mean(axis=(0, 2, 3)), dataset.mean, atol=0.03)
    np.testing.assert_allclose(images.std(axis=(0, 2, 3)), dataset.std, atol=0.03)


@pytest.mark.parametrize("classes", [1, 1001])
def test_a_class_count_out_of_range_is_answered_with_the_range(classes: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="allowed: 2 to 1000"):
        glyphs.load(tmp_path, classes=classes)


def test_a_thousand_characters_are_classes_and_each_has_several_faces() -> None:
    classes = _glyph_classes.CLASSES
    assert len(classes) == len(set(classes)) == 1000
    assert min(len(_glyph_drawing.faces_of(c)) for c in classes) >= _glyph_choice.MIN_FACES


def test_characters_drawn_alike_are_one_class() -> None:
    chosen = _glyph_choice.choose(100)
    assert chosen == _glyph_classes.CLASSES[:100]
    for alike in ("AΑА", "BΒВ", "Cc", "OoΟО0", "1Il|", "HΗН", "Xx"):
        assert len(set(alike) & set(_glyph_classes.CLASSES)) <= 1, alike


@pytest.mark.parametrize("face", _glyph_drawing.FACES)
def test_no_class_is_drawn_as_the_box_of_a_missing_character(face: str) -> None:
    font = _glyph_drawing.load_face(face, 32)
    missing = bytes(font.getmask(chr(0xFFFFF)))
    drawn = [c for c in _glyph_classes.CLASSES[:300] if face in _glyph_drawing.faces_of(c)]
    assert len(drawn) > 50
    assert all(bytes(font.getmask(c)) != missing for c in drawn)


def test_ink_stays_inside_the_picture_and_stands_out() -> None:
    rng = np.random.default_rng(0)
    for index in range(60):
        character = _glyph_classes.CLASSES[index * 16]
        face = _glyph_drawing.faces_of(character)[0]
        ink = _glyph_drawing._place(_glyph_drawing._mask(face, character, index % 3, True), rng)
        edge = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
        assert edge.max() == 0
        assert ink.max() > 0.5
        foreground, *backgrounds = _glyph_drawing._colours(rng)
        luma = np.array([299, 587, 114]) / 1000
        gaps = [luma @ (background - foreground).reshape(3) for background in backgrounds]
        assert min(gaps) >= _glyph_drawing.CONTRAST - 1


@pytest.mark.slow
@pytest.mark.parametrize("classes", [100, 1000])
def test_the_released_glyphs_are_drawn_again_bit_by_bit(classes: int, cache: Path) -> None:
    if read_digests()["drawn_with"] != drawn_with():
        pytest.skip(f"released with {read_digests()['drawn_with']}, this is {drawn_with()}")
    dataset = glyphs.load(cache, classes=classes)
    assert dataset.train().digest() == released(f"glyphs:classes={classes}", "train")
    assert dataset.test().digest() == released(f"glyphs:classes={classes}", "test")


def test_an_unknown_data_set_was_never_released() -> None:
    assert "glyphs:classes=7" not in read_digests()["datasets"]
    assert released_dataset_digest("glyphs:classes=7") is None
