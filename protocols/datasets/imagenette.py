"""ImageNette, ten easy classes of ImageNet, photographs at 224x224: 9,469 train and 3,925 test images."""

from __future__ import annotations

from pathlib import Path

from bench.api import Dataset
from protocols.datasets._files import place
from protocols.datasets._trees import photographs

CITATION = "J. Howard: Imagenette. fast.ai, 2019 (version 2, full size)."
CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def load(root: Path, *, size: int = 224, resize: int = 256) -> Dataset:
    """The data set, as unpacked from imagenette2.tgz (`condensebench data` says where).

    Args:
        root: cache folder, for digests.
        size: pixels of the images.
        resize: pixels of the shorter side before the centre is cut out.
    """
    return photographs("imagenette", root, place("imagenette")[0], CLASSES, size=size, resize=resize)
