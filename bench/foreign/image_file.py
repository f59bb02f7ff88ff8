"""Image files of strangers: decoders that stay in this process, and 8 bits without a loss in silence.

Every picture that the project reads passes here: photographs of data sets and condensed sets made elsewhere.

| a file has | condensed sets | data sets |
|---|---|---|
| 16 bits, grey | the whole range becomes 0 to 255 | refused |
| 32 bits or floats | refused | refused |
| transparent pixels | refused | alpha is dropped, as torchvision does |
| several pictures | refused, but for the previews of a camera's JPEG | the first |
| EXIF orientation | ignored, as torchvision's ImageFolder does | as the policy says |
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from bench.errors import UserError
from bench.foreign.bounds import MAX_PIXELS, regular

MODES = {1: "L", 3: "RGB"}  # of Pillow, by channels
# Decoders that stay in this process: that of PostScript starts another program, whatever a file is called.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
_ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")
_EIGHT = ("1", "L", "P", "RGB", "CMYK", "YCbCr", *_ALPHA)


@contextmanager
def open_picture(source: str | Path | bytes, name: str | Path) -> Iterator[Image.Image]:
    """A picture whose header was read, and whatever is done with it inside the block.

    Args:
        source: a file, or its content.
        name: of the file, for messages.

    Raises:
        UserError: no regular file, another format, too many pixels, or anything that a decoder raises at it.
    """
    content = source if isinstance(source, bytes) else None
    try:
        file = io.BytesIO(content) if content is not None else regular(Path(str(source)))
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{name} is {image.width}x{image.height} px; at most {MAX_PIXELS:,} pixels are read.")
            yield image
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise what comes: OSError, SyntaxError, struct.error, IndexError
        reason = str(error).partition("\n")[0] or type(error).__name__
        if "cannot identify image file" in reason:
            reason = "cannot identify image file"
        raise UserError(f"{name} cannot be read as an image: {reason}") from None


def read_levels(source: str | Path | bytes, name: str | Path, channels: int) -> Image.Image:
    """A picture as "L" (1 channel) or "RGB" (3), 8 bits each. Raises UserError for what would lose something.

    Args:
        source, name: as of `open_picture`.
        channels: of the result.
    """
    if channels not in MODES:
        raise UserError(f"{name}: image files have 1 or 3 channels, the data set has {channels}; hand in tensors.")
    with open_picture(source, name) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise UserError(f"{name} holds {image.n_frames} pictures; a file of a set holds one.")
        if image.mode.startswith("I;16") and not image.mode.endswith("S"):
            values = np.asarray(image).astype(np.uint32)
            levels = Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 is 255: the true range
            return levels.convert(MODES[channels])
        if image.mode not in _EIGHT:
            raise UserError(
                f"{name} has more than 8 bits a channel ({image.mode}), and its range is not known: save it with 8 "
                f"bits, or hand in the set as tensors."
            )
        if image.mode in _ALPHA or "transparency" in image.info:
            lowest = image.convert("RGBA").getchannel("A").getextrema()[0]
            if not isinstance(lowest, int | float) or lowest < 255:
                raise UserError(f"{name} has transparent pixels; put it on its background and save it without alpha.")
        return image.convert(MODES[channels])
