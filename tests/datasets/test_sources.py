"""Image files become pixels as torchvision makes them, one by one, and a digest sees what decides them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from bench import sources
from bench.errors import UserError
from bench.photographs import decoding, manifest, pixel_cache
from bench.sources import FileSource, Policy, decode, listing
from tests.worlds.published_files import drawn, photograph

EVALUATION = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
PHOTOGRAPH = Policy(size=224, resize=256)


def kinds(folder: Path) -> list[Path]:
    """Files as they occur in ImageNet: wide and high, small, grey, CMYK, turned by EXIF, PNG named .JPEG, palette."""
    files = [folder / f"{name}.JPEG" for name in ("wide", "high", "small", "grey", "cmyk", "turned", "png", "palette")]
    sizes = [(500, 375), (333, 500), (90, 121), (300, 300), (400, 257), (320, 240), (256, 256), (300, 280)]
    for seed, (file, (width, height)) in enumerate(zip(files, sizes, strict=True)):
        photograph(file, width, height, seed, quality=90)
    for name, mode in (("grey", "L"), ("cmyk", "CMYK")):
        Image.open(folder / f"{name}.JPEG").convert(mode).save(folder / f"{name}.JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.open(folder / "turned.JPEG").save(folder / "turned.JPEG", exif=exif)
    Image.open(folder / "png.JPEG").save(folder / "png.JPEG", format="PNG")
    Image.open(folder / "palette.JPEG").convert("P").save(folder / "palette.JPEG", format="PNG")
    return files


def test_pixels_are_those_of_torchvisions_resize_and_center_crop_to_the_bit(tmp_path: Path) -> None:
    files = kinds(tmp_path)
    source = FileSource(files, np.zeros(len(files)), PHOTOGRAPH)
    order = np.array([7, 0, 3, 1, 2, 4, 5, 6, 0])
    read = source.read(order)
    assert read.dtype == np.uint8
    for image, index in zip(read, order, strict=True):
        assert (image == EVALUATION(default_loader(str(files[index]))).numpy()).all(), files[index]


def test_a_file_is_read_only_when_its_image_is_asked_for(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png", 40, 30)
    source = FileSource([tmp_path / "a.png", tmp_path / "missing.png"], np.arange(2), Policy(size=16, resize=20))
    assert source.read(np.array([0])).shape == (1, 3, 16, 16)
    with pytest.raises(UserError, match=r"missing\.png cannot be read"):
        source.read(np.array([1]))


def test_what_is_no_whole_image_of_8_bits_is_named(tmp_path: Path) -> None:
    photograph(tmp_path / "cut.JPEG", 300, 300)
    (tmp_path / "cut.JPEG").write_bytes((tmp_path / "cut.JPEG").read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(drawn(20, 20).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    photograph(tmp_path / "wide.png", 65, 64)
    for name, policy, message in [
        ("cut.JPEG", PHOTOGRAPH, "truncated"),
        ("text.png", PHOTOGRAPH, "cannot identify image"),
        ("deep.png", PHOTOGRAPH, "more than 8 bits"),
        ("wide.png", Policy(size=64), "is 65x64 px; this data set takes 64x64"),
    ]:
        with pytest.raises(UserError, match=message) as error:
            decode(tmp_path / name, policy)
        assert str(tmp_path / name) in str(error.value)


def test_grey_sets_have_one_channel(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png", 16, 16)
    assert decode(tmp_path / "a.png", Policy(size=16, channels=1)).shape == (1, 16, 16)


def test_a_digest_sees_content_labels_order_policy_and_decoder_and_not_names(tmp_path: Path, monkeypatch) -> None:
    files = [tmp_path / f"{index}.png" for index in range(3)]
    for index, file in enumerate(files):
        photograph(file, 30, 30, seed=index)
    policy = Policy(size=16, resize=20)
    digest = FileSource(files, np.arange(3), policy).digest()
    renamed = [file.rename(tmp_path / f"renamed-{file.name}") for file in files]
    assert FileSource(renamed, np.arange(3), policy).digest() == digest
    others = {
        FileSource(renamed, np.array([0, 1, 1]), policy).digest(),
        FileSource(renamed[::-1], np.arange(3), policy).digest(),
        FileSource(renamed, np.arange(3), Policy(size=16, resize=21)).digest(),
    }
    monkeypatch.setattr(sources, "decoder_digest", lambda: "another decoder")
    others.add(FileSource(renamed, np.arange(3), policy).digest())
    assert len(others | {digest}) == 5


def test_unchanged_files_are_hashed_once(tmp_path: Path, monkeypatch) -> None:
    photograph(tmp_path / "a.png", 30, 30)
    photograph(tmp_path / "b.png", 30, 30, seed=1)

    def source() -> FileSource:
        files = [tmp_path / "a.png", tmp_path / "b.png"]
        return FileSource(files, np.arange(2), Policy(size=16, resize=20), tmp_path / "kept")

    digest = source().digest()
    (kept,) = (tmp_path / "kept").glob("*.npy")
    assert len(np.load(kept)) == 2
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "file_digest", lambda file: pytest.fail(f"{file} was hashed again"))
        assert source().digest() == digest
    photograph(tmp_path / "b.png", 30, 30, seed=2)
    assert source().digest() != digest


def test_decoded_pixels_are_kept_once_and_are_the_same(tmp_path: Path, monkeypatch) -> None:
    files = kinds(tmp_path)
    plain = FileSource(files, np.zeros(len(files)), PHOTOGRAPH).read(np.array([3, 0, 3]))

    def source() -> FileSource:
        return FileSource(files, np.zeros(len(files)), PHOTOGRAPH, tmp_path / "kept", keep_pixels=True)

    read = source().read(np.array([3, 0, 3]))
    assert (read == plain).all()
    read[:] = 0  # a copy
    with monkeypatch.context() as patched:
        for module in (sources, pixel_cache):
            patched.setattr(module, "decode", lambda file, *_: pytest.fail(f"{file} was decoded again"))
        assert (source().read(np.array([0])) == plain[1]).all()
    files[4].write_bytes(files[4].read_bytes()[:-300])
    with pytest.raises(UserError, match=r"cmyk\.JPEG"):
        source().read(np.array([0]))
    whole = [each for each in (tmp_path / "kept").iterdir() if each.name.endswith(".pixels.npy")]
    assert len(whole) == 1  # no half file


def test_a_listing_sees_names_sizes_and_times_and_not_the_folder(tmp_path: Path) -> None:
    photograph(tmp_path / "one" / "owl" / "a.png", 30, 30)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first, second = tmp_path / "one" / "owl" / "a.png", tmp_path / "two" / "owl" / "a.png"
    assert listing([first]) == listing([second])
    os.utime(second, ns=(0, 0))
    assert listing([first]) != listing([second])


SAMPLE = "fc5ae0873b31eb64"


def test_the_sample_is_decoded_alike_everywhere() -> None:
    """Where this fails, Pillow decodes or resizes otherwise than when data sets were first hashed."""
    assert decoding.decoder_digest().startswith(SAMPLE)
