"""Conformance of data sets: no image in both splits, types and ranges, and content that stays what was released."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.api import Dataset, ImageSource
from bench.checks.plugins.kit import Call, NotApplicable, Subject
from bench.checks.plugins.workshop import Workshop
from bench.places import NotHere
from bench.plugins.registry import ROOT, Plugin, Registry
from bench.plugins.spec import Spec, parse
from bench.sources import FileSource

AT_ONCE = 1024  # images read at a time
RELEASED = ROOT / "protocols" / "datasets" / "digests.json"


class DatasetSubject(Subject):
    """A data set under check, with its default parameters, in a cache folder of its own."""

    def __init__(self, plugin: Plugin, shop: Workshop) -> None:
        super().__init__(plugin, shop)
        self.folder = tempfile.TemporaryDirectory(prefix="condensebench-dataset-")  # goes away with the subject

    @cached_property
    def dataset(self) -> Dataset:
        """Loaded once for all checks."""
        return self.load()

    def load(self) -> Dataset:
        """Loaded anew. Raises NotApplicable where its files are not on this machine."""
        try:
            dataset: Dataset = self.plugin.module.load(Path(self.folder.name), **self.spec.parameters)
        except NotHere as error:
            raise NotApplicable(str(error)) from None
        return dataset

    @property
    def splits(self) -> Iterator[tuple[str, ImageSource]]:
        """("train", source), ("test", source)."""
        yield "train", self.dataset.train()
        yield "test", self.dataset.test()

    @contextmanager
    def call(self, replicate: int = 0) -> Iterator[Call]:
        """Load it and read an image of each split."""
        with self.shop.context(self.shop.data("plain"), self.plugin.name, replicate) as ctx:

            def run() -> str:
                loaded = self.load()
                sources = (loaded.train(), loaded.test())
                return " ".join(f"{s.digest()} {s.read(np.array([0])).tobytes().hex()}" for s in sources)

            yield Call(ctx, {}, run, dict)


def says_what_it_is(subject: DatasetSubject) -> Iterator[str]:
    """`load` returns a Dataset whose numbers go together."""
    d = subject.dataset
    if not isinstance(d, Dataset):
        yield f"load(...) must return bench.api.Dataset; it returns {type(d).__name__}."
        return
    if d.num_classes < 1 or d.channels < 1 or d.size < 1:
        yield f"num_classes, channels and size must be at least 1; they are {d.num_classes}, {d.channels}, {d.size}."
    elif d.source_size < d.size:
        yield f"source_size must be at least size; they are {d.source_size} and {d.size}."
    if len(d.mean) != d.channels or len(d.std) != d.channels:
        yield f"mean and std must have a value for each of {d.channels} channels; not {len(d.mean)}, {len(d.std)}."
    elif not all(0 <= m <= 1 for m in d.mean) or not all(0 < s <= 1 for s in d.std):
        yield f"mean and std must lie in [0, 1], and no std be 0; they are {d.mean} and {d.std}."
    if d.class_names and len(d.class_names) != d.num_classes:
        yield f"class_names has {len(d.class_names)} names for {d.num_classes} classes."


def labels_are_classes(subject: DatasetSubject) -> Iterator[str]:
    """int64, one for each image, in range, and every class occurs in both splits."""
    classes = subject.dataset.num_classes
    for split, source in subject.splits:
        labels = source.labels
        if not isinstance(labels, np.ndarray) or labels.dtype != np.int64 or labels.shape != (len(source),):
            yield f"{split}: labels must be an int64 array [{len(source)}]; they are {_what(labels)}."
        elif len(labels) and (labels.min() < 0 or labels.max() >= classes):
            yield f"{split}: labels must lie in 0..{classes - 1}; they lie in {labels.min()}..{labels.max()}."
        elif missing := sorted(set(range(classes)) - set(labels.tolist())):
            yield f"{split}: class {missing[0]} has no images ({len(missing)} classes have none)."


def images_have_the_size_announced(subject: DatasetSubject) -> Iterator[str]:
    """uint8 [n, channels, s, s], s = source_size (test: or size), in the order asked for, repeats allowed, copies."""
    d = subject.dataset
    for split, source in subject.splits:
        last = len(source) - 1
        images = source.read(np.array([last, 0, last]))
        side = d.size if split == "test" and np.shape(images)[-1:] == (d.size,) else d.source_size
        expected = (3, d.channels, side, side)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != expected:
            yield f"{split}: read(...) must give uint8 {list(expected)}; it gives {_what(images)}."
            continue
        if (images[0] != images[2]).any() or (images[1] != source.read(np.array([0]))[0]).any():
            yield f"{split}: read([last, 0, last]) does not give the images in the order asked for."
        images = source.read(np.arange(min(2, len(source))))
        kept = images.copy()
        images[:] = 255 - images
        if (source.read(np.arange(min(2, len(source)))) != kept).any():
            yield f"{split}: writing to what read(...) gave changes the data set. Return a copy."


def splits_are_disjoint(subject: DatasetSubject) -> Iterator[str]:
    """No test image is also a training image."""
    seen = set(_images(subject.dataset.train()))
    twice = [index for index, image in enumerate(_images(subject.dataset.test())) if image in seen]
    if twice:
        yield f"{len(twice)} test images are training images too; the first is test image {twice[0]}."


def digest_is_stable(subject: DatasetSubject) -> Iterator[str]:
    """The same content at every load, and a digest that tells the splits apart."""
    again = subject.load()
    for split, first, second in zip(("train", "test"), subject.splits, (again.train(), again.test()), strict=True):
        if first[1].digest() != second.digest():
            yield f"{split}: two loads give different digests."
    if subject.dataset.train().digest() == subject.dataset.test().digest():
        yield "both splits have the same digest."


def digest_is_the_released_one(subject: DatasetSubject) -> Iterator[str]:
    """Data sets of this project are what protocols/datasets/digests.json says."""
    released = json.loads(RELEASED.read_text(encoding="utf-8"))["datasets"]
    registry = Registry([subject.plugin])
    specs = [text for text in released if text.partition(":")[0] == subject.plugin.name]
    named = [text for text in specs if _same(registry, text, subject.spec)]
    if not (subject.plugin.module_name or "").startswith("protocols.") or not named:
        raise NotApplicable("no digest of it was released")
    for split, source in subject.splits:
        if source.digest() != released[named[0]][split]["sha256"]:
            yield (
                f"{split}: the digest {source.digest()[:16]} is not the released one "
                f"({released[named[0]][split]['sha256'][:16]}); `python -m protocols.datasets` tells more."
            )


def _same(registry: Registry, text: str, spec: Spec) -> bool:
    return parse(registry, "dataset", text).parameters == spec.parameters


def _images(source: ImageSource) -> Iterator[bytes]:
    if isinstance(source, FileSource):
        yield from source.image_digests()
        return
    for start in range(0, len(source), AT_ONCE):
        yield from (image.tobytes() for image in source.read(np.arange(start, min(start + AT_ONCE, len(source)))))


def _what(value: Any) -> str:
    return f"{getattr(value, 'dtype', type(value).__name__)} {list(np.shape(value))}"
