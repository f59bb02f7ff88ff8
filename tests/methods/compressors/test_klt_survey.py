"""`klt` on sets of several shards: the means of all images from a few views, and what they buy."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.api import SoftLabels, Survey
from bench.training.peak_memory import PeakMemory
from methods._codec.container import unpack
from methods._codec.klt import basis as bases
from methods._codec.klt import fit as fitting
from methods._codec.klt import refine, setmeans
from methods._codec.klt import side as sides
from methods._codec.klt import survey as surveys
from methods._codec.klt.side import Side
from methods._codec.klt.spectrum import Moment
from methods._codec.klt.survey import LeastSquares
from methods.compressors import klt
from tests.worlds import ROOT
from tests.worlds.klt_labels import mixed

LAW = settings(max_examples=20, deadline=None, derandomize=True)
N, PER_SHARD, BUDGET = 200, 20, 60_000
MOST_TO_FIT, MOST_TO_ENCODE = 19, 17  # bytes for each value of a shard; 15 and 13 when they were set
GOLDEN = ROOT / "tests" / "data" / "klt-golden.npz"


def shards(labels: SoftLabels, size: int = PER_SHARD) -> list[SoftLabels]:
    found = []
    for start in range(0, labels.shape[0], size):
        images = np.arange(start, min(start + size, labels.shape[0]))
        found.append(SoftLabels(labels.logits[images], labels.hard[images], labels.views, images))
    return found


def some_views(part: SoftLabels, views: Sequence[int]) -> SoftLabels:
    return replace(part, logits=part.logits[:, list(views)], views=[part.views[k] for k in views])


def survey_of(labels: SoftLabels, asked: list[list[int]] | None = None) -> Survey:
    def survey(views: Sequence[int]) -> Iterator[SoftLabels]:
        if asked is not None:
            asked.append(list(views))
        return (some_views(part, views) for part in shards(labels))

    return survey


def coded(labels: SoftLabels, budget: int, survey: Survey | None) -> tuple[bytes, list[bytes], np.ndarray]:
    """Shared part, blobs and decoded labels [n, K, C] of a set coded shard by shard in `budget` bytes."""
    parts = shards(labels)
    shared = klt.fit(parts[0], budget, None, survey=survey)
    room = (budget - len(shared)) // len(parts)
    blobs = [klt.encode(part, room, None, shared=shared) for part in parts]
    return shared, blobs, np.concatenate([klt.decode(blob, shared=shared).numpy() for blob in blobs])


def error(found: np.ndarray, labels: SoftLabels) -> float:
    rest = found - labels.logits.double().numpy()
    return float(np.square(rest - rest.mean(2, keepdims=True)).mean())


# --- what it takes ---------------------------------------------------------------------------------------------------


def peaks(sizes: Sequence[int]) -> np.ndarray:
    """int64 [len(sizes), 2 (fit, encode)]: bytes above where memory stood, for shards of so many images.

    For a process of its own, whose constant it sets.
    """
    surveys._VALUES = 1 << 15  # images that the table is tried on: as few for all sizes
    taken = []
    for n in (20, *sizes):  # the first loads libraries and compiles kernels
        labels = mixed(2 * n, 30, 300)
        parts, budget, memory = shards(labels, n), 2 * n * 30 * 625 // 20, PeakMemory()
        shared = klt.fit(
            parts[0], budget, None, survey=lambda asked, of=parts: (some_views(part, asked) for part in of)
        )
        fitted, memory = memory.above(), PeakMemory()
        klt.encode(parts[0], (budget - len(shared)) // 2, None, shared=shared)
        taken.append([fitted, memory.above()])
    return np.array(taken[1:])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not begin a peak anew")
def test_memory_grows_by_so_many_bytes_with_each_value_of_a_shard() -> None:
    """The labels themselves take 2 bytes each and stand outside; as float32 they are held once, with what is projected
    of them, levels and cells. With 3.6 million values more, a copy of all would show.

    In a process of its own: one that ran other tests works within what they left, a small shard more than a large one.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        taken = fresh.submit(peaks, (60, 60, 460, 460)).result()
    small, large = taken[:2].min(0), taken[2:].min(0)  # a peak moves by some MB from one run to the next
    assert ((large - small) / (400 * 30 * 300) < (MOST_TO_FIT, MOST_TO_ENCODE)).all()


