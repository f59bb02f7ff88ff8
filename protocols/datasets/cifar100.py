"""CIFAR-100, 32x32 RGB, 100 classes: 50,000 train and 10,000 test images."""

from __future__ import annotations

from pathlib import Path

from bench.api import Dataset
from protocols.datasets import _cifar
from protocols.datasets._files import Look

CITATION = "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images. University of Toronto, 2009."
CLASSES = tuple(
    """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
""".split()  # noqa: SIM905 (a block of words)
)


def load(root: Path) -> Dataset:
    """The data set with its fine labels, read from its binary or its Python version (`condensebench data` says where).

    Args:
        root: cache folder, not used.
    """
    look = Look(CLASSES, 3, 32, True, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    return _cifar.load("cifar100", look, b"fine_labels", label_bytes=2)
