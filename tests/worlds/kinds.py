"""Kinds of machine, as records tell them."""

from __future__ import annotations

from bench import machine

NATIVE = {
    "python": "3.11.7", **dict.fromkeys(machine.LIBRARIES, "1.0"), "libc": "glibc 2.36", "machine": "A",
    "host": "Linux x86_64, 2 cores", "system": "Linux x86_64", "processor": "A family 1", "flags": "avx2 fma",
    "caches": "L2 512K", "arithmetic": "native", "instructions": "torch AVX2", "switches": "", "threads": "1",
    "device": "cpu",
}  # fmt: skip
PORTABLE = NATIVE | {"arithmetic": "portable"}
ANOTHER = NATIVE | {"processor": "B family 2"}
