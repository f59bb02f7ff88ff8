"""Whole numbers in few bytes: unsigned LEB128, seven bits a byte, the lowest first."""

from __future__ import annotations


def encode(value: int) -> bytes:
    """The bytes of a number of at least 0: one below 128, two below 16,384, and so on."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """(the number at `position`, the position after it). Raises IndexError where the bytes end too early."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
