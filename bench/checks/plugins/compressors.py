"""Conformance of compressors: what comes back, whole and row by row."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

import numpy as np
import torch

from bench.checks.plugins import sample_labels
from bench.checks.plugins.codec import Codec, Encoded, tried
from bench.checks.plugins.kit import Call, NotApplicable, Subject, error_text
from bench.labels.adapter import invalid
from bench.plugins.registry import Plugin
from bench.trials.budget import reference_bytes

PLENTY = 1 << 20  # bytes, many times what any of the label sets takes as float16
NEAR = 0.01  # error that bytes in plenty may leave, as a share of the squared norm


class CompressorSubject(Subject):
    """A compressor under check."""

    @contextmanager
    def call(self, replicate: int = 0) -> Iterator[Call]:
        """Encode the ordinary labels in a fifth of the reference, decode all views and then two of them."""
        given = sample_labels.labels(sample_labels.ordinary())
        with self.codec(replicate) as codec:

            def lent() -> Mapping[str, str]:
                return {
                    "the logits": _digest(given.logits.numpy().tobytes()),
                    "the images' classes": _digest(given.hard.numpy().tobytes()),
                }

            def run() -> str:
                encoded = codec.encode_near(given, reference_bytes(*sample_labels.SHAPE) // 5)
                whole, stored = codec.decode(encoded), codec.stored(encoded, sample_labels.SHAPE[1])
                some = codec.decode(encoded, stored[:2].tolist())
                parts = (
                    encoded.shared,
                    encoded.blob,
                    whole.numpy().tobytes(),
                    stored.tobytes(),
                    some.numpy().tobytes(),
                )
                return _digest(*parts)

            yield Call(codec.ctx, {"ctx": codec.ctx, "labels": given}, run, lent)

    @contextmanager
    def codec(self, replicate: int = 0) -> Iterator[Codec]:
        """The compressor with a context of its own."""
        with self.shop.context(self.shop.data("plain"), self.plugin.name, replicate) as ctx:
            yield Codec(self.plugin, ctx, self.spec.parameters)

    @property
    def takes_budget(self) -> bool:
        """False where the size does not depend on a budget."""
        return bool(self.plugin.constants.get("TAKES_BUDGET", True))


def what_comes_back_fits(subject: CompressorSubject) -> Iterator[str]:
    """Bytes, and from them a finite float tensor [images, stored views, classes]."""
    given = sample_labels.ordinary()
    with subject.codec() as codec:
        encoded = codec.encode(sample_labels.labels(given), PLENTY)
        for name, part in (("fit", encoded.shared), ("encode", encoded.blob)):
            if not isinstance(part, bytes):
                yield f"{name}(...) returns {type(part).__name__}, not bytes."
                return
        yield from misfits(codec, encoded, given.shape)


def plenty_of_bytes_give_the_labels_back(subject: CompressorSubject) -> Iterator[str]:
    """Each view in its own place, up to 1 % of the squared norm."""
    for spread in (0.6, 0.0):
        given = sample_labels.ordinary(spread)
        with subject.codec() as codec:
            encoded = codec.encode(sample_labels.labels(given), PLENTY)
            error = codec.error(encoded, given)
        if not error <= NEAR:
            yield (
                f"with {PLENTY} bytes for {given.nbytes} bytes of float16, the error of what comes back is "
                f"{100 * error:.3g} % of the squared norm; {100 * NEAR:.0f} % are allowed. Are the views in order?"
            )


def rows_are_those_of_the_whole(subject: CompressorSubject) -> Iterator[str]:
    """To the bit, in the order asked for, and repeated where asked for twice."""
    given = sample_labels.ordinary()
    with subject.codec() as codec:
        encoded = codec.encode_near(sample_labels.labels(given), given.nbytes // 2)
        whole, stored = codec.decode(encoded), codec.stored(encoded, given.shape[1])
        if len(whole[0]) != len(stored):
            yield f"decode(blob) gives {len(whole[0])} views; {len(stored)} are stored."
            return
        order = np.arange(len(stored))[::-1]
        for what, at in (("one view", order[:1]), ("views backwards", order), ("a view twice", order[[0, -1, 0]])):
            rows = stored[at].tolist()
            if not torch.equal(codec.decode(encoded, rows), whole[:, at.copy()]):
                yield f"{what}: decode(blob, rows={rows}) is not decode(blob)[:, rows]."
        for row in (-1, given.shape[1]):
            ended = tried(codec.decode, encoded, [row])
            if not isinstance(ended, Exception):
                yield f"decode(blob, rows=[{row}]) of {given.shape[1]} views gives something, not an error."


def stored_views_are_told(subject: CompressorSubject) -> Iterator[str]:
    """`rows(blob)`: int64, ascending, unique, views that there are; those that `decode` gives."""
    if "rows" not in subject.plugin.functions:
        raise NotApplicable("it defines no rows(blob), so it stores every view")
    given = sample_labels.ordinary()
    with subject.codec() as codec:
        encoded = codec.encode_near(sample_labels.labels(given), given.nbytes // 3)
        stored = np.asarray(subject.plugin.module.rows(encoded.blob))
        if stored.ndim != 1 or stored.dtype != np.int64 or not len(stored):
            yield f"rows(blob) must be an int64 array of at least one view; it is {stored.dtype} {stored.shape}."
        elif (np.diff(stored) <= 0).any() or stored[0] < 0 or stored[-1] >= given.shape[1]:
            yield f"rows(blob) must be ascending, unique and in 0..{given.shape[1] - 1}; it is {stored.tolist()}."
        else:
            for row in sorted({*range(given.shape[1])} - {*stored.tolist()})[:1]:
                if not isinstance(tried(codec.decode, encoded, [row]), Exception):
                    yield f"rows(blob) does not name view {row}, and yet decode(blob, rows=[{row}]) gives one."


def what_it_counts_is_a_count(subject: CompressorSubject) -> Iterator[str]:
    """`invalid(blob)`: two whole numbers, of values and of rows, no more than there are."""
    if "invalid" not in subject.plugin.functions:
        return
    given = sample_labels.ordinary()
    n, k, c = given.shape
    with subject.codec() as codec:
        encoded = codec.encode_near(sample_labels.labels(given), given.nbytes // 3)
        counts = tried(invalid, subject.plugin.module, encoded.blob)
        if counts is None or isinstance(counts, Exception):
            yield str(counts)
        elif counts[0] > n * k * c or counts[1] > n * k:
            yield f"invalid(blob) tells of {counts[0]} values and {counts[1]} rows; there are {n * k * c} and {n * k}."


def decodes_the_same_twice(subject: CompressorSubject) -> Iterator[str]:
    """To the bit, also after other rows were asked for, and by a module that has just been loaded."""
    given = sample_labels.ordinary()
    with subject.codec() as codec:
        encoded = codec.encode_near(sample_labels.labels(given), given.nbytes // 2)
        first = codec.decode(encoded)
        codec.decode(encoded, codec.stored(encoded, given.shape[1])[:1].tolist())
        if not torch.equal(first, codec.decode(encoded)):
            yield "decode(blob) gives other bits the second time."
        fresh = tried(codec.decode_by, _loaded_again(subject.plugin), encoded)
        if isinstance(fresh, Exception):
            yield f"in a process that did not encode it, the blob cannot be read: {error_text(fresh)}"
        elif not torch.equal(first, fresh):
            yield "in a process that did not encode it, the blob decodes to other values."


def misfits(codec: Codec, encoded: Encoded, shape: tuple[int, ...]) -> Iterator[str]:
    """What is wrong with the type, shape and range of what comes back of labels [n, K, C]."""
    decoded = codec.decode(encoded)
    if not isinstance(decoded, torch.Tensor) or not decoded.is_floating_point():
        yield f"decode(blob) must return a float tensor; not {getattr(decoded, 'dtype', type(decoded))}."
        return
    expected = [shape[0], len(codec.stored(encoded, shape[1])), shape[2]]
    if list(decoded.shape) != expected:
        yield f"decode(blob) must have the shape {expected}; it has {list(decoded.shape)}."
    if not torch.isfinite(decoded).all():
        yield "decode(blob) gives values that are not finite."


def _loaded_again(plugin: Plugin) -> ModuleType:
    """Another copy of the plugin's module: what encoding left in the first one is not there."""
    name = f"{plugin.module.__name__}_again"
    if plugin.module_name is None:
        return replace(plugin, name=f"{plugin.name}_again").module  # a file given by --plugin runs from its own text
    inside = [str(plugin.path.parent)] if plugin.path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, plugin.path, submodule_search_locations=inside)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does it: dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()
