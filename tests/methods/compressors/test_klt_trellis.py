"""Trellis-coded rows of klt: the best path, the words it becomes, and what was counted for its tables."""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import _compiled
from methods._codec.klt import kernels, tables, trellis
from methods._codec.klt.tables import ESCAPE_BITS, FRACTION, LAMBDA, LARGEST, LOWEST, STEP, STRIDE, TOP, UNITS
from methods._codec.klt.trellis import CODER, FIRST, HALF, SCORE_PARTS, WHOLE
from speed import klt_bound, klt_trellis
from tests.worlds import ROOT

LAW = settings(max_examples=60, deadline=None, derandomize=True)
MODEL = CODER._model
ALL = slice(None)


def drawn(seed: int, rows: int, width: int, loudest: int, far: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients in falling order of scale, float32 [rows, width], and log-scales; rows differ from what is said."""
    rng = np.random.default_rng(seed)
    base = np.linspace(loudest, LOWEST - 8, width).astype(np.int32)
    louder = rng.normal(0, 8, (rows, 1))
    values = far * 2.0 ** ((base + louder) / UNITS) * rng.standard_normal((rows, width))
    return np.clip(values, -1e30, 1e30).astype(np.float32), base


def quantiser(state: int) -> int:
    """Ungerboeck's 126 (octal), 1010110: what stood in the register 1, 2, 4 and 6 levels ago, added."""
    return sum(state >> (7 - ago) & 1 for ago in (1, 2, 4, 6)) % 2


def follow(state: int, level: int) -> int:
    """The register of seven bits shifts down; the new one is the level's lowest, with those 2, 3, 4 and 7 levels ago
    added: Ungerboeck's 235 (octal), 10011101."""
    return state >> 1 | ((level + sum(state >> (7 - ago) for ago in (2, 3, 4, 7))) % 2) << 6


def naive_cells(levels: list[int], base: np.ndarray) -> tuple[list[int], list[int]]:
    """Bucket (-1: certainly zero) and quantiser of each coefficient of a row."""
    buckets, quantisers = [], []
    gain, information, louder, state, start, size = 0, trellis.PRIOR, 0, 0, 0, 4
    while start < len(base):
        seen = heard = 0
        for place in range(start, min(start + size, len(base))):
            bucket = (int(base[place]) + louder - (LOWEST - STEP // 2)) // STEP
            buckets.append(bucket if bucket >= FIRST else -1)
            quantisers.append(quantiser(state))
            if bucket < FIRST:
                continue
            raw = max(0, -(-(bucket - TOP) // 4))
            table = 2 * min(bucket - 4 * raw, TOP) + quantiser(state)
            seen += int(MODEL.information[table // 2])
            heard += int(MODEL.score[table * STRIDE + min(abs(levels[place]) >> raw, LARGEST)])
            state = follow(state, abs(levels[place]))
        if seen:
            information = min(information + seen, trellis.MEMORY)
            gain += heard * (tables.GAIN_ONE // SCORE_PARTS) * trellis.FINE // information
            louder = min(max(gain // (trellis.FINE * 2) * 2 + 1, -trellis.FARTHEST), trellis.FARTHEST)
        start, size = start + size, min(2 * size, 128)
    return buckets, quantisers


def naive_point(level: int, bucket: int, side: int) -> int:
    size = abs(level)
    if bucket <= TOP and size < LARGEST:
        point = int(MODEL.points[(2 * bucket + side) * STRIDE + size])
    else:
        point = HALF * (2 * size - side) if size else 0
    return point if level > 0 else -point


@pytest.mark.parametrize("loudest", [-20, 20, 60, 400])
def test_levels_mean_what_a_plain_walk_along_the_row_says(loudest):
    values, base = drawn(1, 5, 90, loudest)
    rows = CODER.rows(values, base)
    whole = CODER.restored(rows)
    for levels, cells, found in zip(rows.levels.tolist(), rows.cells.tolist(), whole.tolist(), strict=True):
        buckets, quantisers = naive_cells(levels, base)
        assert cells == [2 * b + q if b >= 0 else -1 for b, q in zip(buckets, quantisers, strict=True)]
        told = zip(levels, buckets, quantisers, strict=True)
        assert found == [naive_point(level, bucket, side) if bucket >= 0 else 0 for level, bucket, side in told]


@numba.njit
def survived(best: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    after, back = np.zeros_like(best), np.zeros(len(best) // 8, np.uint8)
    kernels._survive(best.ctypes.data, after.ctypes.data, back.ctypes.data, cost[0], cost[1], cost[2], cost[3])
    return after, back


@pytest.mark.parametrize("seed", range(4))
def test_the_better_of_two_ways_survives(seed):
    """Vector instructions beside a plain loop over states and levels; of equal ways the one from the even state."""
    rng = np.random.default_rng(seed)
    most = (5, 1 << 45)[seed % 2]
    best, cost = rng.integers(-most, most, kernels.STATES), rng.integers(-most, most, 4)
    best[rng.integers(0, kernels.STATES, 40)] += kernels._NEVER
    after, back = survived(best, cost)
    ways: dict[int, list[tuple[int, int]]] = {state: [] for state in range(kernels.STATES)}
    for state in range(kernels.STATES):
        for parity in (0, 1):
            price = best[state] + cost[2 * quantiser(state) + parity]
            ways[follow(state, parity)].append((int(price), state & 1))
    assert after.tolist() == [min(ways[state])[0] for state in ways]
    assert np.unpackbits(back, bitorder="little").tolist() == [min(ways[state])[1] for state in ways]


def cost_of(levels: tuple[int, ...], values: np.ndarray, buckets: list[int]) -> float:
    """Squared error + LAMBDA * bits of a row within one wave."""
    state, total = 0, 0.0
    for level, value, bucket in zip(levels, values.tolist(), buckets, strict=True):
        side = quantiser(state)
        point = naive_point(level, bucket, side) / FRACTION
        total += (value - point) ** 2 + LAMBDA * float(MODEL.bits[(2 * bucket + side) * STRIDE + abs(level)])
        state = follow(state, abs(level))
    return total


@pytest.mark.parametrize("seed", range(6))
def test_no_path_is_better_than_the_one_taken(seed):
    """Beside all paths of four levels, of which a wave is."""
    rng = np.random.default_rng(seed)
    buckets = rng.integers(FIRST + 2, 10, 4).tolist()
    base = (LOWEST + STEP * np.array(buckets)).astype(np.int32)
    values = (2.0 ** (base / UNITS) * rng.standard_normal(4)).astype(np.float32)
    taken = tuple(CODER.rows(values[None], base).levels[0].tolist())
    signs = [1 if value >= 0 else -1 for value in values]
    least = min(
        cost_of(tuple(s * m for s, m in zip(signs, sizes, strict=True)), values, buckets)
        for sizes in itertools.product(range(5), repeat=4)
    )
    # Costs are counted in 1/4096, and which levels are near is looked up in 1/16.
    assert cost_of(taken, values, buckets) == pytest.approx(least, abs=4e-3)


@LAW
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 4),
    width=st.integers(1, 300),
    loudest=st.sampled_from([LOWEST - 8, -10, 30, 60, 200, 2000]),
    far=st.sampled_from([0.0, 1.0, 30.0, 1e5, 1e12]),
)
def test_words_read_back_to_what_was_written(seed, rows, width, loudest, far):
    values, base = drawn(seed, rows, width, loudest, far)
    coded = CODER.rows(values, base)
    back = np.zeros(values.shape)
    CODER.reader(CODER.write([coded.some(ALL)])).rows(base[None], np.zeros(rows, np.int64), back)
    assert back.tolist() == CODER.restored(coded).tolist()


def test_rows_of_several_images_stand_one_image_after_the_other():
    parts = [drawn(seed, 3, 60, loud) for seed, loud in ((1, 30), (2, 60))]
    coded = [CODER.rows(*part) for part in parts]
    back = np.zeros((4, 60))
    words = CODER.write([one.some(slice(1, 3)) for one in coded])
    CODER.reader(words).rows(np.stack([base for _, base in parts]), np.array([0, 0, 1, 1]), back)
    for place, one in enumerate(coded):
        assert back[2 * place : 2 * place + 2].tolist() == CODER.restored(one)[1:].tolist()


@LAW
@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.sampled_from([0, 1, 3, 4, 5, 77]), min_size=1, max_size=5),
    far=st.sampled_from([0.0, 1.0, 1e5]),
)
def test_what_is_written_together_is_read_in_turn(seed, lengths, far):
    """Paths of some lengths, then rows, then the same paths again; each path is what it would be by itself."""
    values, base = drawn(seed, 1, sum(lengths), 60, far)
    bounds = np.append(0, np.cumsum(lengths))
    paths, rows = CODER.along(values[0], base, bounds), CODER.rows(*drawn(seed, 3, 50, 40))
    words = CODER.write([paths.some(ALL), rows.some(ALL), *(paths.some(slice(*p)) for p in itertools.pairwise(bounds))])
    reader, back = CODER.reader(words), np.zeros((3, 50))
    first = reader.along(base, bounds)
    reader.rows(drawn(seed, 3, 50, 40)[1][None], np.zeros(3, np.int64), back)
    assert first.tolist() == reader.along(base, bounds).tolist() == CODER.restored(paths).tolist()
    assert back.tolist() == CODER.restored(rows).tolist()
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        alone = CODER.rows(values[:, start:stop], base[start:stop])
        assert alone.levels[0].tolist() == paths.levels[start:stop].tolist()
        assert alone.bits[0] == paths.bits[number]


def naive_read(words: list[int], base: np.ndarray, width: int) -> list[int]:
    """Levels of one row in Python's integers, which do not run over; a cell is told when its turn comes."""
    state, rest = words[0] << 32 | words[1], words[2:]

    def advance(start: int, frequency: int) -> None:
        nonlocal state
        state = frequency * (state >> 16) + state % WHOLE - start
        if state < 1 << 31:
            state = state << 32 | (rest.pop(0) if rest else 0)

    def raw_bits(count: int) -> int:
        value = 0
        chunks = [min(15, count - low) for low in range(0, count, 15)]
        for chunk in chunks[::-1]:
            part = state % WHOLE >> 16 - chunk
            advance(part << 16 - chunk, 1 << 16 - chunk)
            value = value << chunk | part
        return value

    levels: list[int] = []
    for place in range(width):
        buckets, quantisers = naive_cells([*levels, *[0] * (width - place)], base)
        bucket, side = buckets[place], quantisers[place]
        if bucket < 0:
            levels.append(0)
            continue
        octaves = max(0, -(-(bucket - TOP) // 4))
        first = (2 * min(bucket - 4 * octaves, TOP) + side) * STRIDE
        cumulative = MODEL.cumulative[first : first + LARGEST + 2].tolist()
        size = next(m for m in range(LARGEST + 1) if cumulative[m + 1] > state % WHOLE)
        advance(cumulative[size], cumulative[size + 1] - cumulative[size])
        low = raw_bits(octaves)
        if size == LARGEST:
            length = raw_bits(ESCAPE_BITS)
            size += (1 << length | raw_bits(length)) - 1
        size = size << octaves | low
        levels.append(-size if size and raw_bits(1) else size)
    return levels


@pytest.mark.parametrize(("loudest", "far"), [(20, 1.0), (20, 500.0), (150, 1.0), (60, 1e4)])
def test_a_plain_reader_finds_the_same_levels(loudest, far):
    values, base = drawn(3, 1, 40, loudest, far)
    coded = CODER.rows(values, base)
    assert naive_read(CODER.write([coded.some(ALL)]).tolist(), base, 40) == coded.levels[0].tolist()


def test_levels_take_two_bytes_where_all_fit_and_rows_with_larger_ones_can_take_their_place():
    quiet, loud = CODER.rows(*drawn(3, 4, 40, 60, 1.0)), CODER.rows(*drawn(5, 2, 40, 60, 1e5))
    assert (quiet.levels.dtype, loud.levels.dtype) == (np.int16, np.int32)
    assert np.abs(loud.levels).max() > np.iinfo(np.int16).max
    at, others = np.array([1, 3]), np.array([0, 2])
    merged, left = CODER.rows(*drawn(3, 4, 40, 60, 1.0)).with_rows(at, loud), quiet.some(others)
    assert np.array_equal(merged.levels[at], loud.levels)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(merged.some(others), left, strict=True))
    assert np.array_equal(CODER.restored(merged)[at], CODER.restored(loud))


@pytest.mark.parametrize(("loudest", "far"), [(0, 1.0), (60, 1.0), (300, 1.0), (60, 20.0)])
def test_sizes_are_foretold(loudest, far):
    coded = CODER.rows(*drawn(4, 200, 200, loudest, far))
    assert 8 * CODER.write([coded.some(ALL)]).nbytes == pytest.approx(coded.bits.sum(), rel=0.01, abs=96)


@LAW
@given(seed=st.integers(0, 10_000), count=st.integers(0, 20))
def test_any_words_are_read_without_harm(seed, count):
    """Checksums find damage first; what is behind them must not crash. In a blob words stand anywhere, read-only."""
    words = np.frombuffer(np.random.default_rng(seed).bytes(4 * count + 1), "<u4", count, offset=1)
    _, base = drawn(seed, 1, 200, 300)
    whole = np.zeros((2, 200))
    CODER.reader(words).rows(base[None], np.zeros(2, np.int64), whole)
    assert np.isfinite(whole).all()


def test_more_weight_of_bits_means_fewer_bits_and_a_larger_error():
    values, base = drawn(5, 100, 300, 40)
    found = []
    for weight in (0.7, 1.0, 1.4):
        coded = CODER.rows(values, base, weight)
        whole = CODER.restored(coded)
        found.append((coded.bits.sum(), float(np.square(whole / FRACTION - values).sum())))
    assert found[0][0] > found[1][0] > found[2][0]
    assert found[0][1] < found[1][1] < found[2][1]


def test_a_path_costs_less_than_a_scalar_quantiser_and_more_than_any_can():
    """On normal coefficients of one scale after the other: squared error + LAMBDA * bits."""
    rng = np.random.default_rng(0)
    for bucket in range(3, tables.BUCKETS, 4):  # below, most levels are zero and nothing is to be won
        scale = klt_bound.scale_of(bucket)
        base = np.full(100, LOWEST + STEP * bucket, np.int32)
        values = (scale * rng.standard_normal((300, 100))).astype(np.float32)
        coded = CODER.rows(values, base)
        whole = CODER.restored(coded)
        error = float(np.square(whole / FRACTION - values).mean())
        cost = error + LAMBDA * coded.bits.sum() / values.size
        bits, error = klt_bound.scalar(bucket)
        least_bits, least_error = klt_bound.bound(scale, LAMBDA, spread=0.0)
        assert least_error + LAMBDA * least_bits < cost < error + LAMBDA * bits, bucket


def test_tables_are_whole_frequencies():
    frequencies = np.diff(MODEL.cumulative.reshape(-1, STRIDE)[:, : LARGEST + 2], axis=1)
    assert (frequencies >= 1).all()
    assert (frequencies.sum(1) == WHOLE).all()


@functools.cache
def recounted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return klt_trellis.counted(rows=4000, rounds=24)


def test_tables_are_what_is_counted():
    """Bits that levels take by the tables that ship, beside those by tables counted anew on fewer rows."""
    frequencies = recounted()[0]
    kept = np.diff(MODEL.cumulative.reshape(-1, STRIDE)[:, : LARGEST + 2], axis=1).reshape(frequencies.shape)
    p, q = (table[FIRST:] / WHOLE for table in (frequencies, kept))
    assert ((p * np.log2(p / q)).sum(2) < 0.03).all()


def test_points_and_scores_follow_from_what_is_counted():
    """Points beside those counted anew, where a level is not rare; scores from the frequencies that ship."""
    frequencies, points, _ = recounted()
    often = frequencies > WHOLE // 10
    assert (np.abs(points - (trellis.grid() - trellis.NEARER))[often] <= 3).all()
    assert np.array_equal(np.rint(SCORE_PARTS * klt_trellis.slopes(trellis.FREQUENCIES / WHOLE)), trellis.SCORES)


def test_tables_that_are_counted_can_be_read_as_a_module():
    frequencies, points, scores = recounted()
    made: dict[str, np.ndarray] = {}
    exec(klt_trellis.source(frequencies, points, scores), made)
    assert np.array_equal(made["FREQUENCIES"], frequencies)
    assert np.array_equal(trellis.grid() - made["NEARER"], points)
    assert np.array_equal(made["SCORES"], scores)


def test_compiled_code_that_cannot_be_kept_on_disk_is_compiled_each_time(monkeypatch):
    """As numba says it where neither the folder of the file nor the user's cache can be written."""
    real = _compiled.njit

    def without_a_cache(cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available for file")
        return real(**options)

    monkeypatch.setattr(_compiled, "njit", without_a_cache)
    assert _compiled.compiled(lambda x: x + 1)(2) == 3


def test_sums_that_survivors_carry_do_not_run_over():
    """Scores of a wave share 32 bits with a state; levels that are near are looked up as bytes. A quotient of scores
    is rounded down in double precision as integers are: both of its numbers are far below 2^26."""
    assert int(np.abs(MODEL.score).max()) * kernels.STATES * 128 < 2**31
    assert LARGEST - 1 <= 127
    assert int(np.abs(MODEL.score).max()) * 128 < 2**26
    assert trellis.MEMORY < 2**26


def test_compiled_code_keeps_within_its_arrays(tmp_path):
    """Damaged words and numbers that are none, in a process that checks every index."""
    program = (
        "import numpy as np\n"
        "from methods._codec.klt.trellis import CODER\n"
        "base, rng = np.linspace(300, -40, 60).astype(np.int32), np.random.default_rng(0)\n"
        "for bad in (np.nan, np.inf, 1e30, 0.0):\n"
        "    values = rng.standard_normal((2, 60)).astype(np.float32); values[:, ::7] = bad\n"
        "    words = CODER.write([CODER.rows(values, base).some(slice(None))])\n"
        "    for some in (words, words[:1], words[::-1], ~words):\n"
        "        CODER.reader(some).rows(base[None], np.zeros(2, np.int64), np.zeros((2, 60)))\n"
        "print('done')"
    )
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", program]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "done", found.stderr