# --- what it buys ----------------------------------------------------------------------------------------------------


def test_partners_in_other_shards_are_predicted_and_the_table_is_paid_for():
    labels = mixed(N)
    shared, blobs, found = coded(labels, BUDGET, survey_of(labels))
    _, _, without = coded(labels, BUDGET, None)
    assert len(shared) + sum(map(len, blobs)) <= BUDGET
    assert bases.from_bytes(shared).everyone is not None
    assert error(found, labels) < 0.8 * error(without, labels)


def test_most_of_what_sharding_loses_is_won_back():
    labels = mixed(N)
    whole = klt.fit(labels, BUDGET, None)
    at_once = klt.decode(klt.encode(labels, BUDGET - len(whole), None, shared=whole), shared=whole).numpy()
    blind, seeing = (error(coded(labels, BUDGET, survey)[2], labels) for survey in (None, survey_of(labels)))
    assert blind - seeing > 0.6 * (blind - error(at_once, labels))


@pytest.mark.parametrize("loud", [0.5, 3.0])
def test_a_survey_tells_in_which_directions_rows_of_other_shards_vary(loud, monkeypatch: pytest.MonkeyPatch):
    """Where means are soft their table does not pay; the axes that the survey tells do."""
    labels = mixed(N, loud=loud)
    seeing = error(coded(labels, BUDGET, survey_of(labels))[2], labels)
    asked = surveys.means_and_residuals
    nothing = Moment(np.zeros((40, 40)), 0)
    monkeypatch.setattr(surveys, "means_and_residuals", lambda *of: (asked(*of)[0], nothing))
    shared, _, blind = coded(labels, BUDGET, survey_of(labels))
    assert (bases.from_bytes(shared).everyone is None) == (loud < 1)
    assert seeing < 0.98 * error(blind, labels)


def test_rows_of_the_sample_are_not_told_twice():
    labels = mixed(60)
    views = surveys.asked_of(24)
    centre = fitting.centre_of(labels.logits.float().numpy())
    sample = np.arange(20)
    means, moment = surveys.means_and_residuals(survey_of(labels), 60, 24, 0, centre, sample)
    expected = np.zeros((40, 40))
    rows = fitting.centred(labels.logits.float().numpy(), centre)
    for image, view in itertools.product(range(20, 60), views):
        lam, partner = labels.views[view].lam[image], labels.views[view].partner[image]
        rest = rows[image, view] - lam * means[image] - (1 - lam) * means[partner]
        expected += np.outer(rest, rest)
    assert moment.rows == 40 * len(views)
    np.testing.assert_allclose(moment.total, expected, atol=1e-3 * np.trace(expected))
    assert surveys.means_and_residuals(survey_of(labels), 60, 24, 0, centre, np.arange(60))[1].rows == 0


@pytest.mark.parametrize(("n", "size", "budget"), [(60, 30, 6000), (100, 50, 10_000), (60, 20, 24_000)])
def test_in_few_shards_it_costs_nothing_to_speak_of(n, size, budget):
    """A shard knows many partners by itself; the trial that decides for the table must know them too."""
    labels = mixed(n)

    def left(survey: Survey | None) -> float:
        parts = shards(labels, size)
        shared = klt.fit(parts[0], budget, None, survey=survey)
        room = (budget - len(shared)) // len(parts)
        blobs = [klt.encode(part, room, None, shared=shared) for part in parts]
        return error(np.concatenate([klt.decode(blob, shared=shared).numpy() for blob in blobs]), labels)

    assert left(survey_of(labels)) <= 1.01 * left(None)


