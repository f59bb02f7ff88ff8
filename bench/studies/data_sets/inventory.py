"""Which data sets are on this machine, and whether one is what was published."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench.artifacts.opened import Data
from bench.driver.defaults import default_store
from bench.errors import UserError
from bench.places import absolute_path
from bench.plugins.registry import Plugin, Registry, discover
from bench.plugins.spec import Spec, parse
from bench.sources import FileList, FileSource
from protocols.datasets._arrays import read_digests
from protocols.datasets._published import SETS

MB = 1_000_000


def inventory() -> Iterator[str]:
    """A line for each data set, by name."""
    registry = discover()
    width = max(map(len, registry.names("dataset")))
    for plugin in registry.all("dataset"):
        yield f"{plugin.name:<{width}}  {_state(registry, plugin)}"


def _state(registry: Registry, plugin: Plugin) -> str:
    published = SETS.get(plugin.name)
    images = f"{published.images[0]:,} + {published.images[1]:,} images, " if published and published.images else ""
    try:
        dataset = _data(parse(registry, "dataset", plugin.name)).dataset
        files = dataset.files()
    except UserError:
        if published is None:
            return f"- {plugin.description}"
        if published.archives:
            return f"not found: condensebench data get {plugin.name}"
        return f"not found: condensebench data get {plugin.name} says how to get it"
    if dataset.folder is None:
        return "comes with the project"
    size = files.total_bytes if isinstance(files, FileList) else sum(os.path.getsize(file) for file in files)
    return f"{images}{size / MB:,.1f} MB in {dataset.folder}"


def compare(text: str) -> tuple[list[str], bool]:
    """What a data set holds beside what was released, and whether nothing differs. Both splits are read whole.

    Args:
        text: its spec.

    Raises:
        UserError: it is not here, or breaks a rule.
    """
    registry = discover()
    spec = parse(registry, "dataset", text)
    data = _data(spec)
    splits = {"train": data.dataset.train(), "test": data.dataset.test()}
    _ = data.train
    data.check_test(splits["test"])
    published = SETS.get(spec.name)
    counts = dict(zip(splits, published.images, strict=True)) if published and published.images else {}
    released: dict[str, dict[str, str]] = next(
        (
            each
            for name, each in read_digests()["datasets"].items()
            if str(parse(registry, "dataset", name)) == str(spec)
        ),
        {},
    )
    lines, same = [str(data.where())], True
    for split, source in splits.items():
        digest = source.content_digest() if isinstance(source, FileSource) else source.digest()
        remarks = []
        if split in counts and counts[split] != len(source):
            remarks.append(f"DIFFERS: published are {counts[split]:,} images")
        if split in released and released[split]["sha256"] != digest:
            remarks.append(f"DIFFERS: released is {released[split]['sha256'][:16]}")
        same = same and not remarks
        standing = (
            "as released" if split in released else "as many as published" if split in counts else "nothing released"
        )
        lines.append(f"{split:5} {len(source):9,} images  {digest[:16]}  {'; '.join(remarks) or standing}")
    return lines, same


def _data(spec: Spec) -> Data:
    return Data(spec, absolute_path(default_store()) / "datasets")
