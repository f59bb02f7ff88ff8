"""Image files of strangers: no other program starts, no pixel changes in silence, nothing is waited for without end."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.errors import UserError
from bench.foreign.bounds import regular
from bench.foreign.image_file import read_levels
from bench.sources import Policy, decode

RAMP = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def levels(content: bytes, channels: int = 1) -> np.ndarray:
    return np.asarray(read_levels(content, "a.png", channels))


def refusal(content: bytes) -> str:
    """Why a picture is refused; "" where it is read."""
    try:
        levels(content)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_range(kind: str) -> None:
    """Pillow's own conversion clips: half of this ramp would be white."""
    content = saved(Image.fromarray(RAMP), kind)
    assert levels(content).tolist() == np.rint(RAMP / 257).astype(int).tolist()
    assert levels(content, 3).shape == (8, 8, 3)
    assert np.array_equal(levels(content, 3)[..., 1], levels(content))


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(RAMP.astype(np.int32)),
        Image.fromarray((RAMP / 65535).astype(np.float32)),
        Image.fromarray((RAMP / 7).astype(np.float32)),
    ],
    ids=["32 bits", "floats from 0 to 1", "floats"],
)
def test_pixels_of_unknown_range_are_refused(image: Image.Image) -> None:
    with pytest.raises(UserError, match=r"a\.png has more than 8 bits a channel .*save it with 8 bits"):
        levels(saved(image, "TIFF"))


def with_alpha(mode: str, alpha: int) -> Image.Image:
    image = Image.fromarray(np.full((8, 8), 90, np.uint8)).convert(mode)
    image.putalpha(Image.new("L", (8, 8), 255))
    image.putpixel((3, 3), (*image.getpixel((3, 3))[:-1], alpha))  # type: ignore[index]
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_where_all_is_opaque_and_refused_elsewhere(mode: str) -> None:
    assert (levels(saved(with_alpha(mode, 255))) == 90).all()
    for alpha in (0, 254):
        with pytest.raises(UserError, match="has transparent pixels"):
            levels(saved(with_alpha(mode, alpha)))


def test_a_transparent_colour_of_a_palette_or_of_grey_counts_as_alpha() -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    for image in (grey, grey.convert("P"), grey.convert("RGB")):
        clear = (5, 5, 5) if image.mode == "RGB" else 5
        with pytest.raises(UserError, match="has transparent pixels"):
            levels(saved(image, transparency=clear))
        assert levels(saved(image)).shape == (8, 8)


def test_exif_orientation_is_ignored_as_torchvision_ignores_it() -> None:
    wide = Image.new("L", (9, 5))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert levels(saved(wide, "JPEG", exif=exif)).shape == (5, 9)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_file_of_several_pictures_is_refused(kind: str) -> None:
    pictures = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (10, 200)]
    with pytest.raises(UserError, match="holds 2 pictures"):
        levels(saved(pictures[0], kind, save_all=True, append_images=pictures[1:]))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(13_000, 13_000), (50_000, 50_000), (1, 2**31 - 1)])
def test_pictures_without_bounds_are_refused_by_their_header(size: tuple[int, int]) -> None:
    for read in (lambda: levels(png(*size)), lambda: decode("a.png", Policy(size=8, channels=1), png(*size))):
        with pytest.raises(UserError, match=r"a\.png (is \d+x\d+ px; at most 100,000,000|cannot be read as an image)"):
            read()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    "content",
    [POSTSCRIPT, b"", b"\x89PNG", png(8, 8), b"GIF89a" + bytes(20), bytes(100)],
    ids=["PostScript", "nothing", "its first bytes", "no pixels", "another format", "zeros"],
)
def test_what_is_no_picture_is_one_sentence_that_names_the_file(content: bytes) -> None:
    for read in (lambda: levels(content), lambda: decode("a.png", Policy(size=8, channels=1), content)):
        with pytest.raises(UserError, match=r"a\.png cannot be read as an image") as refused:
            read()
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 200


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it then refuses
def test_random_damage_is_always_one_sentence() -> None:
    rng = np.random.default_rng(0)
    shade = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM"):
        whole = np.frombuffer(saved(shade, kind), np.uint8)
        for _ in range(40):
            spoilt = whole.copy()
            spoilt[rng.integers(0, len(whole), 3)] = rng.integers(0, 256, 3)
            message = refusal(spoilt[: rng.integers(1, len(whole) + 1)].tobytes())
            assert not message or "a.png" in message


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for read in (
        lambda: regular(tmp_path / "a.png"),
        lambda: read_levels(tmp_path / "a.png", tmp_path / "a.png", 1),
        lambda: decode(tmp_path / "a.png", Policy(size=8, channels=1)),
    ):
        with pytest.raises(UserError, match="is a pipe, a socket or a device, not a file"):
            read()
    with pytest.raises(UserError, match="is a folder, not a file"):
        regular(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        regular(tmp_path / "none")