def test_a_hole_in_another_shard_is_named():
    labels = mixed(60)
    logits = labels.logits.clone()
    logits[45] = float("nan")
    holed = replace(labels, logits=logits)
    with pytest.raises(ValueError, match=r"of images 40 to 59, some views of a survey: .* nan at image 5"):
        klt.fit(shards(holed)[0], BUDGET, None, survey=survey_of(holed))


def test_few_views_are_asked_for_and_none_where_nothing_is_mixed():
    labels, asked = mixed(60), list[list[int]]()
    klt.fit(shards(labels)[0], BUDGET, None, survey=survey_of(labels, asked))
    assert len(asked) == 1
    assert len(asked[0]) == 16
    plain = [replace(view, partner=None, lam=None) for view in labels.views]
    some = replace(labels, views=[plain[0], *list(labels.views)[1:]])  # the first view alone mixes nothing
    klt.fit(shards(some)[0], BUDGET, None, survey=survey_of(some, asked))
    assert len(asked) == 2
    unmixed = replace(labels, views=plain)
    klt.fit(shards(unmixed)[0], BUDGET, None, survey=survey_of(unmixed, asked))
    assert len(asked) == 2


def test_a_table_that_does_not_pay_is_left_out():
    labels = mixed(N)
    noise = replace(labels, logits=labels.logits[np.random.default_rng(1).permutation(N)])  # partners say nothing
    shared, _, found = coded(noise, BUDGET, survey_of(noise))
    assert bases.from_bytes(shared).everyone is None
    assert error(found, noise) < 1.01 * error(coded(noise, BUDGET, None)[2], noise)


