"""What becomes of the awkward image files that real data sets hold: the pixels of torchvision, or one clear message."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision import transforms
from torchvision.datasets.folder import default_loader
from torchvision.transforms import InterpolationMode

from bench.errors import UserError
from bench.photographs.decoding import FILTERS, Policy, decode, original
from tests.worlds.published_files import drawn, photograph


def pixels(*steps: object, file: Path) -> np.ndarray:
    """What torchvision makes of a file."""
    return transforms.Compose([*steps, transforms.PILToTensor()])(default_loader(str(file))).numpy()


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_is_torchvisions_to_the_bit(name: str, tmp_path: Path) -> None:
    for width, height in ((500, 375), (201, 333), (60, 47)):
        photograph(tmp_path / "a.JPEG", width, height, seed=width)
        mode = InterpolationMode(name)
        cut = pixels(transforms.Resize(146, mode), transforms.CenterCrop(127), file=tmp_path / "a.JPEG")
        assert (decode(tmp_path / "a.JPEG", Policy(size=127, resize=146, filter=name)) == cut).all()
        squeezed = pixels(transforms.Resize((64, 64), mode), file=tmp_path / "a.JPEG")
        assert (decode(tmp_path / "a.JPEG", Policy(size=64, resize=64, crop="none", filter=name)) == squeezed).all()


@pytest.mark.parametrize("turned", range(1, 9))
def test_a_photograph_is_turned_upright_only_where_the_policy_says_so(turned: int, tmp_path: Path) -> None:
    photograph(tmp_path / "a.JPEG", 60, 40)
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.open(tmp_path / "a.JPEG").save(tmp_path / "a.JPEG", exif=exif)
    plain = Image.open(tmp_path / "a.JPEG")
    upright = ImageOps.exif_transpose(plain)
    assert original(tmp_path / "a.JPEG", 3).shape == (3, 40, 60)
    assert (original(tmp_path / "a.JPEG", 3).transpose(1, 2, 0) == np.asarray(plain)).all()
    assert (original(tmp_path / "a.JPEG", 3, exif=True).transpose(1, 2, 0) == np.asarray(upright)).all()
    changed = decode(tmp_path / "a.JPEG", Policy(40, 40)) != decode(tmp_path / "a.JPEG", Policy(40, 40, exif=True))
    assert changed.any() == (turned != 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "RGB"])
def test_modes_of_8_bits_and_less_become_the_colours_that_torchvision_sees(mode: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}"
    photograph(file, 50, 40)
    image = Image.open(file).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(drawn(40, 50, seed=9)))
    image.save(file)
    assert (original(file, 3) == pixels(file=file)).all()


def test_a_transparent_colour_of_a_palette_counts_as_what_it_is(tmp_path: Path) -> None:
    image = Image.fromarray(drawn(20, 30)).convert("P")
    image.save(tmp_path / "a.png", transparency=3)
    assert (original(tmp_path / "a.png", 3) == pixels(file=tmp_path / "a.png")).all()


def png(rows: bytes, width: int, height: int, depth: int, kind: int) -> bytes:
    """A PNG file."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = b""
    for name, content in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        body += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return b"\x89PNG\r\n\x1a\n" + body


def test_colours_of_16_bits_keep_their_upper_8_and_grey_of_16_bits_is_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (5, 4, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "deep.png").write_bytes(png(rows, 4, 5, 16, 2))
    assert (original(tmp_path / "deep.png", 3).transpose(1, 2, 0) == values >> 8).all()
    Image.fromarray(drawn(20, 20).astype(np.uint16) * 257).save(tmp_path / "grey.png")
    Image.fromarray(drawn(20, 20).astype(np.float32)).save(tmp_path / "float.tif")
    for name in ("grey.png", "float.tif"):
        with pytest.raises(UserError, match="more than 8 bits a channel") as error:
            original(tmp_path / name, 3)
        assert str(tmp_path / name) in str(error.value)


def cut_files(folder: Path) -> list[Path]:
    """Files of each kind that end at every tenth of their length, empty ones, and ones whose middle was overwritten."""
    files = []
    for suffix in ("JPEG", "png", "bmp", "webp", "tif", "ppm"):
        photograph(folder / f"whole.{suffix}", 90, 70)
        whole = (folder / f"whole.{suffix}").read_bytes()
        for tenth in range(10):
            files.append(folder / f"{tenth}.{suffix}")
            files[-1].write_bytes(whole[: len(whole) * tenth // 10])
    return files


def test_a_file_that_was_cut_off_is_named_wherever_it_ends(tmp_path: Path) -> None:
    for file in cut_files(tmp_path):
        for content in (None, file.read_bytes()):
            with pytest.raises(UserError) as error:
                decode(file, Policy(size=32, resize=40), content)
            assert str(error.value).startswith(f"{file} cannot be read as an image: ")
            assert len(str(error.value)) < len(str(file)) + 200
            assert "BytesIO" not in str(error.value)


@pytest.mark.filterwarnings("ignore")
def test_damage_gives_pixels_or_the_files_name_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    """Bytes all over a small file overwritten in turn."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # a size that damage made up is not decoded
    refused = 0
    for suffix in ("JPEG", "png", "tif", "ppm", "bmp"):
        photograph(tmp_path / f"a.{suffix}", 9, 7)
        whole = (tmp_path / f"a.{suffix}").read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 150)):
            content = bytearray(whole)
            content[place] ^= 0xA5
            try:
                shape, message = decode("named.JPEG", Policy(size=4, resize=5), bytes(content)).shape, "named.JPEG"
            except UserError as error:
                shape, message = (3, 4, 4), str(error)
                refused += 1
            assert shape == (3, 4, 4)
            assert "named.JPEG" in message
    assert refused > 50


def test_a_line_of_pixels_is_not_enlarged_without_bounds(tmp_path: Path) -> None:
    file = tmp_path / "line.png"
    Image.new("L", (2, 1_000_000)).save(file)
    with pytest.raises(UserError, match=r"line.png is 2x1000000 px: with 256 px .* more than 100,000,000 pixels"):
        decode(file, Policy(size=224, resize=256))
    assert decode(file, Policy(size=224, resize=256, crop="none")).shape == (3, 224, 224)


def test_no_file_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n")
    for content in (None, (tmp_path / "a.png").read_bytes()):
        with pytest.raises(UserError, match=r"a\.png cannot be read as an image: cannot identify"):
            decode(tmp_path / "a.png", Policy(size=4, resize=4), content)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "allowed is 0 < size <= resize"),
        ({"size": 9, "resize": 8}, "allowed is 0 < size <= resize"),
        ({"size": 9, "filter": "bilinaer"}, "Did you mean 'bilinear'"),
        ({"size": 9, "crop": "center"}, "Did you mean 'centre'"),
        ({"size": 9, "channels": 4}, "No channels is named '4'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Policy(**values)
