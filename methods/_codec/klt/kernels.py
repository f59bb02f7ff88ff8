"""Trellis-coded quantisation and its range coding, one coefficient after the other, compiled by numba.

A row, or whatever else is a sequence, is one path through a trellis of `STATES` states (Ungerboeck 1982; Marcellin and
Fischer 1990, entropy-coded: Fischer and Wang 1992). The state of a coefficient says which of two quantisers it has,
whose points alternate: the even multiples of half a distance, or zero and the odd ones; whether a level is even or odd
says to which state the path goes on. The encoder finds the path of the least distortion + lambda * bits by the
algorithm of Viterbi.

A path has waves that widen. What a wave turned out to be tells the decoder whether the path is louder or quieter than
its scales say, as rows are that are ordered by variance; the gain is the running estimate of a one-dimensional filter
(Fisher scoring: sum of scores over sum of information). Each survivor of the trellis has its own; those whose gain is
not that of the best are given up where a wave ends, so that all have the same scales ahead.

Levels go into one stream of words by asymmetric numeral systems (Duda 2013), magnitude, sign, and what a table does not
tell. All that a decoder computes is integers. Numbers from other modules come in a `Model`: what is compiled is kept on
disk and is made again when this file changes, not when others do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from methods._compiled import compiled

_MEMORY = 7  # bits of a state
STATES = 1 << _MEMORY
_CODE = 0o235, 0o126  # Ungerboeck's of 128 states: which bits before tell the level's lowest, and which the quantiser


def _parities(polynomial: int) -> np.ndarray:
    """int64 [STATES]: whether an odd number of the bits that it takes are one: the bit `delay` levels ago, if its bit
    of that number is one. Of a state the highest is the last."""
    taken = sum((polynomial >> delay & 1) << (_MEMORY - delay) for delay in range(1, _MEMORY + 1))
    return np.array([(state & taken).bit_count() & 1 for state in range(STATES)], np.int64)


_NEXT, _QUANTISER = (_parities(polynomial) for polynomial in _CODE)  # with the lowest of the level: the next bit
_FIRST_WAVE, _LAST_WAVE = 4, 128
_TABLE_BITS = 16  # of frequencies, and of what goes out raw at once
_LOWER = 1 << 31  # the coder's state is at least that between symbols
_SHIFT = 47  # what makes room for a symbol of frequency f starts at f << 47
_WORD = (1 << 32) - 1
_COUNTED = np.float32(4096)  # costs are multiples of so small a part of a squared step
_NEVER = 1 << 60
_PER_STEP = 16  # values are told apart so far when it is looked up which levels are near
_HALF = STATES // 2
# Of a state, with a next bit of zero: twice its quantiser, and whether the level is odd.
_BY = 2 * _QUANTISER + _NEXT
_AT_ONCE = 8  # states: as many bits are a byte
_INT32, _INT64 = ir.IntType(32), ir.IntType(64)


class Model(NamedTuple):
    """What levels cost and mean. Tables are flat: their places are (2 * bucket + quantiser) * stride + magnitude."""

    bits: np.ndarray  # float32: of a magnitude with its sign
    points: np.ndarray  # int32: what it stands for, 1/fraction
    cumulative: np.ndarray  # int32: frequencies of all smaller ones, of 2^16
    smallest: np.ndarray  # uint8 [2 * buckets * 2^8]: for each high byte of 2^16 the least magnitude that has it
    score: np.ndarray  # int32: what it says of the gain
    information: np.ndarray  # int32 [buckets]
    growth: np.ndarray  # float64 [buckets]: bits for each octave that a scale rises
    weight: float  # what a bit is worth, squared steps
    half: int  # 1/fraction: half the distance of two points of one quantiser
    fraction: int
    zero: int  # where the scales of bucket 0 begin, units
    first: int  # scales of buckets below it have only zeros
    bucket_bits: int  # log2 of units in a bucket
    octave_bits: int  # log2 of buckets in an octave
    top: int  # the last bucket that has tables
    largest: int  # magnitudes from which on they are escaped
    escape_bits: int
    stride: int
    most_raw: int
    loudest: int  # no level is above that
    prior: int
    memory: int
    heard: int  # what a sum of scores is multiplied by before it is divided by information
    fine: int
    grid: int  # gains are multiples of it, units
    farthest: int


@njit(inline="always")
def _quantiser(state: int) -> int:
    return _QUANTISER[state]


@njit(inline="always")
def _follow(state: int, level: int) -> int:
    """The state after a level: a register of bits that are shifted towards the lowest."""
    return state >> 1 | ((level ^ _NEXT[state]) & 1) << _MEMORY - 1


@njit(inline="always")
def _bucket(units: int, model: Model) -> int:
    found = (units - model.zero) >> model.bucket_bits
    return found if found >= model.first else -1


@njit(inline="always")
def _octaves(bucket: int, model: Model) -> int:
    above = (bucket + (1 << model.octave_bits) - 1 - model.top) >> model.octave_bits
    return 0 if above < 0 else min(above, model.most_raw)


@njit(inline="always")
def _table(bucket: int, raw: int, model: Model) -> int:
    """Of which bucket the tables are used, for levels without their lowest bits."""
    return min(bucket - (raw << model.octave_bits), model.top)


@njit(inline="always")
def _louder(gain: int, model: Model) -> int:
    grid = model.grid
    found = gain // (model.fine * grid) * grid + (grid >> 1)
    return max(-model.farthest, min(found, model.farthest))


@njit(inline="always")
def _point(size: int, quantiser: int, model: Model) -> int:
    """Where no table tells it."""
    return (2 * size - quantiser) * model.half if size else 0


@njit(inline="always")
def _sign_besides(high: int, level: int) -> int:
    """Bits of a sign that a table does not count."""
    return 1 if high == 0 and level else 0


@njit(inline="always")
def _key(cost: np.float32, score: int) -> np.int64:
    """What a level adds to a survivor."""
    return (np.int64(cost * _COUNTED) << 32) + score


@compiled
def near(model: Model, choice: np.ndarray) -> None:
    """Fills `choice`, int8 [buckets, values, 4]: which even and which odd magnitude of the first quantiser, and of the
    other, is best for a value of so many 1/_PER_STEP steps, what its bits weigh included."""
    buckets, values, _ = choice.shape
    for table in range(2 * buckets):
        cell, quantiser = table * model.stride, table & 1
        for at in range(values):
            value = at / _PER_STEP
            low = int(value * model.fraction / (2 * model.half) + 0.5 * quantiser)
            for parity in range(2):
                best = np.inf
                for level in range(parity, min(low + 3, model.largest), 2):
                    error = value - model.points[cell + level] / model.fraction
                    cost = error * error + model.weight * model.bits[cell + level]
                    if cost < best:
                        best = cost
                        choice[table >> 1, at, 2 * quantiser + parity] = level


@njit
def _offer(
    values: np.ndarray,
    base: np.ndarray,
    wave: tuple[int, int],
    louder: int,
    model: Model,
    scaled: tuple,
    count: int,
    live: tuple,
) -> tuple[int, int]:
    """For each coefficient of a wave that is not certainly zero the best even and the best odd level of both
    quantisers, and what they cost.

    Args:
        values: float32 [m], in steps, of a path.
        base: int32 [m], its log-scales but for its gain.
        wave: where it begins, and ends.
        louder: the gain, units.
        model: what levels cost and mean.
        scaled: what `quantise` made of its tables, and of those from `near`.
        count: how many there were before.
        live: of each, filled: cost and level [4 m], place and bucket [m].

    Returns:
        How many there are now, and the information of the wave.
    """
    # Once a wave, since to hand on arrays takes atomic instructions that count who has them.
    points, bits, told, choice, looked_up, weight = scaled
    cost, levels, places, buckets = live
    largest, seen = model.largest, 0
    distance, fraction = np.float32(2 * model.half) / np.float32(model.fraction), np.float32(model.fraction)
    for place in range(wave[0], wave[1]):
        bucket = _bucket(base[place] + louder, model)
        if bucket < 0:
            continue
        raw = _octaves(bucket, model)
        narrow = _table(bucket, raw, model)
        seen += model.information[narrow]
        value = abs(values[place])
        if not value <= model.loudest:  # whatever it is, it must not be an index
            value = np.float32(model.loudest)
        near_at = int(value * np.float32(_PER_STEP) + np.float32(0.5))
        if raw == 0 and near_at < looked_up:
            # Unsigned, so that it is not tried first whether an index counts from the end.
            first = 4 * (looked_up * narrow + near_at)
            for which in range(4):
                level = np.int64(choice[np.uint64(first + which)])
                cell = np.uint64((2 * narrow + (which >> 1)) * model.stride + level)
                error = value - points[cell]
                cost[np.uint64(4 * count + which)] = _key(error * error + bits[cell], told[cell])
                levels[np.uint64(4 * count + which)] = level
        else:
            for quantiser in range(2):
                cell = (2 * narrow + quantiser) * model.stride
                low = int(value / distance + np.float32(0.5 * quantiser))
                for size in (low, low + 1):
                    high = min(size >> raw, largest)
                    error = value - np.float32(_point(size, quantiser, model)) / fraction
                    besides = weight * np.float32(raw + _sign_besides(high, size))
                    at = 4 * count + 2 * quantiser + (size & 1)
                    cost[at] = _key(error * error + bits[cell + high] + besides, told[cell + high])
                    levels[at] = size
        places[count], buckets[count] = place, bucket
        count += 1
    return count, seen


@intrinsic
def _survive(
    typing: object,
    best: types.Type,
    after: types.Type,
    back: types.Type,
    even: types.Type,
    odd: types.Type,
    other_even: types.Type,
    other_odd: types.Type,
) -> tuple[object, Callable]:
    """The better of both ways into each state: 2 i and 2 i + 1 come before i, where the next bit is zero, and before
    i + half of all states.

    Vector instructions, `_AT_ONCE` states at a time: a compiler that is given loops makes four times as many of them.

    Args:
        best: address of int64 [STATES]: what survivors cost.
        after: address of the same a coefficient later, filled.
        back: address of a bit for each state, filled: whether the way comes from 2 i + 1. The first is the lowest of a
            byte where bytes are little-endian, which all machines are that numba compiles for.
        even, odd: int64: what the best such level of one quantiser costs.
        other_even, other_odd: of the other.
    """
    signature = types.void(types.intp, types.intp, types.intp, *4 * (types.int64,))

    def generate(_: object, build: ir.IRBuilder, __: object, given: tuple[ir.Value, ...]) -> None:
        four = ir.Constant(ir.VectorType(_INT64, 4), ir.Undefined)
        for place, cost in enumerate(given[3:]):
            four = build.insert_element(four, cost, ir.Constant(_INT32, place))

        def at(address: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
            return build.inttoptr(build.add(address, ir.Constant(address.type, offset)), kind.as_pointer())

        def picked(vector: ir.Value, places: Sequence[int]) -> ir.Value:
            mask = ir.Constant(ir.VectorType(_INT32, len(places)), list(places))
            return build.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

        whole, decisions = ir.VectorType(_INT64, 2 * _AT_ONCE), ir.IntType(_AT_ONCE)
        for start in range(0, _HALF, _AT_ONCE):
            before = build.load(at(given[0], 16 * start, whole), align=8)
            even, odd = picked(before, range(0, 2 * _AT_ONCE, 2)), picked(before, range(1, 2 * _AT_ONCE, 2))
            by = [int(one) for one in _BY[2 * start : 2 * (start + _AT_ONCE) : 2]]
            there, besides = picked(four, by), picked(four, [one ^ 1 for one in by])
            for first, second, state in ((there, besides, start), (besides, there, start + _HALF)):
                one, two = build.add(even, first), build.add(odd, second)
                better = build.icmp_signed("<", two, one)
                build.store(build.select(better, two, one), at(given[1], 8 * state, one.type), align=8)
                build.store(build.bitcast(better, decisions), at(given[2], state // 8, decisions), align=1)

    return signature, generate


@njit(inline="always")
def _agree(best: np.ndarray, gain: np.ndarray, gain_next: np.ndarray, information: int, model: Model) -> int:
    """Where a wave ends: survivors' gains, and those given up that do not agree with the best; by how much its row is
    louder, units."""
    leader, seen = 0, np.float64(information)
    for state in range(STATES):
        if best[state] < best[leader]:
            leader = state
        carried = np.int64(np.int32(best[state] & _WORD))
        # Exact: numerators are below 2^53, and no quotient that is not whole is so near a whole number.
        more = np.floor(np.float64((carried >> _MEMORY) * model.heard) / seen)
        gain_next[state] = gain[carried & (STATES - 1)] + np.int64(more)
    together, least = model.fine * model.grid, best[leader] >> 32 << 32
    lowest = gain_next[leader] // together * together
    for state in range(STATES):
        gain[state] = gain_next[state]
        agrees = lowest <= gain[state] < lowest + together
        best[state] = ((best[state] - least) >> 32 << 32 if agrees else _NEVER) + state
    return _louder(gain_next[leader], model)


@compiled
def quantise(
    values: np.ndarray,
    bounds: np.ndarray,
    base: np.ndarray,
    starts: np.ndarray,
    model: Model,
    choice: np.ndarray,
    levels: np.ndarray,
    cells: np.ndarray,
    bits: np.ndarray,
) -> float:
    """The levels of the best paths.

    Args:
        values: float32 [m], in steps, path after path.
        bounds: int64 [p + 1], where paths begin and the last one ends.
        base: int32, log-scales but for each path's gain.
        starts: int64 [p], where in `base` those of a path begin.
        model: what levels cost and mean.
        choice: from `near`.
        levels: int32 [m], filled.
        cells: int16 [m], filled: 2 * bucket + quantiser, -1 where a level is certainly zero.
        bits: float64 [p], filled: what paths take.

    Returns:
        By how many bits all of them grow for each octave that the step gets finer.
    """
    longest = 0
    for path in range(len(starts)):
        longest = max(longest, bounds[path + 1] - bounds[path])
    weight = np.float32(model.weight)
    points = model.points.astype(np.float32) / np.float32(model.fraction)
    costs = model.bits * weight, model.score.astype(np.int64) << _MEMORY
    scaled = (points, *costs, choice.ravel(), choice.shape[1], weight)
    # Survivors: the cost so far in the upper half of a number; in the lower, which the same sum carries along, scores
    # in this wave, and the state where the wave began in the lowest bits. A minimum of integers takes no branch.
    best, now = np.empty((2, STATES), np.int64), 0
    gain, gain_next = np.empty(STATES, np.int64), np.empty(STATES, np.int64)
    cost, offered = np.empty(4 * longest, np.int64), np.empty(4 * longest, np.int32)
    places, buckets = np.empty(longest, np.int64), np.empty(longest, np.int64)
    live = cost, offered, places, buckets
    back = np.empty((longest, STATES // 8), np.uint8)
    here, there = (best[0].ctypes.data, best[1].ctypes.data), back.ctypes.data
    growth = 0.0
    for path in range(len(starts)):
        first, length = bounds[path], bounds[path + 1] - bounds[path]
        mine, scales = values[first : first + length], base[starts[path] : starts[path] + length]
        for state in range(STATES):
            best[now, state], gain[state] = _NEVER + state, 0
        best[now, 0] = 0
        information, louder, count = model.prior, 0, 0
        start, size = 0, _FIRST_WAVE
        while start < length:
            wave = start, min(start + size, length)
            before = count
            count, seen = _offer(mine, scales, wave, louder, model, scaled, before, live)
            for step in range(before, count):
                one, other = (cost[4 * step], cost[4 * step + 1]), (cost[4 * step + 2], cost[4 * step + 3])
                _survive(here[now], here[1 - now], there + step * (STATES // 8), one[0], one[1], other[0], other[1])
                now = 1 - now
            start, size = wave[1], min(2 * size, _LAST_WAVE)
            if start < length and seen:
                information = min(information + seen, model.memory)
                louder = _agree(best[now], gain, gain_next, information, model)
        filled = levels[first : first + length], cells[first : first + length]
        bits[path], grows = _trace(int(best[now].argmin()), back, count, live, mine, model, *filled)
        growth += grows
    return growth


@njit
def _trace(
    state: int,
    back: np.ndarray,
    count: int,
    live: tuple,
    values: np.ndarray,
    model: Model,
    levels: np.ndarray,
    cells: np.ndarray,
) -> tuple[float, float]:
    """Fills levels and cells of the path that ends in a state, and tells its bits and their growth by octave."""
    _, offered, places, buckets = live
    levels[:], cells[:] = 0, -1
    total, growth = 0.0, 0.0
    for step in range(count - 1, -1, -1):
        before = 2 * (state & (_HALF - 1)) + (back[step, state >> 3] >> (state & 7) & 1)
        level = np.int64(offered[4 * step + (_BY[before] ^ (state >> _MEMORY - 1))])
        place, bucket, quantiser, state = places[step], buckets[step], _quantiser(before), before
        levels[place] = level if values[place] >= 0 else -level
        cells[place] = 2 * bucket + quantiser
        raw = _octaves(bucket, model)
        narrow, high = _table(bucket, raw, model), min(level >> raw, model.largest)
        total += model.bits[(2 * narrow + quantiser) * model.stride + high] + raw + _sign_besides(high, level)
        growth += model.growth[narrow]
        if high == model.largest:
            total += math.floor(math.log2((level >> raw) - model.largest + 1.0)) + model.escape_bits
    return total, growth


@compiled
def restore(levels: np.ndarray, cells: np.ndarray, model: Model, whole: np.ndarray) -> None:
    """Adds to float64 `whole` [m] what levels stand for, 1/fraction steps."""
    for place in range(len(levels)):
        cell, level = cells[place], levels[place]
        if cell < 0 or level == 0:
            continue
        bucket, quantiser, size = cell >> 1, cell & 1, abs(level)
        if bucket <= model.top and size < model.largest:
            point = np.int64(model.points[cell * model.stride + size])
        else:
            point = _point(np.int64(size), quantiser, model)
        whole[place] += point if level > 0 else -point


@njit(inline="always")
def _put(state: int, words: np.ndarray, count: int, start: int, frequency: int) -> tuple[int, int]:
    """One symbol; the coder's state and how many words there are."""
    if state >= frequency << _SHIFT:
        words[count] = state & _WORD
        count += 1
        state >>= 32
    whole = state // frequency
    return (whole << _TABLE_BITS) + state - whole * frequency + start, count


