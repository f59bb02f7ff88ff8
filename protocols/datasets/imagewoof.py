"""ImageWoof, ten breeds of dogs in ImageNet, photographs at 224x224: 9,025 train and 3,929 test images."""

from __future__ import annotations

from pathlib import Path

from bench.api import Dataset
from protocols.datasets._files import place
from protocols.datasets._trees import photographs

CITATION = "J. Howard: Imagewoof. fast.ai, 2019 (version 2, full size)."
CLASSES = {
    "n02086240": "Shih-Tzu",
    "n02087394": "Rhodesian ridgeback",
    "n02088364": "beagle",
    "n02089973": "English foxhound",
    "n02093754": "Border terrier",
    "n02096294": "Australian terrier",
    "n02099601": "golden retriever",
    "n02105641": "Old English sheepdog",
    "n02111889": "Samoyed",
    "n02115641": "dingo",
}


def load(root: Path, *, size: int = 224, resize: int = 256) -> Dataset:
    """The data set, as unpacked from imagewoof2.tgz (`condensebench data` says where).

    Args:
        root: cache folder, for digests.
        size: pixels of the images.
        resize: pixels of the shorter side before the centre is cut out.
    """
    return photographs("imagewoof", root, place("imagewoof")[0], CLASSES, size=size, resize=resize)
