"""Blobs with a right checksum and wrong contents: a sentence for each, and no memory for what they claim."""

from __future__ import annotations

import json
import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.checks.plugins import sample_labels
from bench.checks.plugins.codec import Encoded, tried
from bench.checks.plugins.compressors import CompressorSubject
from bench.checks.plugins.workshop import workshop
from bench.errors import CorruptBlobError, UserError
from bench.labels.decode_memory import bounded_memory, refused
from bench.labels.label_file import LabelFile
from bench.labels.reader import EncodedLabels, claimed_shape, stored_views
from bench.plugins.registry import discover
from bench.protocol.recipe import Augment
from bench.trials.budget import reference_bytes
from bench.views.parameters import Views
from methods._codec.container import pack, unpack
from tests.worlds.stored_labels import compressor as small_compressor
from tests.worlds.stored_labels import views_of

N, K, C = sample_labels.SHAPE
VIEWS = Views(
    Augment(crop_scale=(0.5, 1), mix="cutmix", mix_unit="batch"), N, 8, mirror=False, batch=4, seed=0, count=K
)
REGISTRY = discover()
COMPRESSORS = REGISTRY.names("compressor")
TRIES = 25


def encoded(name: str) -> Encoded:
    given = sample_labels.labels(sample_labels.ordinary())
    with CompressorSubject(REGISTRY.get("compressor", name), workshop()).codec() as codec:
        return codec.encode_near(given, reference_bytes(N, K, C) // 3)


def opened(name: str, blob: bytes, shared: bytes) -> EncodedLabels:
    module = REGISTRY.get("compressor", name).module
    return EncodedLabels(LabelFile(VIEWS.to_bytes(), shared, (blob,)), module, N, name)


def read(name: str, blob: bytes, shared: bytes) -> None:
    reader = opened(name, blob, shared)
    reader.rows(reader.available[:2].tolist())


def repaired(blob: bytes) -> bytes:
    """With the checksum of what it holds now."""
    return blob[:3] + struct.pack("<I", zlib.crc32(blob[7:])) + blob[7:]


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_blob_with_a_right_checksum_and_wrong_contents_ends_in_one_sentence(name: str) -> None:
    whole = encoded(name)
    read(name, whole.blob, whole.shared)
    rng, refused = np.random.default_rng(len(name)), 0
    for _ in range(TRIES):
        blob = bytearray(whole.blob)
        for place in rng.integers(7, min(len(blob), 7 + int(rng.choice([40, 10**9]))), rng.integers(1, 4)):
            blob[place] = rng.integers(256)
        error = tried(read, name, repaired(bytes(blob)), whole.shared)
        assert error is None or isinstance(error, UserError)
        assert "\n" not in str(error)
        refused += isinstance(error, CorruptBlobError)
    assert refused


@pytest.mark.parametrize("shape", [(2**36, K, C), (N, 2**36, C), (N, K, 2**36), (N - 1, K, C), (N, K + 1, C)])
def test_a_claimed_shape_is_refused_before_memory_is_asked_for(shape: tuple[int, int, int]) -> None:
    whole = encoded("none")
    assert claimed_shape(whole.blob) == (N, K, C)
    from bench import varint

    before, after = (b"".join(varint.encode(each) for each in numbers) for numbers in ((N, K, C), shape))
    blob = repaired(whole.blob.replace(before, after, 1))
    assert claimed_shape(blob) == shape
    tracemalloc.start()
    with pytest.raises(CorruptBlobError, match="the labels say they are of"):
        opened("none", blob, b"")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", N - 1), ("n", 2**40), ("count", 0), ("count", 10**400), ("size", 0), ("batch", 0), ("seed", -1)],
)
def test_views_that_no_set_has_are_refused_before_they_are_drawn(field: str, value: int) -> None:
    spec = {**json.loads(VIEWS.to_bytes()), field: value}
    with pytest.raises(CorruptBlobError, match="stored augmentation parameters: "):
        stored_views(json.dumps(spec).encode(), N)
    assert stored_views(VIEWS.to_bytes(), N).to_bytes() == VIEWS.to_bytes()
    with pytest.raises(UserError, match="cannot be read"):
        stored_views(b"[" * 100_000, N)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is bounded on Linux")
def test_counts_that_no_set_has_take_no_memory() -> None:
    """Sixteen million sparse entries in every row: their places alone would take gigabytes."""
    blob = unpack(encoded("rpca").blob, "rpca")
    wide = np.frombuffer(bytes([0]) + (24 << 5).to_bytes(4, "little"), np.uint8)  # counts of 24 bits
    forged = pack("rpca", blob.shape, {**blob.sections, "p": wide, "c": np.full(3 * N * K, 255, np.uint8)})
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(CorruptBlobError, match=r"compressor 'rpca' asks for [\d,]+ bytes to decode the labels"):
        read("rpca", forged, b"")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_memory_is_bounded_only_as_long_as_something_is_decoded() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounded_memory(2**29):
        within = resource.getrlimit(resource.RLIMIT_DATA)
        with bounded_memory(2**20):
            assert resource.getrlimit(resource.RLIMIT_DATA) == within
        with pytest.raises(MemoryError) as error:
            np.zeros(2**28)
        assert refused(error.value, 2**29) == 2**31
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert within[0] != before[0]
    assert refused(MemoryError(), 2**29) is None


def test_the_header_may_be_cut_anywhere() -> None:
    whole = encoded("svd")
    for length in range(len(whole.blob) - 1):
        with pytest.raises(CorruptBlobError):
            read("svd", whole.blob[:length], whole.shared)


def raising(error: Exception) -> Callable[..., None]:
    def decode(blob: bytes, rows: object = None) -> None:
        raise error

    return decode


@pytest.mark.parametrize("error", [KeyError("scale"), IndexError(), ZeroDivisionError("by zero"), AssertionError()])
def test_a_compressors_own_error_stays_as_the_cause(error: Exception) -> None:
    reader = EncodedLabels(
        LabelFile(views_of(2).to_bytes(), b"", (b"x",)), small_compressor(decode=raising(error)), 2, "mine"
    )
    with pytest.raises(
        CorruptBlobError, match=f"compressor 'mine' cannot decode the labels .{type(error).__name__}"
    ) as seen:
        reader.rows([0])
    assert seen.value.__cause__ is error


def test_a_machine_without_memory_is_no_damage() -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        module = small_compressor(decode=raising(error))
        reader = EncodedLabels(LabelFile(views_of(2).to_bytes(), b"", (b"x",)), module, 2, "mine")
        with pytest.raises(type(error)) as seen:
            reader.rows([0])
        assert seen.value is error