@njit(inline="always")
def _put_bit(state: int, words: np.ndarray, count: int, bit: int) -> tuple[int, int]:
    """`_put_raw` of one bit."""
    half = _TABLE_BITS - 1
    if state >= 1 << _SHIFT + half:
        words[count] = state & _WORD
        count += 1
        state >>= 32
    return (state >> half << _TABLE_BITS) + (state & ((1 << half) - 1)) + (bit << half), count


@njit(inline="always")
def _put_raw(state: int, words: np.ndarray, count: int, value: int, bits: int) -> tuple[int, int]:
    """The lowest bits of a number, so that the highest are read first."""
    low = 0
    while low < bits:
        width = min(_TABLE_BITS - 1, bits - low)
        part = value >> low & ((1 << width) - 1)
        shift = _TABLE_BITS - width
        state, count = _put(state, words, count, part << shift, 1 << shift)
        low += width
    return state, count


@compiled
def write(levels: np.ndarray, cells: np.ndarray, model: Model) -> np.ndarray:
    """uint32 words: levels [m] with their cells; none where all levels are certainly zero."""
    words = np.empty(1024, np.uint32)
    state, count, any_level = np.int64(_LOWER), 0, False
    for place in range(len(levels) - 1, -1, -1):
        cell = np.int64(cells[place])
        if cell < 0:
            continue
        # A magnitude takes at most 16 bits, and what it escapes 5 and twice 31, its lowest ones 30.
        if count + 8 > len(words):
            longer = np.empty(2 * len(words), np.uint32)
            longer[:count] = words[:count]
            words = longer
        any_level = True
        bucket, level = cell >> 1, np.int64(levels[place])
        size = abs(level)
        raw = _octaves(bucket, model)
        high = size >> raw
        # What is read last is written first: whether there is a sign is known once the lowest bits are.
        if size:
            state, count = _put_bit(state, words, count, np.int64(level < 0))
        if high >= model.largest:
            rest, length = high - model.largest + 1, 0
            while rest >> (length + 1):
                length += 1
            state, count = _put_raw(state, words, count, rest, length)
            state, count = _put_raw(state, words, count, length, model.escape_bits)
            high = np.int64(model.largest)
        if raw:
            state, count = _put_raw(state, words, count, size, raw)
        at = (2 * _table(bucket, raw, model) + (cell & 1)) * model.stride + high
        start = np.int64(model.cumulative[at])
        state, count = _put(state, words, count, start, model.cumulative[at + 1] - start)
    if not any_level:
        return words[:0].copy()
    words[count], words[count + 1] = state & _WORD, state >> 32
    return words[: count + 2][::-1].copy()


