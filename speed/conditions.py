"""`klt` beside `svd` with int8 factors at equal bytes, on labels of other kinds: `python -m speed.conditions`.

Photographs that ship in packages (bench.studies.label_sets.photos): harder crops, nothing mixed in, fewer classes.
What all images share is counted as in a set of 10,000.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.api import SoftLabels
from bench.artifacts.store import Store
from bench.driver.defaults import default_store
from bench.labels.label_file import shard_sizes
from bench.plugins.registry import discover
from bench.plugins.spec import Spec, parse
from bench.studies.label_sets.label_sources import LabelSet
from bench.studies.label_sets.photos import AUGMENT, photo_labels
from bench.studies.label_sets.quality import Quality, qualities

BUDGETS = ("5x", "10x", "30x", "100x")
SET = 10_000  # images
HARDER = {"crop_scale": (0.08, 1.0)}  # as ImageNet training has it
UNMIXED = AUGMENT.model_copy(update={"mix": "none"})


class Fewer(LabelSet):
    """The logits of the first classes alone."""

    def __init__(self, labels: LabelSet, classes: int) -> None:
        n, k, _ = labels.shape
        self._labels = labels
        self.shape, self.views = (n, k, classes), labels.views
        self.name = f"{labels.name}, {classes} classes"
        self.sizes = shard_sizes(*self.shape)
        assert len(self.sizes) == 1

    def parts(self) -> Iterator[SoftLabels]:
        """One shard."""
        return (replace(part, logits=part.logits[..., : self.shape[2]]) for part in self._labels.parts())

    def context(self, spec: Spec) -> AbstractContextManager[Any]:
        """Of all classes."""
        return self._labels.context(spec)


def _told(quality: Quality) -> str:
    return f"{quality.kl20:.4f}" if quality.status == "ok" else quality.status


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m speed.conditions", description=__doc__.split("\n\n")[0])
    parser.add_argument("--store", type=Path, default=default_store(), help="keeps the logits")
    store = Store(parser.parse_args().store.resolve())
    registry = discover()
    usual = photo_labels(store)
    asked = [
        usual,
        photo_labels(store, augment=AUGMENT.model_copy(update=HARDER)),
        photo_labels(store, augment=UNMIXED),
        photo_labels(store, augment=UNMIXED.model_copy(update=HARDER)),
        *(Fewer(usual, classes) for classes in (200, 100, 10)),
    ]
    codes = [(parse(registry, "compressor", name), budget) for budget in BUDGETS for name in ("klt", "svd:factor=int8")]
    rows = []
    for labels in asked:
        found = [_told(quality) for quality in qualities(labels, codes, set_size=SET).qualities]
        rows.append([labels.name, *(", ".join(found[at : at + 2]) for at in range(0, len(found), 2))])
        print(rows[-1], flush=True)
    print(tabulate(rows, ["labels", *(f"{budget}: `klt`, `svd` int8" for budget in BUDGETS)], tablefmt="github"))


if __name__ == "__main__":
    main()
