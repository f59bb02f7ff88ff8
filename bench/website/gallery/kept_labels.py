"""The stored labels of condensed sets, as far as the store holds them: the teacher's logits, and each compressor's code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.artifacts.refs import DatasetRef, Workspace
from bench.artifacts.store import DamagedArtifact, Store, read
from bench.errors import UserError
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
    shards: tuple[Path, ...]

    @property
    def title(self) -> str:
        """As tables call it: `pq@30x`."""
        return self.compressor + (f"@{self.budget}" if self.budget else "")


@dataclass(frozen=True)
class KeptLabels:
    """The labels of one condensed set under one protocol."""

    protocol: str
    temperature: float  # of the student's loss
    views: Views
    raw: tuple[Path, ...]  # float16 logits of each shard; empty where the store keeps none
    codes: tuple[Code, ...]

    @cached_property
    def logits(self) -> np.ndarray | None:
        """float16 [images, views, C] of the teachers; None where the store keeps none."""
        parts = [read(path).arrays["logits"] for path in self.raw]
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class LabelIndex:
    """Which files of a store hold labels of some condensed sets."""

    def __init__(self, store: Store, addresses: Iterable[str]) -> None:
        wanted = set(addresses)
        self._codes = _by_set(store, "labels", wanted)
        self._raw = _by_set(store, "raw-labels", wanted)

    def of(self, address: str) -> list[KeptLabels]:
        """The labels of a set, by protocol."""
        groups: dict[tuple[str, float, bytes], dict[tuple[str, str | None, str], dict[int, Path]]] = {}
        teachers: dict[tuple[str, float, bytes], Any] = {}
        for path, inputs in self._codes.get(address, ()):
            try:
                views = read(path).arrays["views"].tobytes()
                protocol, recipe = inputs["protocol"]
                key = str(protocol), float(recipe["loss"]["temperature"]), views
                code = str(inputs["compressor"]), inputs["budget"], str(inputs["code"])
                groups.setdefault(key, {}).setdefault(code, {})[int(inputs["shard"])] = path
                teachers[key] = inputs["teachers"]
            except (DamagedArtifact, KeyError, TypeError, ValueError):
                continue  # of another version
        kept = []
        for (protocol, temperature, views), codes in groups.items():
            raw = self._logits(address, views, teachers[protocol, temperature, views])
            files = [Code(*code, tuple(parts[n] for n in sorted(parts))) for code, parts in codes.items()]
            with suppress(UserError):  # of another version
                kept.append(
                    KeptLabels(protocol, temperature, Views.from_bytes(views), raw, tuple(sorted(files, key=_order)))
                )
        return kept

    def _logits(self, address: str, views: bytes, teachers: Any) -> tuple[Path, ...]:
        parts = {
            int(inputs["shard"]): path
            for path, inputs in self._raw.get(address, ())
            if str(inputs.get("views", "")).encode() == views and inputs.get("teachers") == teachers
        }
        return tuple(parts[shard] for shard in sorted(parts)) if sorted(parts) == list(range(len(parts))) else ()


def _order(code: Code) -> tuple[bool, str, int, str]:
    """Without a budget first, then by name, shorter budgets before longer ones: 10x, 30x, 100x."""
    return code.budget is not None, code.compressor, len(code.budget or ""), code.budget or ""


def _by_set(store: Store, kind: str, wanted: set[str]) -> Mapping[str, list[tuple[Path, Mapping[str, Any]]]]:
    files: dict[str, list[tuple[Path, Mapping[str, Any]]]] = defaultdict(list)
    for path, inputs in store.kept(kind):
        if inputs.get("condensed") in wanted:
            files[inputs["condensed"]].append((path, inputs))
    return files


def decoded(
    ws: Workspace, code: Code, labels: KeptLabels, dataset: DatasetRef | None, images: np.ndarray, views: np.ndarray
) -> np.ndarray:
    """float32 [len(images), len(views), C]: what a student is given of some views; nan where a view is not stored.

    `dataset` is needed for the compressor of a plugin alone, which works in a process of its own.

    Raises:
        UserError: the compressor is not here, or what it decodes breaks the contract.
    """
    spec = parse(ws.registry, "compressor", code.compressor)
    parts = [read(path) for path in code.shards]
    file = LabelFile(
        parts[0].arrays["views"].tobytes(),
        parts[0].arrays["shared"].tobytes(),
        tuple(part.arrays["blob"].tobytes() for part in parts),
    )
    codec = (
        codec_of(ws, spec, dataset, None, ("decode", str(spec))) if dataset else nullcontext((spec.plugin.module, None))
    )
    with codec as (module, _):
        reader = EncodedLabels(file, module, labels.views.n, code.compressor)
        each = len(reader.views) // len(labels.views)  # numbers of the reader for one stored view
        there = np.isin(views, np.unique(np.asarray(reader.available) // each))
        if not there.any():
            raise UserError(f"{code.title} stores none of these views")
        rows = reader.rows([int(view) * each for view in views[there]])[images].numpy()
    shown = np.full((len(images), len(views), rows.shape[-1]), np.nan, np.float32)
    shown[:, there] = rows
    return shown