def test_rows_have_the_same_bits_as_in_the_whole():
    labels = mixed(60)
    shared, blobs, found = coded(labels, BUDGET // 2, survey_of(labels))
    assert bases.from_bytes(shared).everyone is not None
    for picked in ([3], [20, 1, 7]):
        rows = np.concatenate([klt.decode(blob, picked, shared=shared).numpy() for blob in blobs])
        assert np.array_equal(rows, found[:, picked])


def test_a_shared_part_of_a_smaller_set_is_refused():
    labels = mixed(60)
    shared = klt.fit(shards(labels)[0], BUDGET // 2, None, survey=survey_of(labels))
    stranger = SoftLabels(labels.logits[:5], labels.hard[:5], mixed(80).views, np.arange(70, 75))
    with pytest.raises(ValueError, match="was fitted on a set of 60 images"):
        klt.encode(stranger, 3000, None, shared=shared)


# --- least squares ---------------------------------------------------------------------------------------------------


@LAW
@given(n=st.integers(1, 9), s=st.integers(1, 6), seed=st.integers(0, 1000), mixing=st.sampled_from([0.0, 0.5, 1.0]))
def test_means_and_what_they_leave_are_those_of_dense_least_squares(n, s, seed, mixing):
    rng = np.random.default_rng(seed)
    lam = rng.random((n, s)).astype(np.float32)
    partner = np.where(rng.random((n, s)) < mixing, rng.integers(0, n, (n, s)), -1)
    values = rng.standard_normal((n, s, 4)).astype(np.float32)
    collected = LeastSquares(n, 4)
    for part in np.array_split(np.arange(n), 2):  # the images come in shards
        if len(part):
            collected.add(values[part], Side(lam[part], partner[part]), part)
    shares = np.zeros((n * s, n))
    for row, (image, view) in enumerate(np.ndindex(n, s)):
        shares[row, image] += lam[image, view]
        if partner[image, view] >= 0:
            shares[row, partner[image, view]] += 1 - lam[image, view]
    ridge = np.sqrt(0.5) * np.eye(n)
    dense, *_ = np.linalg.lstsq(np.vstack([shares, ridge]), np.vstack([values.reshape(-1, 4), np.zeros((n, 4))]))
    assert np.abs(collected.means() - dense).max() < 0.01 * max(1.0, np.abs(dense).max())
    left = values.reshape(-1, 4) - shares @ dense
    residuals = collected.residuals(dense.astype(np.float32))
    assert residuals.rows == n * s
    np.testing.assert_allclose(residuals.total, left.T @ left, atol=1e-3 * np.square(values).sum())


# --- the table -------------------------------------------------------------------------------------------------------


@LAW
@given(
    n=st.sampled_from([1, 3, 1025]),
    size=st.sampled_from([1, 5, 40]),
    octaves=st.integers(0, 12),
    loud=st.sampled_from([0.0, 1e-6, 1.0, 100.0]),
)
def test_a_table_reads_back_what_was_written(n, size, octaves, loud):
    means = (loud * np.random.default_rng(n + size).standard_normal((n, size))).astype(np.float32)
    scales = np.full(size, -16, np.int32)
    written = setmeans.code(means, scales, octaves * 1024, 3)
    back = setmeans.read(written.sections, n, scales, written.index, 3)
    assert np.array_equal(back.values, written.values)
    assert np.abs(written.values - means).max() <= 2.0 ** (5 - octaves)
    some = np.array([n - 1, 0])
    assert np.array_equal(back.of(some, 5), written.values[some] / 4)


def test_a_basis_keeps_its_table():
    labels = mixed(60)
    shared = klt.fit(shards(labels)[0], BUDGET // 2, None, survey=survey_of(labels))
    basis = bases.from_bytes(shared)
    again = bases.from_bytes(basis.to_bytes())
    assert basis.everyone is not None
    assert again.everyone is not None
    assert np.array_equal(again.everyone.values, basis.everyone.values)
    assert np.array_equal(again.means_of(np.arange(60)), basis.everyone.values)
    twice = basis.rescaled(basis.exponent + 1)
    assert np.array_equal(2 * twice.means_of(np.arange(60)), basis.everyone.values)


def test_side_information_names_strangers_once():
    labels = mixed(60)
    images = np.arange(10, 20)
    table = np.arange(60, dtype=np.float32)[:, None]
    side = sides.from_views(labels.views, images, table.__getitem__)
    partner = np.stack([view.partner[images] for view in labels.views], 1)
    everyone = np.concatenate([side.known, side.outside])
    assert np.array_equal(everyone[side.partner, 0], partner)
    assert len(np.unique(side.outside)) == len(side.outside)
    assert not np.isin(side.outside, images).any()


# --- blobs that were written once ------------------------------------------------------------------------------------


def test_a_blob_written_once_is_read_as_it_was_or_refused():
    """Shared part with a table, and a shard at a fine step with likely classes. If this fails, raise FORMAT in
    methods/_codec/klt/tables.py and write the file anew: `PYTHONPATH=. python
    tests/methods/compressors/test_klt_survey.py`."""
    with np.load(GOLDEN) as file:
        shared, blob, crc = file["shared"].tobytes(), file["blob"].tobytes(), int(file["crc"])
    basis = bases.from_bytes(shared)
    assert basis.everyone is not None
    parts = unpack(blob, "klt").sections
    assert parts["i"][3] < refine.NOTHING
    assert refine.step_of(int(parts["i"][1]), int(parts["i"][0])).finer < refine.step_of(0, 0).finer
    assert zlib.crc32(klt.decode(blob, shared=shared).numpy().tobytes()) == crc


def write_golden() -> None:
    """See above."""
    labels = mixed(120, 16, 120)
    loud = replace(labels, logits=(4 * labels.logits.float()).half())
    shared, blobs, found = coded(loud, 3 * BUDGET, survey_of(loud))
    raw = [np.frombuffer(data, np.uint8) for data in (shared, blobs[1])]
    crc = zlib.crc32(found[PER_SHARD : 2 * PER_SHARD].tobytes())
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, shared=raw[0], blob=raw[1], crc=np.uint32(crc))


if __name__ == "__main__":
    write_golden()
