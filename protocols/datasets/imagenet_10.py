"""ImageNet-10, IDC's 10 classes of ImageNet, photographs at 224x224: their train and validation images."""

from __future__ import annotations

from pathlib import Path

from bench.api import Dataset
from protocols.datasets._files import place
from protocols.datasets._published import IDC_100
from protocols.datasets._trees import photographs

NAME = "imagenet-10"
CITATION = (
    "J.-H. Kim et al.: Dataset Condensation via Efficient Synthetic-Data Parameterization (IDC). ICML 2022; "
    "O. Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge. IJCV 115(3), 2015."
)
CLASSES = {wnid: wnid for wnid in IDC_100[:10]}


def load(root: Path, *, size: int = 224, resize: int = 256) -> Dataset:
    """The data set, read from a tree of ILSVRC2012 or of these classes alone (`condensebench data` says where).

    Args:
        root: cache folder, for digests.
        size: pixels of the images.
        resize: pixels of the shorter side before the centre is cut out.
    """
    return photographs(NAME, root, place(NAME)[0], CLASSES, size=size, resize=resize)
