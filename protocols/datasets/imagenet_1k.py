"""ImageNet-1K (ILSVRC2012), photographs at 224x224, 1,000 classes: 1,281,167 train and 50,000 validation images."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from bench.api import Dataset
from protocols.datasets._files import place
from protocols.datasets._trees import photographs

NAME = "imagenet-1k"
CITATION = "O. Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge. IJCV 115(3), 2015."


def load(root: Path, *, size: int = 224, resize: int = 256) -> Dataset:
    """The data set, read from train/WNID/ and val/WNID/ (`condensebench data` says where). The classes are in the order
    of their ids, which published networks have.

    Args:
        root: cache folder, for digests.
        size: pixels of the images.
        resize: pixels of the shorter side before the centre is cut out.
    """
    folder, _ = place(NAME)
    wnids = files("timm.data").joinpath("_info/imagenet_synsets.txt").read_text(encoding="utf-8").split()
    return photographs(NAME, root, folder, {wnid: wnid for wnid in sorted(wnids)}, size=size, resize=resize)
