"""Soft labels: what the teacher says of each view, shard by shard, and the rows read back from their encoding."""

from __future__ import annotations

import tracemalloc
import types
from typing import Any

import numpy as np
import pytest
import torch

from bench.api import SoftLabels
from bench.errors import InfeasibleError, PluginError
from bench.labels import labels
from bench.labels.label_file import LabelFile
from bench.labels.labels import EncodedLabels, encode, fit, label_views, takes_shared, teacher_logits
from bench.plugins.registry import discover
from bench.protocol.recipe import Recipe
from bench.teachers.ensemble import Ensemble, Member
from bench.views.parameters import Views
from bench.views.render import render
from tests.worlds.fakes import digits, trained_teacher

MEAN, STD = (0.3,), (0.35,)
VIEWS, CLASSES = 6, 10


def recipe(**augment: Any) -> Recipe:
    kept = {"crop_scale": (0.4, 1.0), "mix": "cutmix", **augment}
    return Recipe.model_validate(
        {"labels": "stored", "views": VIEWS, "epochs": 1, "batch": 10, "loss": {"name": "kl"}, "augment": kept}
    )


def views_of(images: int, **augment: Any) -> Views:
    return label_views(recipe(**augment), images, protocol="p", dataset="digits", size=8, mirror=True)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return digits().images(np.arange(270))  # more than one batch of the teacher


@pytest.fixture(scope="module")
def logits(images: torch.Tensor) -> torch.Tensor:
    return say(images, views_of(len(images)), np.arange(len(images)))


def say(images: torch.Tensor, views: Views, indices: np.ndarray) -> torch.Tensor:
    return teacher_logits(Ensemble([Member(trained_teacher(), MEAN, STD)]), images, views, indices)


