"""SVHN, street view house numbers, 32x32 RGB, 10 classes: 73,257 train and 26,032 test images."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from bench.api import Dataset
from bench.errors import UserError
from protocols.datasets._files import Look, array_dataset, place
from protocols.datasets._matlab import read_arrays

CITATION = (
    "Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Y. Ng: Reading Digits in Natural Images with Unsupervised "
    "Feature Learning. NIPS Workshop on Deep Learning and Unsupervised Feature Learning, 2011."
)
LOOK = Look(tuple("0123456789"), 3, 32, False, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))


def load(root: Path) -> Dataset:
    """The data set of cropped digits, without `extra` (`condensebench data` says where its files are looked for).

    Args:
        root: cache folder, not used.
    """
    folder, layout = place("svhn")
    train, test = (folder / each for each in layout.needed)
    return array_dataset(LOOK, folder, read_mat, [train], [test])


def read_mat(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [N, 3, 32, 32], labels [N]) of a MATLAB file, where the digit 0 has the label 10."""
    try:
        content = read_arrays(file)
        images, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
    except (KeyError, ValueError, zlib.error) as error:
        raise UserError(f"{file} is no file of SVHN's cropped digits: {error}") from None
    if images.shape[:3] != (32, 32, 3) or images.dtype != np.uint8:
        raise UserError(f"{file} is no file of SVHN's cropped digits: X is {images.dtype} {list(images.shape)}.")
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), np.where(labels == 10, 0, labels)
