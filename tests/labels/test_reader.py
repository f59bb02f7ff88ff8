"""The rows that a student asks for are those that the compressor decodes, in the memory that they take."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.api import SoftLabels
from bench.errors import PluginError
from bench.labels import reader as readers
from bench.labels.adapter import encode, fit, takes_shared
from bench.labels.label_file import LabelFile
from bench.labels.reader import EncodedLabels
from bench.plugins.registry import discover
from bench.views.parameters import Views
from tests.worlds.stored_labels import CLASSES, VIEWS, compressor, read_rows, recipe, soft, views_of


@pytest.mark.parametrize("name", ["none", "svd", "cur", "lpld"])
def test_rows_are_what_the_compressor_decodes(logits: torch.Tensor, name: str) -> None:
    from tests.worlds.fakes import digits_context

    module = discover().get("compressor", name).module
    blobs = [encode(module, soft(part), 20_000, digits_context(), b"") for part in logits[:60].split(25)]
    reader = EncodedLabels(LabelFile(views_of(60).to_bytes(), b"", tuple(blobs)), module, 60, name)
    assert len(reader.views) == VIEWS
    assert set(reader.available) <= set(range(VIEWS))
    for rows in ([int(reader.available[0])], [int(v) for v in reader.available[::-1]]):
        found = reader.rows(rows)
        assert found.shape == (60, len(rows), CLASSES)
        assert found.dtype == torch.float32
        whole = torch.cat([module.decode(blob) for blob in blobs])
        assert torch.equal(found, whole[:, rows] if whole.shape[1] == VIEWS else found)
        assert torch.equal(found, torch.cat([module.decode(blob, rows=rows) for blob in blobs]).float())
    if name == "none":
        assert torch.equal(reader.rows(range(VIEWS)), logits[:60].float())


@pytest.mark.parametrize("name", discover().names("compressor"))
def test_every_compressor_reads_blobs_that_are_mapped_from_a_file(
    logits: torch.Tensor, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing of them stays in memory."""
    from tests.worlds.fakes import digits_context

    module, ctx = discover().get("compressor", name).module, digits_context()
    stored = views_of(60)
    parts = [
        SoftLabels(part, torch.arange(len(part)) % CLASSES, stored, np.arange(start, start + len(part)))
        for start, part in zip((0, 25, 50), logits[:60].split(25), strict=True)
    ]
    shared = fit(module, parts[0], 60_000, ctx) if takes_shared(module) else b""
    blobs = [encode(module, part, 20_000, ctx, shared) for part in parts]
    for number, blob in enumerate(blobs):
        (tmp_path / str(number)).write_bytes(blob)
    mapped = [memoryview(np.memmap(tmp_path / str(number), np.uint8, "r")) for number in range(3)]
    monkeypatch.setattr(readers, "HELD", 0)
    plain, from_files = (
        EncodedLabels(LabelFile(stored.to_bytes(), shared, tuple(each)), module, 60, name) for each in (blobs, mapped)
    )
    assert np.array_equal(plain.available, from_files.available)
    assert plain.invalid == from_files.invalid
    assert plain.sizes() == from_files.sizes()
    rows = [int(plain.available[0]), int(plain.available[-1])]
    assert torch.equal(plain.rows(rows), from_files.rows(rows))


def test_decoded_rows_of_another_shape_are_refused(logits: torch.Tensor) -> None:
    blob = logits[:10].numpy().tobytes()
    everything = compressor(decode=lambda *_, **__: logits[:10])
    with pytest.raises(
        PluginError, match=r"decode\(blob, rows\) must return .*\[10, 2, C\]; it returned \[10, 6, 10\]"
    ):
        read_rows(everything, [blob], 10)
    with pytest.raises(PluginError, match=r"\[11, 2, C\]"):
        read_rows(compressor(), [blob], 11)


def test_shards_that_store_different_views_are_read_where_they_agree() -> None:
    uneven = compressor(rows=lambda blob: np.arange(len(blob)))
    reader = EncodedLabels(LabelFile(views_of(2).to_bytes(), b"", (b"aaa", b"bb")), uneven, 2, "uneven")
    assert reader.available.tolist() == [0, 1]


def test_shards_without_a_view_in_common_are_refused() -> None:
    apart = compressor(rows=lambda blob: np.array([blob[0] % 2]))
    with pytest.raises(PluginError, match="no stored view in common"):
        EncodedLabels(LabelFile(views_of(2).to_bytes(), b"", (b"a", b"b")), apart, 2, "apart")


def test_reading_one_view_takes_the_memory_of_one_view() -> None:
    n, k, c = 500, 100, 100  # 10 MB as float16
    module = discover().get("compressor", "none").module
    rng = np.random.default_rng(0)
    halves = rng.standard_normal((n, k, c), np.float32).astype(np.float16)
    many = Views(recipe(mix="none").augment, n, 8, mirror=False, batch=10, seed=1, count=k)
    blobs = tuple(
        module.encode(SoftLabels(torch.from_numpy(part), torch.zeros(100)), 0, None) for part in np.split(halves, 5)
    )
    reader = EncodedLabels(LabelFile(many.to_bytes(), b"", blobs), module, n, "none")
    tracemalloc.start()
    found = reader.rows([7])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(found[:, 0], torch.from_numpy(halves[:, 7]).float())
    assert peak < 0.2 * halves.nbytes
