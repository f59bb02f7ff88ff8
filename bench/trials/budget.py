"""Label budgets: `30x` (a ratio against the reference), `20kB` or `500B` (bytes, decimal units)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from bench.errors import UserError
from bench.texts import cut

AUGMENTATION_BYTES = 25  # per stored row in the literature's format: 4 float32 crop, 1 flip, 1 int64 partner
UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_NUMBER = r"[0-9]{1,25}(?:\.[0-9]{1,25})?"  # not \d: digits of other scripts are read by some programs only


def reference_bytes(images: int, views: int, classes: int) -> int:
    """What `1x` is: fp16 logits plus 25 bytes of augmentation parameters for every one of images x views rows."""
    return images * views * (2 * classes + AUGMENTATION_BYTES)


@dataclass(frozen=True)
class Budget:
    """Either a ratio or a number of bytes, for the labels of one condensed set."""

    ratio: float | None = None
    size: int | None = None  # bytes

    @staticmethod
    def parse(text: str) -> Budget:
        """`30x`, `12.5x`, `20000`, `20kB`, `1.5MiB`. Raises UserError."""
        stripped = text.strip()
        if match := re.fullmatch(rf"({_NUMBER})\s*[xX]", stripped):
            ratio = float(match[1])
            if ratio < 1:
                raise UserError(f"Budget '{text}': a ratio is at least 1x (1x is fp16 logits and their parameters).")
            return Budget(ratio=ratio)
        if match := re.fullmatch(rf"({_NUMBER})\s*([A-Za-z]*)", stripped):
            unit = match[2] or "B"
            names = {name.lower(): factor for name, factor in UNITS.items()}
            if unit.lower() in names:
                size = int(Fraction(match[1]) * names[unit.lower()])  # exact: 1.001kB is 1001 bytes
                if size >= 1:
                    return Budget(size=size)
        raise UserError(
            f"Budget '{cut(text, 80)}' is neither a ratio such as 30x nor a size such as 20kB ({', '.join(UNITS)})."
        )

    def total_bytes(self, images: int, views: int, classes: int) -> int:
        """Bytes that all labels of the set may take, everything included."""
        if self.size is not None:
            return self.size
        assert self.ratio is not None
        return int(reference_bytes(images, views, classes) / self.ratio)

    def __str__(self) -> str:
        if self.size is not None:
            return f"{self.size}B"
        assert self.ratio is not None
        return f"{int(self.ratio) if self.ratio.is_integer() else self.ratio!r}x"  # never 1e+06x: it is parsed again
