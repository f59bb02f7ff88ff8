"""The storage figures that the literature prints, and the formula that gives each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.studies.storage.formats import LAYOUTS, Dtype, Layout, stored

UNITS = {
    "GB": 1e9,
    "GiB": 2.0**30,
    "MB": 1e6,
    "TB": 1e12,
    "TiB": 2.0**40,
    "1e6 KiB": 1024e6,
}


@dataclass(frozen=True)
class Claim:
    """One printed figure and our account of it."""

    source: str
    what: str
    printed: float
    printed_unit: str
    formula: str
    size: Callable[[], float]  # bytes
    unit: str  # the unit in which the formula gives the printed figure
    remark: str = ""

    @property
    def computed(self) -> float:
        """In `unit`."""
        return self.size() / UNITS[self.unit]

    @property
    def off(self) -> float:
        """Relative difference of the computed figure from the printed one."""
        return self.computed / self.printed - 1


def _disk(
    layout: str | Layout, images: int, views: int, classes: int, *, batch: int, topk: int = 10, share: float = 1.0
) -> Callable[[], float]:
    chosen = LAYOUTS[layout] if isinstance(layout, str) else layout
    return lambda: float(
        stored(chosen, images=images, views=views, classes=classes, batch=batch, topk=topk, share=share).on_disk
    )


def _raw(images: int, views: int, classes: int, dtype: Dtype) -> Callable[[], float]:
    return lambda: float(stored(LAYOUTS["raw"], images=images, views=views, classes=classes, dtype=dtype).total)


# Older releases of torch wrote smaller archives; fitted to LPLD's figures, which no present release reproduces.
_OLD_UNMIXED = replace(LAYOUTS["sre2l-unmixed"], container=1969)
_IPC = ((10, 5.67), (20, 11.33), (50, 28.33), (100, 56.66), (200, 113.33))

CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(
            "SRe2L, LPLD, Rethinking" if ipc == 10 else "SRe2L, LPLD",
            f"labels, ImageNet-1K, IPC {ipc}",
            printed,
            "GB",
            f"fp16 + 25 B a row + container, batch 1024, K = 300, n = {1000 * ipc:,}, blocks of 4 KiB",
            _disk("sre2l", 1000 * ipc, 300, 1000, batch=1024),
            "GiB",
            "printed as GB, is GiB",
        )
        for ipc, printed in _IPC
    ),
    Claim(
        "LPLD", "labels at 40x, ImageNet-1K, IPC 10", 0.14, "GB",
        "1/40 of the batches (r = 0.975) of the IPC 10 figure",
        _disk("sre2l", 10_000, 300, 1000, batch=1024, share=0.025), "GiB", "printed as GB, is GiB",
    ),
    Claim(
        "LPLD", "labels, Tiny ImageNet, IPC 50", 449, "MB",
        "fp16 + 17 B a row + container, batch 64, K = 100, C = 200, blocks of 4 KiB",
        _disk(_OLD_UNMIXED, 10_000, 100, 200, batch=64), "MB", "decimal MB here; container of 1,969 B is fitted",
    ),
    Claim(
        "LPLD", "labels, Tiny ImageNet, IPC 100", 898, "MB",
        "as for IPC 50, n = 20,000",
        _disk(_OLD_UNMIXED, 20_000, 100, 200, batch=64), "MB", "decimal MB here; container of 1,969 B is fitted",
    ),
    Claim(
        "LPLD", "labels, ImageNet-21K-P, IPC 10", 643, "GB",
        "fp16 + 17 B a row + container, batch 32, K = 300, C = 10,450, blocks of 4 KiB",
        _disk(_OLD_UNMIXED, 104_500, 300, 10_450, batch=32), "1e6 KiB", "a guess: no GB or GiB gives it",
    ),
    Claim(
        "LPLD", "labels, ImageNet-21K-P, IPC 20", 1286, "GB",
        "as for IPC 10, n = 209,000",
        _disk(_OLD_UNMIXED, 209_000, 300, 10_450, batch=32), "1e6 KiB", "a guess: no GB or GiB gives it",
    ),
    Claim(
        "Rethinking", "labels, ImageNet-21K-P, IPC 20", 1.2, "TB",
        "fp16 values alone, K = 300, n = 209,000", _raw(209_000, 300, 10_450, "fp16"), "TiB",
        "printed as \"over 1.2 TB\"; 1.31 TB",
    ),
    Claim(
        "Rethinking", "images, ImageNet-1K, IPC 10", 0.15, "GB",
        "JPEG files of 15 kB, n = 10,000", lambda: 10_000 * 15e3, "GB", "the mean file size is fitted",
    ),
    Claim(
        "SCORE", "labels, ImageNet-1K, IPC 50", 55.9, "GB",
        "fp32 values alone, K = 300, n = 50,000", _raw(50_000, 300, 1000, "fp32"), "GiB",
        "printed as GB, is GiB; twice LPLD's for the same labels",
    ),
    Claim(
        "SCORE", "labels at 30x, ImageNet-1K, IPC 50", 1.9, "GB",
        "1/30 of the fp32 values", lambda: _raw(50_000, 300, 1000, "fp32")() / 30, "GiB", "printed as GB, is GiB",
    ),
    Claim(
        "SCORE", "labels, ImageNet-1K, IPC 200", 200, "GB",
        "fp32 values alone, K = 300, n = 200,000", _raw(200_000, 300, 1000, "fp32"), "GiB",
        "printed as \"about 200 GB\"; LPLD prints 113 for the same labels",
    ),
    Claim(
        "SCORE", "images, ImageNet-1K, IPC 50", 9, "GB",
        "uint8 pixels 256 x 256 x 3, n = 50,000", lambda: 50_000 * 256 * 256 * 3.0, "GiB",
        "printed as \"about 9 GB\"; JPEG files of 224 px take 0.75 GB",
    ),
    *(
        Claim(
            "LPQLD", f"labels, MR-{k} of 10 % of the batches, ImageNet-1K, IPC 10", printed, "GB",
            f"4 k + 10 B a row + container, k = {k}, batch 128, blocks of 4 KiB",
            _disk("lpqld", 10_000, 300, 1000, batch=128, topk=k, share=0.1), "GB",
        )
        for k, printed in ((100, 0.13), (50, 0.07), (10, 0.03))
    ),
)  # fmt: skip
