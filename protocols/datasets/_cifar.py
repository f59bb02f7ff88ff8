"""CIFAR's formats: the binary version, and the Python version, whose pickles are read without running them."""

from __future__ import annotations

import io
import pickle
import pickletools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.api import Dataset
from bench.errors import UserError
from bench.sources import read_content
from protocols.datasets._files import Look, array_dataset, place

_PIXELS = 3 * 32 * 32


def load(name: str, look: Look, labels: bytes, label_bytes: int) -> Dataset:
    """A data set of CIFAR's batches.

    Args:
        name: of the data set.
        look: of its images.
        labels: the key of the class labels in the Python version.
        label_bytes: before the pixels of an image in the binary version; the last one is the class.
    """
    folder, layout = place(name)
    files = [folder / each for each in layout.needed if each != "meta"]
    read = partial(read_binary, name, label_bytes) if files[0].suffix else partial(read_python, name, labels)
    return array_dataset(look, folder, read, files[:-1], files[-1:])


def read_binary(name: str, label_bytes: int, *files: Path) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [N, 3, 32, 32], labels [N]) of .bin files: for each image its labels, then its pixels by channel."""
    record = label_bytes + _PIXELS
    batches = []
    for file in files:
        data = np.frombuffer(read_content(file), np.uint8)
        if not len(data) or len(data) % record:
            raise UserError(
                f"The data set '{name}' cannot be read from {file}: {len(data):,} bytes are no whole number of images "
                f"of {record:,} bytes. It was cut off, or belongs to another set."
            )
        batches.append(data.reshape(-1, record))
    rows = np.concatenate(batches)
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1]


def read_python(name: str, labels: bytes, *files: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same of the pickled batches: a dict with `data` (uint8 [n, 3072]) and lists of labels."""
    images, targets = [], []
    for file in files:
        try:
            batch = Inert(io.BytesIO(_checked(read_content(file))), encoding="bytes").load()
            images.append(_pixels(batch[b"data"]))
            targets.append(_classes(batch[labels]))
        except KeyError:
            held = ", ".join(key.decode(errors="replace") for key in batch if isinstance(key, bytes))
            raise UserError(
                f"The data set '{name}' cannot be read from {file}: it holds {held}, and no {labels.decode()}."
            ) from None
        except (UserError, MemoryError):
            raise
        except Exception as error:  # the reader of pickles raises what comes
            raise UserError(f"{file} is no batch of CIFAR's Python version: {error}") from None
    return np.concatenate(images).reshape(-1, 3, 32, 32), np.concatenate(targets)


class Inert(pickle.Unpickler):
    """A reader of pickles that runs nothing: whatever class or function a pickle names becomes a `Stand`."""

    def find_class(self, module: str, name: str) -> type[Stand]:  # noqa: ARG002 (pickle's signature)
        """Nothing is imported."""
        return Stand


class Stand:
    """What stands for an object that a pickle describes: its state, as plain values."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _checked(data: bytes) -> bytes:
    """The pickle itself. Raises ValueError where it numbers an object so high that the table of them would be large."""
    for _, argument, _ in pickletools.genops(data):
        if isinstance(argument, int) and not -(2**31) <= argument <= max(2**16, len(data)):
            raise ValueError(f"it holds the number {str(argument)[:40]}")
    return data


def _classes(labels: Any) -> np.ndarray:
    """int64 of a list of classes. Raises ValueError for anything else."""
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 2**16 for label in labels):
        raise ValueError("its labels are no list of classes")
    return np.array(labels, dtype=np.int64)


def _pixels(array: Stand) -> np.ndarray:
    """The pixels of a pickled numpy array, whose state is (version, shape, type, Fortran order, bytes)."""
    _, (count, width), kind, fortran, data = array.state
    if width != _PIXELS or kind.arguments[0] not in (b"u1", "u1") or fortran:
        raise ValueError(f"images [{count}, {width}] of type {kind.arguments[0]!r}")
    return np.frombuffer(data, np.uint8).reshape(count, width)
