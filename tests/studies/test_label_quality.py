"""How well a label set is kept: divergence, agreement, spectrum and bytes, each beside a naive count."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.labels.adapter import encode
from bench.labels.label_file import LabelFile, blob_allowance
from bench.plugins.registry import Registry, discover
from bench.plugins.spec import parse
from bench.protocol.recipe import Augment
from bench.seeds import numpy_generator
from bench.studies.label_sets.quality import agreement, divergence, file_bytes, qualities
from bench.studies.label_sets.spectrum import Spectrum, energies, rank_for
from bench.trials.budget import reference_bytes
from bench.views.parameters import Views
from tests.worlds.label_arrays import ArrayLabels, asked, drawn
from tests.worlds.plugins import write


def naive_kl(z: np.ndarray, other: np.ndarray, temperature: float) -> float:
    """sum p (log p - log q) in extended precision, one class after the other."""
    a, b = (row.astype(np.longdouble) / temperature for row in (z, other))
    log_p, log_q = (row - row.max() - np.log(np.exp(row - row.max()).sum()) for row in (a, b))
    return float(temperature**2 * sum(math.exp(p) * (p - q) for p, q in zip(log_p, log_q, strict=True)))


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


# --- divergence and agreement ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("noise", [1e-1, 1.0, 30.0])
def test_divergence_is_that_of_a_naive_sum(temperature: float, noise: float) -> None:
    rng = numpy_generator("kl", noise)
    z = 5 * rng.standard_normal((6, 40))
    other = z + noise * rng.standard_normal((6, 40))
    found = divergence(torch.from_numpy(z), torch.from_numpy(other), temperature)
    assert found.tolist() == pytest.approx([naive_kl(a, b, temperature) for a, b in zip(z, other, strict=True)])


def test_a_tiny_divergence_keeps_its_digits() -> None:
    rng = numpy_generator("tiny")
    z, step = 3 * rng.standard_normal(1000), rng.standard_normal(1000)
    found = float(divergence(torch.from_numpy(z), torch.from_numpy(z + 1e-6 * step), 20.0))
    p = np.exp(z / 20) / np.exp(z / 20).sum()
    second_order = 0.5 * 1e-12 * ((p * step**2).sum() - (p * step).sum() ** 2)  # T^2 cancels the two 1 / T
    assert found == pytest.approx(second_order, rel=1e-5)
    # What the textbook sum gives in float64 is rounding noise of the size of the result or more.
    log_p, log_q = (torch.log_softmax(torch.from_numpy(x) / 20, 0) for x in (z, z + 1e-6 * step))
    assert abs(400 * float((log_p.exp() * (log_p - log_q)).sum()) / second_order - 1) > 1e-3


@given(st.integers(2, 30), st.floats(-50, 50), st.floats(1, 20))
def test_a_shift_of_all_logits_changes_nothing(classes: int, shift: float, temperature: float) -> None:
    z = torch.from_numpy(4 * numpy_generator("shift", classes).standard_normal((3, classes)))
    assert divergence(z, z + shift, temperature).max() < 1e-10


def test_a_far_outlier_is_finite_and_exact() -> None:
    z, other = torch.zeros(2, 3), torch.zeros(2, 3)
    other[0, 1], other[1, 1] = 1e6, -1e6
    # p is 1/3 each; log q is (-1e6, 0, -1e6) and (-log 2, -1e6 - log 2, -log 2).
    expected = [2e6 / 3 + math.log(1 / 3), 1e6 / 3 + math.log(2 / 3)]
    assert divergence(z, other, 1.0).tolist() == pytest.approx(expected, rel=1e-12)


def test_equal_logits_have_no_divergence_and_agree() -> None:
    z = drawn(2, 5, 30)
    assert divergence(z, z.float(), 20.0).eq(0).all()
    assert agreement(z, z.float()).all()


def test_either_of_two_equal_maxima_agrees() -> None:
    z = torch.tensor([[1.0, 3.0, 3.0], [1.0, 3.0, 3.0], [1.0, 3.0, 3.0]])
    other = torch.tensor([[0.0, 2.0, 1.0], [0.0, 1.0, 2.0], [5.0, 1.0, 2.0]])
    assert agreement(z, other).tolist() == [True, True, False]


# --- spectrum --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (1, 5), (5, 1)])
def test_energies_are_squared_singular_values(shape: tuple[int, int]) -> None:
    matrix = numpy_generator("spectrum", *shape).standard_normal(shape)
    expected = np.linalg.svd(matrix, compute_uv=False) ** 2
    assert energies(torch.from_numpy(matrix)) == pytest.approx(expected)


def test_ranks_of_known_spectra() -> None:
    assert rank_for(np.array([90.0, 9.0, 1.0]), 0.9) == 1
    assert rank_for(np.array([90.0, 9.0, 1.0]), 0.95) == 2
    assert rank_for(np.array([90.0, 9.0, 1.0]), 0.999) == 3
    assert rank_for(np.ones(10), 0.9) == 9
    assert rank_for(np.zeros(4), 0.9) == 0


def test_the_spectrum_is_a_mean_over_images_and_that_of_all_rows_together() -> None:
    z = drawn(5, 8, 20)
    spectrum = Spectrum()
    spectrum.add(z[:3])
    spectrum.add(z[3:])
    rows = {row["of"]: row for row in spectrum.rows()}
    singular = [np.linalg.svd(one.double().numpy(), compute_uv=False) for one in z]
    assert spectrum.images == 5
    assert rows["logits, each image"]["s2/s1"] == pytest.approx(np.mean([s[1] / s[0] for s in singular]))
    assert rows["logits, each image"]["s10/s1"] is None
    ranks = [np.argmax(np.cumsum(s**2) >= 0.9 * (s**2).sum()) + 1 for s in singular]
    assert rows["logits, each image"]["rank 90 %"] == np.mean(ranks)
    together = np.linalg.svd(z.double().reshape(-1, 20).numpy(), compute_uv=False)
    assert rows["logits, all images together"]["s10/s1"] == pytest.approx(together[9] / together[0])


# --- the measurement -------------------------------------------------------------------------------------------------


def test_a_lossless_code_diverges_nowhere_and_takes_what_it_takes(registry: Registry) -> None:
    labels = ArrayLabels(drawn(6, 10, 20))
    [found] = qualities(labels, asked(registry, "none")).qualities
    assert (found.status, found.kl1, found.kl20, found.top1, found.stored_views) == ("ok", 0, 0, 1, 10)
    assert found.bytes["payload"] >= 6 * 10 * 20 * 2
    assert found.ratio == reference_bytes(6, 10, 20) / found.bytes["total"]


def test_bytes_are_those_of_the_label_file() -> None:
    blobs = (b"x" * 300, b"y" * 7)
    file = LabelFile(b"views", b"shared part", blobs)
    found = file_bytes(b"views", b"shared part", [len(blob) for blob in blobs])
    assert found["total"] == len(file.to_bytes())
    sizes = file.sizes()
    assert (found["payload"], found["shared"], found["views"]) == (sizes["blobs"], sizes["shared"], sizes["views"])


@pytest.mark.parametrize("name", ["svd", "godec", "topk", "lpld"])
def test_no_budget_is_exceeded(name: str, registry: Registry) -> None:
    labels = ArrayLabels(drawn(9, 12, 20), limit=3 * 12 * 20 * 2)
    for found in qualities(labels, asked(registry, f"{name}@4x", f"{name}@6x")).qualities:
        assert found.bytes["total"] <= reference_bytes(9, 12, 20) / float(found.budget[:-1])
        assert found.ratio >= float(found.budget[:-1])


def test_shards_change_nothing_but_their_headers(registry: Registry) -> None:
    logits = drawn(8, 10, 16)
    [whole] = qualities(ArrayLabels(logits), asked(registry, "none")).qualities
    [parts] = qualities(ArrayLabels(logits, limit=2 * 10 * 16 * 2), asked(registry, "none")).qualities
    assert (whole.kl1, whole.kl20, whole.top1) == (parts.kl1, parts.kl20, parts.top1)
    assert 0 < parts.bytes["total"] - whole.bytes["total"] < 4 * 50


def test_more_bytes_keep_more(registry: Registry) -> None:
    found = qualities(ArrayLabels(drawn(6, 20, 30)), asked(registry, "svd@6x", "svd@4x", "svd@2x")).qualities
    assert found[0].kl20 > found[1].kl20 > found[2].kl20
    assert found[0].kl1 > found[1].kl1 > found[2].kl1


def test_means_are_over_images_and_stored_views(registry: Registry) -> None:
    logits = drawn(5, 12, 20)
    spec = parse(registry, "compressor", "svd")
    labels = ArrayLabels(logits, limit=2 * 12 * 20 * 2)
    [found] = qualities(labels, [(spec, "6x")]).qualities
    rows = []
    total = int(reference_bytes(5, 12, 20) / 6)
    allowances = blob_allowance(total, views=len(labels.views), shared=0, shard_sizes=labels.sizes)
    for part, allowance in zip(labels.parts(), allowances, strict=True):
        decoded = spec.plugin.module.decode(encode(spec.plugin.module, part, allowance, None, b""))
        for z, other in zip(part.logits.reshape(-1, 20), decoded.reshape(-1, 20), strict=True):
            rows.append((naive_kl(z.numpy(), other.numpy(), 1), naive_kl(z.numpy(), other.numpy(), 20)))
    assert (found.kl1, found.kl20) == pytest.approx(tuple(np.mean(rows, axis=0)))


def test_pruned_views_are_not_compared_but_counted(registry: Registry) -> None:
    labels = ArrayLabels(drawn(4, 20, 10))
    [found] = qualities(labels, asked(registry, "lpld@4x")).qualities
    assert 1 <= found.stored_views < 20
    assert found.stored_views * 4 * 10 * 2 <= found.bytes["payload"] < (found.stored_views + 1) * 4 * 10 * 2
    assert (found.kl1, found.top1) == (0, 1)


def test_a_budget_too_small_tells_the_smallest_size_that_will_do(registry: Registry) -> None:
    labels = ArrayLabels(drawn(6, 10, 20), limit=2 * 10 * 20 * 2)
    [found] = qualities(labels, asked(registry, "svd@200B")).qualities
    assert found.status == "infeasible"
    assert found.kl20 is None
    least = found.smallest_bytes
    enough, less = qualities(labels, asked(registry, f"svd@{least}B", f"svd@{least - 1}B")).qualities
    assert (enough.status, less.status) == ("ok", "infeasible")


def test_a_logit_that_is_not_finite_is_named(registry: Registry) -> None:
    logits = drawn(5, 6, 7)
    logits[3, 4, 5] = math.inf
    with pytest.raises(UserError, match="inf at image 3, view 4, class 5"):
        qualities(ArrayLabels(logits, limit=2 * 6 * 7 * 2), asked(registry, "none"))


def stored_by_batch(n: int, k: int, c: int, batch: int, limit: int) -> ArrayLabels:
    """Labels whose views were made batch by batch."""
    labels = ArrayLabels(drawn(n, k, c), limit)
    views = Views(Augment(mix="cutmix", mix_unit="batch"), n, 8, mirror=True, batch=batch, seed=3, count=k)
    plain = labels.parts
    labels.parts = lambda: (replace(part, views=views) for part in plain())  # type: ignore[method-assign]
    return labels


@pytest.mark.parametrize("limit", [1 << 26, 5 * 8 * 6 * 2])
@pytest.mark.parametrize("order", ["random", "first"])
def test_a_pool_of_batches_is_compared_where_it_holds_labels(order: str, limit: int, registry: Registry) -> None:
    labels = stored_by_batch(20, 8, 6, 7, limit)
    [found] = qualities(labels, asked(registry, f"lpld:unit=batch,order={order}@3x")).qualities
    assert found.status == "ok", found.message
    assert (found.kl1, found.kl20, found.top1) == (0, 0, 1)
    assert found.bytes["total"] <= reference_bytes(20, 8, 6) / 3
    rows = found.stored_views * 20
    assert rows == round(rows)
    header = 300 * len(labels.sizes)
    assert rows * 12 <= found.bytes["payload"] <= rows * 12 + header


def test_a_whole_pool_of_batches_holds_every_view(registry: Registry) -> None:
    labels = stored_by_batch(20, 8, 6, 7, 1 << 26)
    [found] = qualities(labels, asked(registry, "lpld:unit=batch@9kB")).qualities
    assert found.stored_views == 8


def test_probabilities_that_were_none_are_counted(registry: Registry) -> None:
    labels = ArrayLabels(3 * drawn(6, 10, 20), limit=2 * 10 * 20 * 2)
    specs = ("quant:bits=2,domain=probabilities@1x", "svd:domain=probabilities@4x", "quant:bits=2@1x", "topk@2x")
    first, second, logits, none = qualities(labels, asked(registry, *specs)).qualities
    quant = parse(registry, "compressor", "quant").plugin.module
    blobs = [encode(quant, part, 1 << 20, None, b"", bits=2, domain="probabilities") for part in labels.parts()]
    assert len(blobs) > 1
    assert (first.invalid_values, first.invalid_rows) == tuple(np.sum([quant.invalid(blob) for blob in blobs], axis=0))
    assert first.invalid_rows > 0
    assert second.invalid_values > 0
    assert (logits.invalid_values, logits.invalid_rows) == (0, 0)
    assert none.invalid_values is None


BROKEN = '''
"""Gives back too little."""

import torch

TAKES_BUDGET = False


def encode(labels, budget_bytes, ctx, *, how="nothing"):
    if how == "raise":
        raise RuntimeError("no code today")
    if how == "exit":
        raise SystemExit(0)
    return bytes(str(labels.shape[0]), "ascii") + how.encode()


def decode(blob, rows=None):
    n, how = int(blob[:1]), blob[1:].decode()
    return torch.full((n, len(rows), 5 if how == "nan" else 4), float("nan"))
'''


def test_a_compressor_that_fails_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    registry = discover([write(tmp_path / "broken.py", BROKEN)])
    specs = asked(registry, "broken:how=raise", "broken:how=exit", "broken", "broken:how=nan", "none")
    raising, ending, misshapen, nan, whole = qualities(ArrayLabels(drawn(2, 3, 5)), specs).qualities
    assert (raising.status, raising.message) == ("failed", "RuntimeError: no code today")
    assert (ending.status, ending.message) == ("failed", "SystemExit: 0")
    assert "[2, 3, 5], not [2, 3, 4]" in misshapen.message
    assert "a value that is not finite" in nan.message
    assert whole.status == "ok"