def begin(words: np.ndarray) -> tuple[int, int]:
    """The coder's state before any of these words is read, and the place of the next."""
    return (int(words[0] & _WORD >> 1) << 32 | int(words[1]) if len(words) > 1 else _LOWER), 2


@njit(inline="always")
def _advance(state: int, words: np.ndarray, at: int, start: int, frequency: int) -> tuple[int, int]:
    """The state after a symbol has been read, and the next word's place; zeros follow the last."""
    state = frequency * (state >> _TABLE_BITS) + (state & ((1 << _TABLE_BITS) - 1)) - start
    if state < _LOWER:
        state <<= 32
        if at < len(words):
            state |= int(words[at])
        at += 1
    return state, at


@njit(inline="always")
def _take_raw(state: int, words: np.ndarray, at: int, bits: int) -> tuple[np.int64, int, int]:
    """The inverse of `_put_raw`: the number, the state and the next word's place."""
    value = np.int64(0)
    low = (bits - 1) // (_TABLE_BITS - 1) * (_TABLE_BITS - 1)
    while low >= 0:
        width = min(_TABLE_BITS - 1, bits - low)
        shift = _TABLE_BITS - width
        part = (state & ((1 << _TABLE_BITS) - 1)) >> shift
        value |= part << low
        state, at = _advance(state, words, at, part << shift, np.int64(1) << shift)
        low -= _TABLE_BITS - 1
    return value, state, at


