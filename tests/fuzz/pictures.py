"""Readers of image files, as condensed sets and as data sets read them."""

from __future__ import annotations

import io
import zlib
from functools import cache
from random import Random

import numpy as np
from PIL import Image

from bench.foreign.image_file import read_levels
from bench.photographs.decoding import Policy, decode
from tests.fuzz.changes import NUMBERS, bytes_changed, spliced
from tests.fuzz.reader import Reader, of_bytes

SIZE = 8  # pixels
MODES = ("L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16", "F", "I")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF", "ICO", "EPS", "PCX", "TGA")
EXTRA_CHUNKS = (
    (b"tRNS", b"\x00\x00"),
    (b"zTXt", b"a\x00\x00" + zlib.compress(bytes(10**6))),
    (b"acTL", bytes(8)),
    (b"eXIf", b"MM\x00*"),
    (b"iCCP", b"x\x00\x00y"),
    (b"gAMA", b""),
)
_SIGNATURE = 8  # bytes of a PNG before its first chunk


@cache
def pictures() -> tuple[bytes, ...]:
    """Small pictures of many formats and modes, also of those that are refused."""
    rng = np.random.default_rng(0)
    levels = Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 4), dtype=np.uint8), "RGBA")
    files = []
    for mode in MODES:
        image = levels.convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            image = Image.fromarray(rng.integers(0, 2**16, (SIZE, SIZE), dtype=np.uint16))
        for format in FORMATS:
            file = io.BytesIO()
            try:
                image.save(file, format)
            except (OSError, ValueError, KeyError):
                continue  # this format has no such mode
            files.append(file.getvalue())
    turned = Image.Exif()
    turned[0x0112] = 6
    for options in ({"exif": turned}, {"progressive": True}, {"optimize": True}):
        file = io.BytesIO()
        levels.convert("RGB").save(file, "JPEG", **options)
        files.append(file.getvalue())
    file = io.BytesIO()
    levels.save(file, "TIFF", save_all=True, append_images=[levels], compression="tiff_lzw")
    files.append(file.getvalue())
    return tuple(files)


def png(seed: int) -> bytes:
    """A PNG of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def picture_changed(random: Random) -> bytes:
    """A picture with bytes changed; of a PNG also chunks, with the checksum made right."""
    data = random.choice(pictures())
    if data.startswith(b"\x89PNG") and random.random() < 0.6:
        return _chunks_changed(data, random)
    return spliced(data, random.choice(pictures()), random) if random.random() < 0.1 else bytes_changed(data, random)


def _chunks_changed(data: bytes, random: Random) -> bytes:
    chunks, at = [], _SIGNATURE
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    where = random.randrange(len(chunks))
    name, body = chunks[where]
    kind = random.randrange(6)
    if kind == 0:
        del chunks[where]
    elif kind == 1:
        chunks.insert(where, chunks[random.randrange(len(chunks))])
    elif kind == 2:
        chunks.insert(where, random.choice(EXTRA_CHUNKS))
    elif name == b"IHDR" and kind < 5:
        sides = [random.choice((SIZE, *NUMBERS)) % 2**32 for _ in range(2)]
        body = b"".join(side.to_bytes(4) for side in sides) + body[8:]
        chunks[where] = name, body
    else:
        chunks[where] = name, bytes_changed(body, random)
    out = data[:_SIGNATURE]
    for name, body in chunks:
        out += len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4)
    return out


def _read_levels(data: bytes) -> None:
    channels = 1 if len(data) % 2 else 3
    image = read_levels(data, "a.png", channels)
    assert np.asarray(image).dtype == np.uint8


def _decode(data: bytes) -> None:
    policy = Policy(SIZE, 2 * SIZE, exif=len(data) % 3 == 0, crop="none" if len(data) % 5 == 0 else "centre")
    pixels = decode("a.jpg", policy, data)
    assert pixels.shape == (3, SIZE, SIZE)


READERS: dict[str, Reader] = {
    "picture-of-a-set": of_bytes(picture_changed, _read_levels),
    "photograph": of_bytes(picture_changed, _decode),
}
