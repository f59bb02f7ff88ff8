"""Bytes are counted as they lie on disk, and a label file never exceeds its budget."""

from __future__ import annotations

import io
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image

from bench.errors import UserError
from bench.labels.label_file import LabelFile, blob_allowance, image_bytes, image_count, shard_sizes, smallest_total
from bench.seeds import numpy_generator

LAW = settings(max_examples=100, deadline=None, derandomize=True)
PART = st.one_of(st.binary(max_size=40), st.integers(0, 40_000).map(bytes))  # lengths of one to three digits
FILES = st.builds(LabelFile, PART, PART, st.lists(PART, max_size=5).map(tuple))


@LAW
@given(FILES)
def test_a_label_file_comes_back(file: LabelFile) -> None:
    assert LabelFile.from_bytes(file.to_bytes()) == file


@LAW
@given(FILES)
def test_the_counted_size_is_the_size_on_disk(tmp_path_factory: pytest.TempPathFactory, file: LabelFile) -> None:
    path = tmp_path_factory.getbasetemp() / "labels"
    path.write_bytes(file.to_bytes())
    sizes = file.sizes()
    assert sizes["total"] == path.stat().st_size
    container = sizes["total"] - sizes["views"] - sizes["shared"] - sizes["blobs"]
    assert 4 + 1 + 2 <= container <= 4 + 1 + 3 * (2 + len(file.blobs))


@LAW
@given(FILES, st.data())
def test_a_label_file_cut_short_or_too_long_is_refused(file: LabelFile, data: st.DataObject) -> None:
    whole = file.to_bytes()
    kept = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(UserError, match="label file"):
        LabelFile.from_bytes(whole[:kept])
    with pytest.raises(UserError, match="its header tells"):
        LabelFile.from_bytes(whole + b"\0")


@LAW
@given(st.binary(max_size=60), st.booleans())
def test_garbage_is_refused_or_read_whole(garbage: bytes, magic: bool) -> None:
    data = (b"CBL1" if magic else b"") + garbage
    try:
        file = LabelFile.from_bytes(data)
    except UserError:
        return
    assert file.sizes()["blobs"] + len(file.views) + len(file.shared) <= len(data)


@LAW
@given(
    total=st.integers(0, 300_000), views=st.integers(0, 400), shared=st.integers(0, 20_000),
    images=st.lists(st.integers(1, 1000), min_size=1, max_size=8), data=st.data(),
)  # fmt: skip
def test_blobs_within_their_allowance_never_make_the_file_too_long(
    total: int, views: int, shared: int, images: list[int], data: st.DataObject
) -> None:
    allowances = blob_allowance(total, views=views, shared=shared, shard_sizes=images)
    assert len(allowances) == len(images)
    if min(allowances) < 0:
        return  # no blob is that short: the compressor has to say what it needs
    full = data.draw(st.booleans())
    lengths = [a if full else data.draw(st.integers(0, a)) for a in allowances]
    file = LabelFile(bytes(views), bytes(shared), tuple(map(bytes, lengths)))
    assert file.sizes()["total"] == len(file.to_bytes())
    assert file.sizes()["total"] <= total
    if full:  # and little of the budget is given away: rounding per shard and shorter lengths
        assert total - file.sizes()["total"] <= 4 * len(images)


@LAW
@given(st.integers(0, 400), st.integers(0, 20_000), st.lists(st.integers(1, 500), min_size=1, max_size=6), st.data())
def test_the_smallest_total_is_enough_and_one_byte_less_is_not(
    views: int, shared: int, images: list[int], data: st.DataObject
) -> None:
    blob, shard = data.draw(st.integers(1, 30_000)), data.draw(st.integers(0, len(images) - 1))
    parts = {"views": views, "shared": shared, "shard_sizes": images}
    needed = smallest_total(blob, shard, **parts)
    assert blob_allowance(needed, **parts)[shard] >= blob
    # At a power of 128 a larger total may allow less, since its own length takes a digit more.
    assert blob_allowance(needed - 1, **parts)[shard] < blob or needed - 1 in (2**7 - 1, 2**14 - 1, 2**21 - 1)


