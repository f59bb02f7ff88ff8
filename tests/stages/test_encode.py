"""The stage that labels and encodes: its file stays within the budget, and a budget too small is told exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.artifacts.size_limits import KEEP_LABELS
from bench.artifacts.store import read
from bench.errors import InfeasibleError
from bench.labels import adapter, label_file
from bench.labels.label_file import LabelFile
from bench.labels.reader import EncodedLabels
from bench.plugins.registry import discover
from bench.protocol import definition
from bench.stages import isolation, label
from bench.stages.condense import condense
from bench.stages.encode import encode_labels
from bench.stages.teach import teach
from bench.trials.budget import Budget
from bench.trials.trial import Trial
from tests.worlds.plugins import write

# A mean row that all images share, and float16 differences of as many views as the budget holds.
SHARED_MEAN = '''
"""Differences to a mean row."""

import numpy as np
import torch

from bench.errors import InfeasibleError


def fit(labels, budget_bytes, ctx):
    return labels.logits.float().mean(dim=(0, 1)).numpy().astype(np.float16).tobytes()


def encode(labels, budget_bytes, ctx, shared=b""):
    n, k, c = labels.shape
    kept = min(k, budget_bytes // (2 * n * c))
    if kept < 1:
        raise InfeasibleError(2 * n * c, "one view of each image")
    mean = np.frombuffer(shared, np.float16).astype(np.float32)
    rest = labels.logits[:, :kept].float().numpy() - mean
    return rest.astype(np.float16).tobytes()


def rows(blob):
    return np.arange(2)


def decode(blob, rows=None, shared=b""):
    mean = np.frombuffer(shared, np.float16).astype(np.float32)
    views = np.frombuffer(blob, np.float16).reshape(-1, 2, len(mean)) + mean
    return torch.from_numpy(views if rows is None else views[:, rows])
'''


class Bench:
    """Random images of digits, encoded by a compressor within a budget."""

    def __init__(self, folder: Path) -> None:
        plugin = write(folder / "common_mean.py", SHARED_MEAN)
        self.ws = Workspace(folder / "store", discover([plugin]))
        self.dataset = describe(self.ws, "digits")
        self.teacher = teach(self.ws, "small-teacher-v1", self.dataset)
        self.condensed = condense(self.ws, "random", self.dataset, self.teacher, 2, 0)

    def encode(self, compressor: str, budget: str | None, shards: int = 1) -> LabelFile:
        trial = Trial("digits", "small-soft-v1", "random", 2, compressor, budget, "convnet", 0)
        refs = list[Any]()
        for shard in range(shards):
            first = refs[0] if shard else None
            refs += encode_labels(self.ws, trial, self.dataset, [self.teacher], self.condensed, [shard], first)
        parts = [read(self.ws.store.root / ref.address).arrays for ref in refs]
        assert len({part["shared"].tobytes() for part in parts}) == 1
        return LabelFile(
            parts[0]["views"].tobytes(), parts[0]["shared"].tobytes(), tuple(part["blob"].tobytes() for part in parts)
        )

    def read(self, compressor: str, file: LabelFile, views: list[int]) -> Any:
        module = self.ws.registry.get("compressor", compressor).module
        return EncodedLabels(file, module, self.condensed.images, compressor).rows(views)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(isolation, "_method_code_ran", False)  # put back afterwards: other tests open test splits
    return Bench(tmp_path)


@pytest.mark.parametrize("compressor", ["svd", "cur", "lpld"])
def test_the_smallest_size_in_the_message_is_feasible(bench: Bench, compressor: str) -> None:
    with pytest.raises(InfeasibleError) as caught:
        bench.encode(compressor, "100B")
    smallest = caught.value.smallest_bytes
    assert bench.encode(compressor, f"{smallest}B").sizes()["total"] <= smallest
    with pytest.raises(InfeasibleError) as again:
        bench.encode(compressor, f"{smallest - 1}B")
    assert again.value.smallest_bytes == smallest


@pytest.mark.parametrize("compressor", ["klt", "pq", "svd", "vq"])
def test_a_budget_below_the_parameters_of_the_views_is_infeasible_too(bench: Bench, compressor: str) -> None:
    found = []
    for budget in ("1B", "200B"):
        with pytest.raises(InfeasibleError) as caught:
            bench.encode(compressor, budget)
        found.append(caught.value.smallest_bytes)
    assert found[0] == found[1] > 140


@pytest.mark.parametrize("ratio", ["2x", "5x", "10x"])
def test_the_whole_file_stays_within_its_budget(bench: Bench, ratio: str) -> None:
    file = bench.encode("svd", ratio)
    fixed = definition.load(bench.ws.registry, "small-soft-v1").recipe(
        dataset="digits", ipc=2, student="convnet", classes=10
    )
    allowed = Budget.parse(ratio).total_bytes(20, fixed.views, 10)
    assert 0.8 * allowed < file.sizes()["total"] <= allowed


def test_a_shared_part_counts_once_and_shards_are_read_as_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_file, "shard_sizes", lambda *_: [7, 7, 6])
    budget = f"{2 * 2 * 20 * 10 + 300}B"  # two views of 20 images, and what little else there is
    with pytest.raises(InfeasibleError, match="one view of each image"):
        bench.encode("common_mean", "300B", shards=3)
    file = bench.encode("common_mean", budget, shards=3)
    assert len(file.shared) == 2 * 10
    assert [len(blob) for blob in file.blobs] == [2 * 2 * n * 10 for n in (7, 7, 6)]
    assert file.sizes()["total"] <= Budget.parse(budget).total_bytes(20, 100, 10)
    exact = bench.read("none", bench.encode("none", None, shards=3), [0, 1])
    found = bench.read("common_mean", file, [0, 1])
    assert found.shape == (20, 2, 10)
    assert float((found - exact).abs().max()) < 0.02


def test_what_shards_share_is_fitted_once_and_is_what_each_would_have_fitted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_file, "shard_sizes", lambda *_: [7, 7, 6])
    fitted: list[bytes] = []

    def counted(*arguments: Any, **parameters: Any) -> bytes:
        fitted.append(adapter.fit(*arguments, **parameters))
        return fitted[-1]

    monkeypatch.setattr(label, "fit", counted)
    file = bench.encode("common_mean", "10x", shards=3)
    assert fitted == [file.shared]
    assert bench.encode("common_mean", "5x", shards=3).shared == fitted[1]
    assert len(fitted) == 2  # another budget may be worth another shared part


@pytest.mark.parametrize("kept", ["1GB", "0"])
@pytest.mark.parametrize("sizes", [[20], [7, 7, 6]])
def test_several_shards_are_surveyed(
    bench: Bench, sizes: list[int], kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some views of all of them, whether raw labels are kept in the store or made anew; a single shard has them."""
    surveys: list[Any] = []

    def seen(module: Any, part: Any, allowance: int, ctx: Any, survey: Any, **parameters: Any) -> bytes:
        surveys.append(None if survey is None else [piece.logits for piece in survey([5, 2])])
        return adapter.fit(module, part, allowance, ctx, survey, **parameters)

    monkeypatch.setattr(label, "fit", seen)
    monkeypatch.setenv(KEEP_LABELS.variable, kept)
    monkeypatch.setattr(label_file, "shard_sizes", lambda *_: sizes)
    bench.encode("common_mean", "10x", shards=len(sizes))
    [survey] = surveys
    if len(sizes) == 1:
        assert survey is None
        return
    assert [len(piece) for piece in survey] == sizes
    exact = bench.read("none", bench.encode("none", None, shards=len(sizes)), [5, 2])
    assert torch.equal(torch.cat(survey).float(), exact)
