"""How the literature stores soft labels, in bytes: payload, metadata, container, and what a file system gives them.

Sizes of torch.save files were measured (tests/studies/test_label_formats.py measures them again): a zip archive with a
header of a few hundred bytes for every tensor, each aligned to 64 bytes; releases of torch differ by a few hundred
bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BLOCK = 4096  # bytes that a file system gives out at the least
Dtype = Literal["fp16", "fp32"]
BYTES: dict[str, int] = {"fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class Layout:
    """One way to store the labels of N images x K views x C classes."""

    name: str
    source: str
    metadata: int  # bytes of augmentation parameters per image and view
    values: Literal["classes", "topk"] = "classes"  # numbers per image and view: C, or k values with their classes
    value_bytes: int | None = None  # of one value (with its class); None: of the dtype asked for
    per: Literal["nothing", "batch", "image"] = "nothing"  # what a file holds; "nothing": one stream, no container
    container: int = 0  # bytes a file takes beside values and metadata

    def row_bytes(self, classes: int, dtype: Dtype, topk: int) -> int:
        """Bytes of the values of one image and view."""
        if self.values == "classes":
            return classes * (self.value_bytes or BYTES[dtype])
        return topk * (self.value_bytes or 2 * BYTES[dtype])


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("raw", "SCORE (arXiv 2503.13935): values alone, counted in fp32", 0),
        Layout(
            "reference",
            "this project's 1x: fp16 logits, 25 B of augmentation parameters a row, no container",
            25,
            value_bytes=2,
        ),
        Layout(
            "sre2l",
            "SRe2L, CDA, LPLD (arXiv 2306.13092, 2311.18838, 2410.15919): a torch.save file a batch, with CutMix: crop "
            "4 x fp32, flip, partner int64",
            25,
            per="batch",
            container=2407,
        ),
        Layout("sre2l-unmixed", "the same without CutMix", 17, per="batch", container=2090),
        Layout(
            "lpqld",
            "LPQLD: a file a batch, the k largest logits fp16 and their classes int16, crop 4 x fp16, flip, partner "
            "uint8",
            10,
            values="topk",
            value_bytes=4,
            per="batch",
            container=2849,
        ),
        Layout(
            "fkd",
            "FKD (arXiv 2112.01528): a file an image, the k largest probabilities and their classes as floats, crop "
            "4 x fp32, flip",
            17,
            values="topk",
            per="image",
            container=2006,
        ),
    )
}


@dataclass(frozen=True)
class Stored:
    """Bytes of a label set."""

    payload: int
    metadata: int
    container: int
    files: int
    on_disk: int  # every file in whole blocks of 4 KiB; the logical size where there are no files

    @property
    def total(self) -> int:
        """Logical bytes: the sum of the file sizes."""
        return self.payload + self.metadata + self.container


def stored(
    layout: Layout,
    *,
    images: int,
    views: int,
    classes: int,
    dtype: Dtype = "fp16",
    batch: int = 1024,
    topk: int = 10,
    share: float = 1.0,
) -> Stored:
    """What a layout takes.

    Args:
        layout: one of `LAYOUTS`.
        images, views, classes: N, K, C.
        dtype: of the values, where the layout leaves it open.
        batch: images per file of the layouts by batch; the last file of a view is smaller.
        topk: k, where the layout stores the largest values only.
        share: of the batches that are kept, rounded down (LPLD keeps 1 - r of them); only for layouts by batch.
    """
    row = layout.row_bytes(classes, dtype, topk)
    if layout.per == "batch":
        sizes = [(batch, images // batch)] + ([(images % batch, 1)] if images % batch else [])
        counts = [(rows, views * n) for rows, n in sizes]
    elif layout.per == "image":
        counts = [(views, images)]
    else:
        counts = [(images * views, 1)]
    scale = 1.0
    if share < 1:
        files = sum(n for _, n in counts)
        scale = math.floor(share * files + 1e-9) / files

    def total(size: Callable[[int], int]) -> int:
        return round(scale * sum(n * size(rows) for rows, n in counts))

    def logical(rows: int) -> int:
        return rows * (row + layout.metadata) + layout.container

    return Stored(
        payload=total(lambda rows: rows * row),
        metadata=total(lambda rows: rows * layout.metadata),
        container=total(lambda _: layout.container),
        files=total(lambda _: 1) if layout.per != "nothing" else 0,
        on_disk=total(logical if layout.per == "nothing" else lambda rows: -(-logical(rows) // BLOCK) * BLOCK),
    )