# --- made by the teacher ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
def test_logits_are_those_of_each_image_in_each_view(images: torch.Tensor, mix: str) -> None:
    views = views_of(len(images), mix=mix)
    chosen = np.array([0, 3, 251, 269])
    found = say(images, views, chosen)
    assert found.shape == (4, VIEWS, CLASSES)
    assert found.dtype == torch.float16
    for row, index in enumerate(chosen):
        for column, view in enumerate(views):
            shown = render(images, view, np.array([index]), mean=MEAN, std=STD)
            with torch.no_grad():
                alone = trained_teacher()(shown)[0]
            torch.testing.assert_close(found[row, column].float(), alone, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("limit", [1, 40, 270])
def test_shards_together_are_the_whole(
    images: torch.Tensor, logits: torch.Tensor, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = min(len(images), 20 * limit)
    per_image = VIEWS * CLASSES * 2
    sizes = labels.shard_sizes
    monkeypatch.setattr(labels, "shard_sizes", lambda n, k, c: sizes(n, k, c, limit * per_image))
    parts = list(labels.shards(some, VIEWS, CLASSES))
    assert np.array_equal(np.concatenate(parts), np.arange(some))
    assert max(map(len, parts)) <= limit
    joined = torch.cat([say(images, views_of(len(images)), part) for part in parts])
    # A batch of another length may take another kernel: the last bit of a float16 at most. (Which shards there are
    # depends on the cell alone, so the labels of a cell are the same bits in every run.)
    torch.testing.assert_close(joined, logits[:some], rtol=2**-10, atol=2**-10)
    again = torch.cat([say(images, views_of(len(images)), part) for part in parts])
    assert torch.equal(joined, again)


def test_views_depend_on_protocol_data_set_and_size_and_not_on_the_method() -> None:
    def drawn(images: int = 20, **changed: str) -> bytes:
        named = {"protocol": "p", "dataset": "digits", **changed}
        return label_views(recipe(), images, size=8, mirror=True, **named).to_bytes()

    assert drawn() == drawn()
    assert len({drawn(), drawn(protocol="q"), drawn(dataset="mnist5k"), drawn(images=21)}) == 4


def test_views_read_back_from_their_bytes_give_the_same_labels(images: torch.Tensor, logits: torch.Tensor) -> None:
    views = views_of(len(images))
    again = Views.from_bytes(views.to_bytes())
    assert torch.equal(say(images, again, np.arange(30)), say(images, views, np.arange(30)))


# --- encoded and read back -------------------------------------------------------------------------------------------


def soft(logits: torch.Tensor, images: np.ndarray | None = None) -> SoftLabels:
    return SoftLabels(logits, torch.zeros(len(logits), dtype=torch.int64), views_of(270), images)


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


def compressor(**functions: Any) -> types.ModuleType:
    """A compressor of a few lines: float16, as it is."""
    module = types.ModuleType("methods.compressors.fake")

    def plain_encode(labels: SoftLabels, budget_bytes: int, ctx: Any) -> bytes:
        return labels.logits.numpy().tobytes()

    def plain_decode(blob: bytes, rows: Any = None) -> torch.Tensor:
        values = torch.frombuffer(bytearray(blob), dtype=torch.float16).reshape(-1, VIEWS, CLASSES)
        return values if rows is None else values[:, rows]

    module.__dict__.update({"encode": plain_encode, "decode": plain_decode, **functions})
    return module


def read_rows(module: types.ModuleType, blobs: list[bytes], images: int, shared: bytes = b"") -> torch.Tensor:
    file = LabelFile.from_bytes(LabelFile(views_of(images).to_bytes(), shared, tuple(blobs)).to_bytes())
    return EncodedLabels(file, module, images, "fake").rows([4, 1])


def test_what_all_images_share_reaches_encode_and_decode(logits: torch.Tensor) -> None:
    def fit(labels: SoftLabels, budget_bytes: int, ctx: Any, *, digits: int = 1) -> bytes:
        return labels.logits.float().mean(dim=(0, 1)).numpy().astype(np.float32).tobytes()

    def with_shared(labels: SoftLabels, budget_bytes: int, ctx: Any, *, shared: bytes = b"", digits: int = 1) -> bytes:
        return (labels.logits.float().numpy() - np.frombuffer(shared, np.float32)).astype(np.float32).tobytes()

    def back(blob: bytes, rows: Any = None, *, shared: bytes = b"") -> torch.Tensor:
        values = np.frombuffer(blob, np.float32).reshape(-1, VIEWS, CLASSES) + np.frombuffer(shared, np.float32)
        return torch.from_numpy(values)[:, rows]

    module = compressor(fit=fit, encode=with_shared, decode=back)
    assert takes_shared(module)
    shared = fit(soft(logits[:20]), 10**6, None)
    blobs = [encode(module, soft(part), 10**6, None, shared, digits=2) for part in logits[:40].split(20)]
    torch.testing.assert_close(read_rows(module, blobs, 40, shared), logits[:40, [4, 1]].float(), rtol=1e-3, atol=1e-3)


def test_a_fit_that_nobody_takes_is_refused() -> None:
    with pytest.raises(PluginError, match=r"'fake' defines fit\(\.\.\.\), so encode\(\.\.\.\) must take `shared`"):
        takes_shared(compressor(fit=lambda *_: b""))
    assert not takes_shared(compressor())


def test_a_code_over_its_budget_is_refused(logits: torch.Tensor) -> None:
    blob = encode(compressor(), soft(logits[:10]), 10 * VIEWS * CLASSES * 2, None, b"")
    assert torch.equal(read_rows(compressor(), [blob], 10), logits[:10, [4, 1]].float())
    with pytest.raises(PluginError, match=r"'fake': encode\(\.\.\.\) returned 1200 bytes for a budget of 1199"):
        encode(compressor(), soft(logits[:10]), 1199, None, b"")
    assert len(encode(compressor(TAKES_BUDGET=False), soft(logits[:10]), 1199, None, b"")) == 1200


@pytest.mark.parametrize("returned", ["text", None, bytearray(b"x"), np.zeros(3, np.uint8)])
def test_a_code_that_is_no_bytes_is_refused(logits: torch.Tensor, returned: Any) -> None:
    with pytest.raises(PluginError, match=f"must return bytes, not {type(returned).__name__}"):
        encode(compressor(encode=lambda *_: returned), soft(logits[:10]), 10**6, None, b"")


def test_what_is_shared_is_held_to_the_same_rules(logits: torch.Tensor) -> None:
    with pytest.raises(PluginError, match=r"fit\(\.\.\.\) must return bytes, not list"):
        fit(compressor(fit=lambda *_: [1.0]), soft(logits[:10]), 100, None)
    with pytest.raises(PluginError, match=r"fit\(\.\.\.\) returned 101 bytes for a budget of 100"):
        fit(compressor(fit=lambda *_: bytes(101)), soft(logits[:10]), 100, None)
    assert fit(compressor(fit=lambda *_: b"x"), soft(logits[:10]), 100, None) == b"x"


def test_infeasible_is_passed_on(logits: torch.Tensor) -> None:
    def too_small(labels: SoftLabels, budget_bytes: int, ctx: Any) -> bytes:
        raise InfeasibleError(77, "rank 1")

    with pytest.raises(InfeasibleError, match="77 bytes: rank 1"):
        encode(compressor(encode=too_small), soft(logits[:10]), 5, None, b"")


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
