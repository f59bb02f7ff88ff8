"""What is equal to the bit under which instruction set: every data set, method and compressor, and a student."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench import machine
from tests.worlds import ROOT

pytestmark = [
    pytest.mark.slow,  # a minute and a half of CPU time for each kind of process
    pytest.mark.skipif(not machine.usable(), reason="no x86-64 processor with AVX2 and FMA"),
]

# What a processor with AVX2 alone does without being told.
AVX2 = {key: machine.SWITCHES[key] for key in machine.SWITCHES if key != "MKL_CBWR"}
# What no switch of portable arithmetic covers; were one needed, these would show it.
MASKED = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma",
    "OPENBLAS_L2_SIZE": "2048",
}
# What hangs on the instruction set in native arithmetic, of the trials that tests.worlds.bits makes; docs/same-bits.md.
# All of it goes through a network's training or through a decomposition; nothing is drawn otherwise.
MAY_MOVE = {
    "compressor rpca", "compressor vq", "method ccs", "method el2n", "method grand", "method pca", "method aum",
    "method forgetting", "method cad_prune", "method rded", "student convnet:width=16",
}  # fmt: skip


def digests(**switches: str) -> dict[str, str]:
    """Name -> sha256, of a process with these switches and no other."""
    clean = {key: value for key, value in os.environ.items() if key not in machine.OVERRIDES}
    environment = {**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **switches}
    command = [sys.executable, "-m", "tests.worlds.bits"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def moved(one: dict[str, str], other: dict[str, str]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, digest in one.items() if other[name] != digest}


@pytest.fixture(scope="module")
def portable() -> dict[str, str]:
    return digests(**machine.switches("portable"))


def test_under_portable_arithmetic_nothing_hangs_on_what_the_switches_do_not_cover(portable: dict[str, str]) -> None:
    assert len(portable) > 38
    assert moved(portable, digests(**machine.switches("portable"), **MASKED)) == set()


def test_under_native_arithmetic_only_what_is_listed_hangs_on_the_instruction_set(portable: dict[str, str]) -> None:
    native = digests()
    assert moved(native, digests(**AVX2)) <= MAY_MOVE
    assert moved(native, portable) <= MAY_MOVE
