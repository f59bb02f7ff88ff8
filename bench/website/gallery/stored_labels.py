"""The stored labels of condensed sets, as far as the store holds them: teachers' logits, and each compressor's code.

Of a set that was labelled in several shards, the first one is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bench.artifacts.refs import DatasetRef, Workspace
from bench.artifacts.store import DamagedArtifact, Store, read
from bench.errors import UserError
from bench.labels.kept_labels import RAW
from bench.labels.label_file import LabelFile
from bench.labels.reader import EncodedLabels
from bench.plugins.spec import parse
from bench.stages.foreign_codec import codec_of
from bench.views.parameters import Views

MOST_DECODED = 2**26  # bytes of labels that are decoded at once


@dataclass(frozen=True)
class Code:
    """The labels of one set as one compressor keeps them."""

    compressor: str
    budget: str | None
    made_by: str  # digest of the compressor's code
    path: Path

    @property
    def title(self) -> str:
        """As tables call it: `pq@30x`."""
        return self.compressor + (f"@{self.budget}" if self.budget else "")


@dataclass(frozen=True)
class StoredLabels:
    """The labels of one condensed set under one protocol."""

    protocol: str
    temperature: float  # of the student's loss
    views: Views
    raw: Path | None  # the teachers' logits; None where the store keeps none
    codes: tuple[Code, ...]

    @cached_property
    def logits(self) -> np.ndarray | None:
        """float16 [images, views, C] of the teachers, mapped; None where the store keeps none."""
        if self.raw is None:
            return None
        with suppress(DamagedArtifact, KeyError):
            return read(self.raw).arrays["logits"]
        return None


class LabelIndex:
    """Which files of a store hold labels of some condensed sets."""

    def __init__(self, store: Store, addresses: Iterable[str]) -> None:
        wanted = set(addresses)
        self._codes = _by_set(store, "labels", wanted)
        self._raw = _by_set(store, RAW, wanted)
        self._known: dict[str, list[StoredLabels]] = {}

    def of(self, address: str) -> list[StoredLabels]:
        """The labels of a set, by protocol."""
        if address not in self._known:
            self._known[address] = self._read(address)
        return self._known[address]

    def _read(self, address: str) -> list[StoredLabels]:
        groups: dict[tuple[str, float, bytes], dict[Code, Any]] = {}  # code -> teachers
        for path, inputs in self._codes.get(address, ()):
            with suppress(DamagedArtifact, KeyError, TypeError, ValueError):  # of another version
                views = read(path).arrays["views"].tobytes()
                protocol, recipe = inputs["protocol"]
                code = Code(str(inputs["compressor"]), inputs["budget"], str(inputs["code"]), path)
                key = str(protocol), float(recipe["loss"]["temperature"]), views
                groups.setdefault(key, {})[code] = inputs["teachers"]
        kept = []
        for (protocol, temperature, views), codes in groups.items():
            raw = self._logits(address, views, next(iter(codes.values())))
            with suppress(UserError):  # of another version
                order = tuple(sorted(codes, key=_order))
                kept.append(StoredLabels(protocol, temperature, Views.from_bytes(views), raw, order))
        return kept

    def _logits(self, address: str, views: bytes, teachers: Any) -> Path | None:
        for path, inputs in self._raw.get(address, ()):
            if str(inputs.get("views", "")).encode() == views and inputs.get("teachers") == teachers:
                return path
        return None


def _order(code: Code) -> tuple[bool, str, int, str]:
    """Without a budget first, then by name, shorter budgets before longer ones: 10x, 30x, 100x."""
    return code.budget is not None, code.compressor, len(code.budget or ""), code.budget or ""


def _by_set(store: Store, kind: str, wanted: set[str]) -> Mapping[str, list[tuple[Path, Mapping[str, Any]]]]:
    """The files of first shards, by the address of the condensed set."""
    files: dict[str, list[tuple[Path, Mapping[str, Any]]]] = defaultdict(list)
    for path, inputs in store.kept(kind):
        if inputs.get("condensed") in wanted and inputs.get("shard") == 0:
            files[inputs["condensed"]].append((path, inputs))
    return files


def decoded(
    ws: Workspace, code: Code, count: int, dataset: DatasetRef | None, images: np.ndarray, views: np.ndarray
) -> np.ndarray:
    """float32 [len(images), len(views), C]: what a student is given of some views; nan where a view is not stored.

    Args:
        ws: where the compressor is looked up.
        code: the labels.
        count: images that the code is of.
        dataset: for the compressor of a plugin, which works in a process of its own.
        images, views: int64, which ones are wanted.

    Raises:
        UserError: the compressor is not here, or what it decodes breaks the contract.
    """
    spec = parse(ws.registry, "compressor", code.compressor)
    arrays = read(code.path).arrays
    file = LabelFile(arrays["views"].tobytes(), arrays["shared"].tobytes(), (arrays["blob"].tobytes(),))
    codec: AbstractContextManager[tuple[ModuleType, Any]] = nullcontext((spec.plugin.module, None))
    if dataset is not None:
        codec = codec_of(ws, spec, dataset, None, ("decode", str(spec)))
    with codec as (module, _):
        reader = EncodedLabels(file, module, count, code.compressor)
        each = len(reader.views) // len(Views.from_bytes(file.views))  # numbers of the reader for one stored view
        there = np.isin(views, np.unique(np.asarray(reader.available) // each))
        if not there.any():
            raise UserError(f"{code.title} stores none of the first {len(views)} views.")
        rows = reader.rows([int(view) * each for view in views[there]])[images].numpy()
    shown = np.full((len(images), len(views), rows.shape[-1]), np.nan, np.float32)
    shown[:, there] = rows
    return shown