def test_shards_share_a_budget_by_their_images() -> None:
    small, large = blob_allowance(100_000, views=100, shared=0, shard_sizes=[10, 30])
    assert abs(3 * small - large) <= 3


@LAW
@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 1000), st.integers(1, 10**6))
def test_shards_hold_every_image_once_within_the_memory_and_as_even_as_can_be(
    images: int, views: int, classes: int, limit: int
) -> None:
    sizes = shard_sizes(images, views, classes, limit)
    assert sum(sizes) == images
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == 1 or max(sizes) * views * classes * 2 <= limit
    fewer = len(sizes) - 1
    assert fewer == 0 or -(-images // fewer) * views * classes * 2 > limit


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_counted_as_the_files_that_they_would_be(tmp_path: Path, channels: int) -> None:
    rng = numpy_generator("test", "images", channels)
    images = rng.integers(0, 256, (5, channels, 9, 9), dtype=np.uint8)
    images[0] = 7  # a flat image is small
    for index, image in enumerate(images):
        pixels = image[0] if channels == 1 else np.moveaxis(image, 0, 2)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png", optimize=True)
    on_disk = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert image_bytes(torch.from_numpy(images)) == sum(on_disk)
    assert on_disk[0] < on_disk[1]
    with Image.open(tmp_path / "1.png") as stored:  # lossless
        np.testing.assert_array_equal(
            np.asarray(stored), images[1, 0] if channels == 1 else np.moveaxis(images[1], 0, 2)
        )


def photograph_like(side: int) -> np.ndarray:
    """uint8 [3, side, side]: smooth, with fine noise."""
    rng = numpy_generator("test", "photograph", side)
    coarse = np.kron(rng.integers(40, 216, (3, 8, 8)), np.ones((side // 8, side // 8)))
    return np.clip(coarse + rng.normal(0, 3, coarse.shape), 0, 255).astype(np.uint8)


def test_large_images_are_counted_in_a_few_milliseconds_and_a_few_bytes_more(tmp_path: Path) -> None:
    photograph = np.moveaxis(load_sample_image("flower.jpg"), 2, 0)
    images = torch.from_numpy(np.stack([photograph[:, 100:324, left : left + 224] for left in (100, 300)]))
    started = time.process_time()
    counted = image_bytes(images)
    taken = (time.process_time() - started) / len(images)
    smallest, stored, slow = 0, 0, 0.0
    for pixels in np.moveaxis(images.numpy(), 1, 3):
        best, fast = io.BytesIO(), io.BytesIO()
        started = time.process_time()
        Image.fromarray(pixels).save(best, "PNG", optimize=True)
        slow += (time.process_time() - started) / len(images)
        Image.fromarray(pixels).save(fast, "PNG", compress_type=zlib.Z_RLE)
        smallest, stored = smallest + best.tell(), stored + fast.tell()
        with Image.open(fast) as back:  # lossless
            np.testing.assert_array_equal(np.asarray(back), pixels)
    assert stored == counted
    assert counted == pytest.approx(smallest, rel=0.05)
    assert taken < slow / 3  # 3 and 48 ms


@pytest.mark.parametrize(("size", "floats", "told"), [(64, False, {}), (72, False, {"counted_as": "png-rle"})])
def test_a_count_that_is_not_the_former_one_has_a_name(size: int, floats: bool, told: dict[str, str]) -> None:
    assert image_count(size, floats=floats) == told
    assert image_count(size, floats=True) == {}
    image, smallest = photograph_like(size), io.BytesIO()
    Image.fromarray(np.moveaxis(image, 0, 2)).save(smallest, "PNG", optimize=True)
    assert (image_bytes(torch.from_numpy(image[None])) == smallest.tell()) == (not told)