@njit(inline="always")
def _take_bit(state: int, words: np.ndarray, at: int) -> tuple[int, int, int]:
    """`_take_raw` of one bit."""
    half = _TABLE_BITS - 1
    bit = state >> half & 1
    state = (state >> _TABLE_BITS << half) + (state & ((1 << half) - 1))
    if state < _LOWER:
        state <<= 32
        if at < len(words):
            state |= int(words[at])
        at += 1
    return bit, state, at


@compiled
def read(
    words: np.ndarray,
    state: int,
    at: int,
    bounds: np.ndarray,
    base: np.ndarray,
    starts: np.ndarray,
    model: Model,
    whole: np.ndarray,
) -> tuple[int, int]:
    """Adds to float64 `whole` [m] what the next levels in `words` stand for; `bounds`, `base` and `starts` as they were
    quantised with.

    Returns:
        The state and the next word's place, which began as `begin` says.
    """
    mask = (1 << _TABLE_BITS) - 1
    for one in range(len(starts)):
        first, stop = bounds[one], bounds[one + 1]
        shift = starts[one] - first
        information, louder, gain, path = model.prior, 0, 0, 0
        start, size = first, _FIRST_WAVE
        while start < stop:
            end = min(start + size, stop)
            size = min(2 * size, _LAST_WAVE)
            seen, heard = 0, 0
            for place in range(start, end):
                bucket = _bucket(base[place + shift] + louder, model)
                if bucket < 0:
                    continue
                raw = _octaves(bucket, model)
                narrow = _table(bucket, raw, model)
                quantiser = _quantiser(path)
                cell = (2 * narrow + quantiser) * model.stride
                slot = state & mask
                high = np.int64(model.smallest[(2 * narrow + quantiser) << 8 | slot >> _TABLE_BITS - 8])
                while model.cumulative[cell + high + 1] <= slot:
                    high += 1
                below = np.int64(model.cumulative[cell + high])
                state, at = _advance(state, words, at, below, model.cumulative[cell + high + 1] - below)
                seen += model.information[narrow]
                heard += model.score[cell + high]
                if high == 0 and raw == 0:
                    path = _follow(path, 0)
                    continue
                magnitude = high
                if raw:
                    low, state, at = _take_raw(state, words, at, raw)
                if high == model.largest:
                    length, state, at = _take_raw(state, words, at, model.escape_bits)
                    rest, state, at = _take_raw(state, words, at, length)
                    magnitude += (np.int64(1) << length | rest) - 1
                if raw:
                    magnitude = magnitude << raw | low
                negative = np.int64(0)
                if magnitude:
                    negative, state, at = _take_bit(state, words, at)
                if bucket <= model.top and magnitude < model.largest:
                    point = np.int64(model.points[cell + high])
                else:
                    point = _point(magnitude, quantiser, model)
                whole[place] += -point if negative else point
                path = _follow(path, magnitude)
            start = end
            if start < stop and seen:
                information = min(information + seen, model.memory)
                gain += heard * model.heard // information
                louder = _louder(gain, model)
    return state, at
