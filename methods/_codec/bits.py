"""Unsigned integers packed to their width in bits (least significant bit first), readable at any place."""

from __future__ import annotations

import numpy as np

MAX_WIDTH = 24  # `take` reads a window of four bytes: 24 bits at any offset within a byte


def width_of(largest: int) -> int:
    """Bits that hold 0..largest; 0 for 0."""
    return int(largest).bit_length()


def pack(values: np.ndarray, widths: np.ndarray | int) -> np.ndarray:
    """uint8 array with `values` (non-negative integers [m]) one after the other, `widths` bits each."""
    values = np.asarray(values, np.uint32)
    widths = np.broadcast_to(np.asarray(widths, np.int64), values.shape)
    longest = int(widths.max(initial=0))
    positions = np.arange(longest, dtype=np.uint32)
    table = (values[:, None] >> positions) & 1
    return np.packbits(table[positions < widths[:, None]].astype(np.uint8), bitorder="little")


def take(packed: np.ndarray, offsets: np.ndarray, widths: np.ndarray | int) -> np.ndarray:
    """int64 [m]: the integers that start at bit `offsets` [m] and are `widths` bits long (at most MAX_WIDTH)."""
    if packed.size == 0:
        return np.zeros(len(offsets), np.int64)
    at, last = offsets >> 3, packed.size - 1
    window = np.zeros(len(offsets), np.int64)
    for byte in range(4):
        # Past the end any byte will do: the mask below removes it.
        window |= packed[np.minimum(at + byte, last)].astype(np.int64) << (8 * byte)
    mask: np.ndarray = (np.int64(1) << np.asarray(widths, np.int64)) - 1
    return (window >> (offsets & 7)) & mask


def runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64: starts[0], starts[0]+1, ... (lengths[0] of them), then starts[1], ... for all m runs."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - lengths), lengths)


def read_bits(packed: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """bool [m]: the bits at `positions`."""
    return ((packed[positions >> 3] >> (positions & 7).astype(np.uint8)) & 1).astype(bool)


def encode_uints(values: np.ndarray) -> np.ndarray:
    """uint8 section for integers [m] in 0..2^24-1: width (u8), least value (u32), then the differences, bit-packed.

    Equal values take 5 bytes whatever m is.
    """
    low = int(values.min(initial=1 << MAX_WIDTH)) if values.size else 0
    width = width_of(int(values.max(initial=0)) - low) if values.size else 0
    head = np.frombuffer(bytes([width]) + low.to_bytes(4, "little"), np.uint8)
    return np.concatenate([head, pack(np.asarray(values) - low, width)]) if width else head


def decode_uints(section: np.ndarray, count: int) -> np.ndarray:
    """int64 [count]: what `encode_uints` was given."""
    width, low = int(section[0]), int.from_bytes(section[1:5].tobytes(), "little")
    return take(section[5:], np.arange(count) * width, width) + low


def encoded_uints_size(count: int, spread: int) -> int:
    """len(encode_uints(values)) for `count` values with max - min == spread, in bytes."""
    return 5 + (count * width_of(spread) + 7) // 8
