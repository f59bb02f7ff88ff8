"""The compressor `klt` with a shared basis and CutMix views: what it buys, and that it decodes the same everywhere."""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.api import SoftLabels
from bench.errors import InfeasibleError
from bench.studies.label_sets.label_sources import PartOfSet
from methods._codec.container import CorruptBlobError
from methods._codec.klt.basis import Basis
from methods.compressors import klt, svd
from tests.worlds import ROOT
from tests.worlds.klt_labels import C, K, N, mixed, views

LAW = settings(max_examples=8, deadline=None, derandomize=True)
BUDGET = 6000


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A basis is fitted here to be looked at, whether or not it pays for so small a set."""
    monkeypatch.setattr(klt, "_TRIED_ON", 0)


@functools.cache
def shared(budget: int = BUDGET) -> bytes:
    return klt.fit(mixed(), budget, None)


def error(decoded: torch.Tensor, labels: SoftLabels) -> float:
    """Squared error that softmax can see, relative to the energy."""
    wide = labels.logits.double()
    rest, whole = decoded.double() - wide, wide - wide.mean(2, keepdim=True)
    return float((rest - rest.mean(2, keepdim=True)).square().sum() / whole.square().sum())


def test_a_basis_and_the_views_buy_a_smaller_error_at_equal_bytes():
    labels, budget = mixed(80), 25000
    common = klt.fit(labels, budget, None)
    blob = klt.encode(labels, budget - len(common), None, shared=common)
    without = klt.encode(labels, budget, None)
    assert len(blob) + len(common) <= budget
    assert error(klt.decode(blob, shared=common), labels) < 0.6 * error(klt.decode(without), labels)


def test_it_beats_svd_at_equal_bytes():
    labels = mixed()
    blob = klt.encode(labels, BUDGET - len(shared()), None, shared=shared())
    other = svd.decode(svd.encode(labels, BUDGET, None, factor="int8"))
    assert error(klt.decode(blob, shared=shared()), labels) < 0.5 * error(other, labels)


def test_partners_are_predicted_from_the_views():
    labels = mixed()
    blind = replace(labels, views=())
    plain = klt.fit(blind, BUDGET, None)
    seeing = klt.decode(klt.encode(labels, 2000, None, shared=shared()), shared=shared())
    not_seeing = klt.decode(klt.encode(blind, 2000, None, shared=plain), shared=plain)
    assert error(seeing, labels) < 0.8 * error(not_seeing, labels)


@LAW
@given(seed=st.integers(0, 1000), count=st.integers(0, 6))
def test_rows_have_the_same_bits_as_in_the_whole(seed, count):
    blob = klt.encode(mixed(), 4000, None, shared=shared())
    some = np.random.default_rng(seed).integers(0, K, count)
    assert torch.equal(klt.decode(blob, some, shared=shared()), klt.decode(blob, shared=shared())[:, some])


def test_a_row_of_a_long_blob_is_read_without_the_others():
    labels = mixed(40, 60, 30)
    common = klt.fit(labels, 60000, None)
    blob = klt.encode(labels, 50000, None, shared=common)
    some = np.array([59, 3, 17])
    assert torch.equal(klt.decode(blob, some, shared=common), klt.decode(blob, shared=common)[:, some])


@LAW
@given(budget=st.integers(150, 12000))
def test_no_budget_is_exceeded_and_most_of_it_is_used(budget):
    blob = klt.encode(mixed(), budget, None, shared=shared())
    assert 0.97 * budget - 80 <= len(blob) <= budget


def test_the_smallest_size_named_is_enough():
    with pytest.raises(InfeasibleError) as caught:
        klt.encode(mixed(), 40, None, shared=shared())
    size = caught.value.smallest_bytes
    assert len(klt.encode(mixed(), size, None, shared=shared())) == size
    with pytest.raises(InfeasibleError):
        klt.encode(mixed(), size - 1, None, shared=shared())


def test_error_falls_as_the_budget_grows():
    found = []
    for budget in np.geomspace(400, 20000, 7).astype(int):
        found.append(
            error(klt.decode(klt.encode(mixed(), int(budget), None, shared=shared()), shared=shared()), mixed())
        )
    assert all(after < before for before, after in itertools.pairwise(found))
    assert found[-1] < 1e-3


def test_a_shard_of_the_set_decodes_with_the_views_in_the_shared_part():
    labels = mixed()
    for picked in (np.arange(4, 9), np.array([7, 2, 11])):
        shard = SoftLabels(labels.logits[picked], labels.hard[picked], labels.views, picked)
        decoded = klt.decode(klt.encode(shard, 3000, None, shared=shared()), shared=shared())
        assert error(decoded, shard) < 0.2


def test_views_that_cannot_be_redrawn_are_asked_for():
    labels = replace(mixed(), views=list(views()))
    common = klt.fit(labels, BUDGET, None)
    blob = klt.encode(labels, 3000, None, shared=common)
    with pytest.raises(ValueError, match="pass those that `encode` was given"):
        klt.decode(blob, shared=common)
    decoded = klt.decode(blob, shared=common, views=labels.views)
    assert torch.equal(decoded, klt.decode(klt.encode(mixed(), 3000, None, shared=shared()), shared=shared()))


def test_a_basis_that_leaves_labels_nothing_is_left_out():
    assert klt.fit(mixed(), 300, None) == b""


@pytest.mark.parametrize("budget", [700, 1000, 1500, 2500, 6000, 20000])
def test_a_basis_that_does_not_pay_is_left_out(budget, monkeypatch):
    labels = mixed()
    monkeypatch.setattr(klt, "_TRIED_ON", 1 << 22)

    def left(common: bytes) -> float:
        blob = klt.encode(labels, budget - len(common), None, shared=common)
        return error(klt.decode(blob, shared=common, views=labels.views), labels)

    assert left(klt.fit(labels, budget, None)) <= left(b"")


def test_another_shared_part_is_refused():
    blob = klt.encode(mixed(), 3000, None, shared=shared())
    for other in (shared(2 * BUDGET), b""):
        with pytest.raises(CorruptBlobError, match="was coded with another shared part"):
            klt.decode(blob, shared=other)
    with pytest.raises(CorruptBlobError, match="was coded with another shared part"):
        klt.decode(klt.encode(mixed(), 3000, None), shared=shared())


def test_a_basis_of_other_classes_is_refused():
    with pytest.raises(ValueError, match=f"fitted on {C} classes, the labels have 7"):
        klt.encode(SoftLabels(mixed().logits[..., :7], mixed().hard), 3000, None, shared=shared())


@pytest.mark.parametrize("position", [0, 2, 6, 20, 80, -1])
def test_a_damaged_basis_is_an_error_and_not_a_label(position):
    blob = klt.encode(mixed(), 3000, None, shared=shared())
    damaged = bytearray(shared())
    damaged[position] ^= 4
    with pytest.raises(CorruptBlobError):
        klt.decode(blob, shared=bytes(damaged))


def test_a_fit_on_labels_with_a_hole_names_the_place():
    logits = mixed().logits.clone()
    logits[3, 2, 7] = float("nan")
    with pytest.raises(ValueError, match="image 3, row 2, column 7"):
        klt.fit(SoftLabels(logits, mixed().hard), BUDGET, None)


@pytest.mark.parametrize("case", ["zeros", "constant", "one view", "two classes", "one class", "one outlier"])
def test_a_basis_of_degenerate_labels_serves_them(case):
    logits = mixed().logits.float()
    logits = {
        "zeros": torch.zeros_like(logits),
        "constant": torch.full_like(logits, 2.5),
        "one view": logits[:, :1],
        "two classes": logits[..., :2],
        "one class": logits[..., :1],
        "one outlier": torch.where(torch.arange(C) == 3, torch.tensor(65504.0), logits),
    }[case]
    labels = SoftLabels(logits, mixed().hard)
    common = klt.fit(labels, 1 << 20, None)
    decoded = klt.decode(klt.encode(labels, 1 << 20, None, shared=common), shared=common)
    assert (decoded - logits).abs().max() <= 1e-4 * max(1.0, float(logits.abs().max()))


@pytest.mark.parametrize("exponent", [-60, 60])
def test_a_basis_serves_labels_of_another_scale(exponent):
    labels = mixed()
    larger = replace(labels, logits=torch.ldexp(labels.logits.float(), torch.tensor(exponent)))
    blob = klt.encode(larger, 3000, None, shared=klt.fit(larger, BUDGET, None))
    decoded = klt.decode(blob, shared=klt.fit(larger, BUDGET, None))
    assert error(torch.ldexp(decoded, torch.tensor(-exponent)), labels) < 0.05


@LAW
@given(
    seed=st.integers(0, 100),
    loud=st.sampled_from([1, 300, 20_000, 2_000_000]),
    falling=st.sampled_from([0, 1, 3]),
    used=st.integers(0, 29),
)
def test_a_product_with_the_basis_is_exact_in_whatever_precision(seed, loud, falling, used):
    """Beside Python's own integers; single precision serves where no sum can be too long for it. In another unit the
    products are the same; components that nobody uses change nothing."""
    rng = np.random.default_rng(seed)
    size, classes, rows = 30, 7, 5
    vectors = np.rint(100 * rng.standard_normal((size, classes)))
    units = np.zeros(size, np.int32)
    basis = Basis(0, np.zeros(classes), vectors, 7, units, units, np.zeros(17))
    scale = loud / (1.0 + np.arange(size)) ** falling
    coefficients = np.rint(rng.standard_normal((rows, size)) * scale)
    exact = [
        [sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) for column in vectors.T] for row in coefficients
    ]
    assert basis.expand(coefficients).tolist() == exact
    assert basis.rescaled(5).expand(coefficients).tolist() == exact
    coefficients[:, used:] = 0
    first = vectors[:used].T.astype(int).tolist()
    few = [[sum(int(a) * b for a, b in zip(row, column, strict=False)) for column in first] for row in coefficients]
    assert basis.expand(coefficients).tolist() == few


def test_the_decoded_bits_do_not_depend_on_threads_or_kernels(tmp_path):
    """The same blob in processes with other BLAS kernels, thread counts and compiled instructions, by a checksum of the
    decoded labels."""
    program = (
        "import sys, zlib; from methods.compressors import klt\n"
        "shared, blob = (open(p, 'rb').read() for p in sys.argv[1:])\n"
        "print(zlib.crc32(klt.decode(blob, shared=shared).numpy().tobytes()))"
    )
    blob = klt.encode(mixed(), 4000, None, shared=shared())
    paths = [tmp_path / "shared", tmp_path / "blob"]
    for path, data in zip(paths, (shared(), blob), strict=True):
        path.write_bytes(data)
    here = zlib.crc32(klt.decode(blob, shared=shared()).numpy().tobytes())
    for threads, kernel, compiled in (("2", "SANDYBRIDGE", "host"), ("1", "NEHALEM", "generic")):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        environment |= {"OPENBLAS_CORETYPE": kernel, "NUMBA_CPU_NAME": compiled}
        command = [sys.executable, "-c", program, *map(str, paths)]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        assert int(found) == here


@pytest.mark.parametrize("budget", [9600, 48500, 49250])
@pytest.mark.parametrize("louder", [1 / 16, 16])
def test_a_budget_is_used_though_the_images_that_are_tried_first_mislead(budget, louder):
    """Sixteen of two hundred stand for all at first; here they are much softer, or much louder. At fine steps the last
    one is reached."""
    rng = np.random.default_rng(0)
    logits = rng.uniform(-8, 8, (200, 12, 8)).astype(np.float16)
    logits[np.linspace(0, 199, 16).astype(int)] *= np.float16(louder)
    labels = SoftLabels(torch.from_numpy(logits), torch.zeros(200, dtype=torch.int64))
    finest = len(klt.encode(labels, 10**6, None))
    assert min(0.985 * budget, finest) <= len(klt.encode(labels, budget, None)) <= budget


def test_every_label_of_the_set_is_there():
    decoded = klt.decode(klt.encode(mixed(), 4000, None, shared=shared()), shared=shared())
    assert decoded.shape == (N, K, C)
    assert decoded.dtype == torch.float32


@pytest.mark.parametrize("ratio", [10, 30, 100])
def test_a_basis_fitted_on_eight_images_of_many_serves_others_better_than_none(ratio):
    """Each image has a mean of its own in 80 dimensions: eight do not tell where that of the ninth lies, and a basis
    that is cut where these eight lose little would lose it."""
    rng = np.random.default_rng(0)
    n, k, c = 16, 40, 80
    within = rng.standard_normal((n, k, 6)) @ rng.standard_normal((6, c)) + 0.2 * rng.standard_normal((n, k, c))
    logits = torch.from_numpy((4 * rng.standard_normal((n, 1, c)) + within).astype(np.float16))
    hard = torch.zeros(8, dtype=torch.int64)
    budget = 2 * k * c // ratio
    common = klt.fit(PartOfSet(logits[:8], hard, set_images=5000), 5000 * budget, None)
    assert common
    errors = []
    for part in (common, b""):
        room = 8 * (budget - len(part) // 5000)
        decoded = klt.decode(klt.encode(SoftLabels(logits[8:], hard), room, None, shared=part), shared=part)
        errors.append(float((decoded - logits[8:].float()).square().mean()))
    assert errors[0] < errors[1]
