"""What is known of a data set without opening it: its description, kept in the store, and the digest of its release."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from bench.artifacts import duplicates
from bench.artifacts.opened import Data
from bench.artifacts.refs import DatasetRef, Workspace
from bench.artifacts.tried import try_to_open
from bench.errors import UserError
from bench.fingerprint import digest
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.sources import FileList, FileSource, listing


def dataset_inputs(ws: Workspace, spec: str) -> dict[str, Any]:
    """What decides the content of a data set."""
    plugin = parse(ws.registry, "dataset", spec).plugin
    names = [each.name for each in fields(DatasetRef)]  # a store of an earlier version may hold less
    inputs = {"spec": spec, "code": plugin.digest, "packages": ws.packages, "told": names}
    files = ws.data(spec).dataset.files()
    if not files:
        return inputs
    return {**inputs, "files": files.digest if isinstance(files, FileList) else listing(files)}


def find_dataset(ws: Workspace, spec: str) -> DatasetRef | None:
    """The description, if `describe` has run here and the files that the data set is read from are here, unchanged."""
    try:
        artifact = ws.store.find("dataset", dataset_inputs(ws, spec))
    except Exception:  # its files are not here, or its `load` fails: whoever opens it tells why
        return None
    return None if artifact is None else DatasetRef(**artifact.meta["dataset"])


def describe(ws: Workspace, spec: str) -> DatasetRef:
    """Open a data set (drawing or unpacking it on first use), take its digest, and count what both splits share."""

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        data = ws.data(spec)
        if data.spec.plugin.foreign:
            try_to_open(data.spec, data.root, ws.limits, splits=True)
        d = data.dataset
        splits = data.digests()
        ref = DatasetRef(
            spec,
            _dataset_digest(data, splits),
            d.num_classes,
            d.channels,
            d.size,
            d.mirror,
            train_images=len(data.train),
            train_digest=splits["train"],
            test_digest=splits["test"],
            train_in_test=_train_in_test(data),
        )
        return {}, {"dataset": ref.__dict__}

    return DatasetRef(**ws.store.get("dataset", dataset_inputs(ws, spec), make).meta["dataset"])


def _train_in_test(data: Data) -> int:
    """Training images that equal a test image: by their files where both splits are files, else by their pixels."""
    train, test = data.dataset.train(), data.dataset.test()
    if isinstance(train, FileSource) and isinstance(test, FileSource):
        data.check_test(test)
        known = set(test.image_digests())
        return sum(each in known for each in train.image_digests())
    return duplicates.equal_count((images.numpy() for _, images in data.train.batches(1000)), data.test_images()[0])


def _dataset_digest(data: Data, splits: Mapping[str, str]) -> str:
    d = data.dataset
    return digest({**splits, "size": d.size, "mirror": d.mirror, "mean": d.mean, "std": d.std})


def released_dataset_digest(spec: str) -> str | None:
    """What DatasetRef.digest is where the data set is the one that this project released under this spec; None where it
    released none, or where the files are not here. Neither split is opened: their digests stand in
    protocols/datasets/digests.json.
    """
    from protocols.datasets._arrays import read_digests

    registry = discover(())
    if spec.partition(":")[0] not in registry.names("dataset"):
        return None
    parsed = parse(registry, "dataset", spec)
    for name, splits in read_digests()["datasets"].items():
        if str(parse(registry, "dataset", name)) == str(parsed):
            with tempfile.TemporaryDirectory() as nothing:
                data = Data(parsed, Path(nothing))
                try:
                    return _dataset_digest(data, {split: facts["sha256"] for split, facts in splits.items()})
                except UserError:  # its files are not on this machine
                    return None
    return None
