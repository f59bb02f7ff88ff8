"""The kind of machine: what is recorded of it, when two of them must agree to the bit, and what makes them."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from bench import machine
from bench.errors import UserError
from tests.worlds import ROOT
from tests.worlds.kinds import NATIVE, PORTABLE

portable_here = pytest.mark.skipif(not machine.usable(), reason="no x86-64 processor with AVX2 and FMA")

ON_THE_PROCESSOR = {
    "processor": "another processor", "flags": "instruction sets", "caches": "caches",
    "instructions": "instruction set", "switches": "switches",
}  # fmt: skip
OF_THE_SOFTWARE = {"python": "Python", "torch": "torch", "scipy": "scipy", "libc": "C library", "threads": "threads"}


def test_the_same_kind_of_machine_must_give_the_same_bits() -> None:
    for kind in (NATIVE, PORTABLE):
        assert machine.must_agree(kind, dict(kind))
        # A name, and how many cores there are, decide nothing: a task has one thread.
        assert machine.must_agree(kind, kind | {"machine": "B", "host": "Linux x86_64, 64 cores"})


@pytest.mark.parametrize(("field", "words"), ON_THE_PROCESSOR.items())
def test_another_processor_may_differ_unless_the_arithmetic_is_portable(field: str, words: str) -> None:
    difference = machine.difference(NATIVE, NATIVE | {field: "other"})
    assert difference is not None
    assert words in difference
    assert machine.must_agree(PORTABLE, PORTABLE | {field: "other"})


@pytest.mark.parametrize(("field", "words"), OF_THE_SOFTWARE.items())
def test_other_software_may_differ_in_any_arithmetic(field: str, words: str) -> None:
    for kind in (NATIVE, PORTABLE):
        difference = machine.difference(kind, kind | {field: "2"})
        assert difference is not None
        assert words in difference
        assert "2" in difference


def test_portable_and_native_arithmetic_and_gpus_are_compared_by_statistics() -> None:
    assert "other arithmetic (native, portable)" in str(machine.difference(NATIVE, PORTABLE))
    gpu = PORTABLE | {"device": "NVIDIA A100"}
    assert machine.difference(gpu, gpu) == "a GPU"


def test_an_old_record_does_not_tell_its_kind_of_machine_and_is_never_held_to_the_bit() -> None:
    old = {"python": "3.11.7", "torch": "2.15.0", "numpy": "2.4.6", "machine": "AMD EPYC", "threads": "1"}
    assert "before version 0.2" in str(machine.difference(old, old))
    assert not machine.must_agree(old, NATIVE)
    assert not machine.must_agree({}, {})


def in_a_process(code: str, **switches: str) -> dict:
    """What a fresh process prints as JSON."""
    clean = {key: value for key, value in os.environ.items() if key not in machine.OVERRIDES}
    environment = {**clean, "PYTHONPATH": str(ROOT), **switches}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


LOADED = "import numpy, scipy.linalg, torch; torch.ones(9, 9) @ torch.ones(9, 9); numpy.ones((9, 9)) @ numpy.ones(9);"
PRINT = "import json; from bench import machine; print(json.dumps(machine.environment()))"


@portable_here
def test_a_process_with_the_switches_is_portable_and_its_libraries_do_as_they_are_told() -> None:
    environment = in_a_process(LOADED + PRINT, **machine.switches("portable"))
    assert environment["arithmetic"] == "portable"
    assert environment["instructions"] == ("torch AVX2, MKL COMPATIBLE, oneDNN AVX2, OpenBLAS Haswell, numpy X86_V3")


@portable_here
def test_a_process_becomes_portable_before_it_loads_anything() -> None:
    become = "from bench import machine; machine.become_portable();"
    assert in_a_process(become + LOADED + PRINT)["arithmetic"] == "portable"
    assert in_a_process(LOADED + become + PRINT)["arithmetic"] == "native"


def test_what_is_recorded_needs_no_library_and_names_every_switch_that_is_set() -> None:
    code = PRINT.replace("print(", "import sys; print(", 1).replace(
        "machine.environment()", "machine.environment() | {'loaded': sorted({'numpy', 'torch'} & sys.modules.keys())}"
    )
    environment = in_a_process(code, MKL_CBWR="AVX2", OMP_NUM_THREADS="1")
    assert environment["loaded"] == []
    assert environment["arithmetic"] == "native"
    assert environment["switches"] == "MKL_CBWR=AVX2"
    assert set(machine._EVERYWHERE) | set(machine._NATIVE) <= environment.keys() | {"threads", "device", "speed_ups"}


def test_a_default_gives_way_where_the_processor_cannot_and_a_wish_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable", lambda: True)
    assert machine.resolve(None, "portable") == machine.resolve("portable", "native") == "portable"
    assert machine.resolve("native", "portable") == "native"
    monkeypatch.setattr(machine, "usable", lambda: False)
    assert machine.resolve(None, "portable") == "native"
    with pytest.raises(UserError, match="--arithmetic native"):
        machine.resolve("portable", "native")
    with pytest.raises(UserError, match="'exact' is none of portable, native"):
        machine.resolve("exact", "portable")


def test_it_names_versions_and_no_host() -> None:
    environment = machine.environment()
    assert environment["numpy"] == np.__version__
    assert os.uname().nodename not in " ".join(environment.values()).split()


FREED = """
import json, os, resource
from pathlib import Path
import numpy as np
from bench import machine

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def cleared():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        np.ones(128 * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

empty, pages = resident(), [cleared()]
machine.keep_freed_memory()
cleared()
pages.append(cleared())
kept = resident()
machine.hand_back_freed_memory()
print(json.dumps([pages, kept - empty, resident() - empty]))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than GNU's")
def test_freed_memory_is_used_again_and_handed_back_when_a_stage_ends() -> None:
    def measured(**environment: str) -> tuple[list[int], int, int]:
        mine = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
        done = subprocess.run(
            [sys.executable, "-c", FREED], cwd=ROOT, env={**mine, **environment}, capture_output=True, check=True
        )
        pages, kept, left = json.loads(done.stdout)
        return pages, kept, left

    (before, after), kept, left = measured()
    assert after < 0.05 * before  # pages of memory that the system had to clear
    assert (kept > 120 * 2**20, left < 15 * 2**20) == (True, True)
    (before, after), kept, _ = measured(MALLOC_ARENA_MAX="1")  # who sets the allocator is not overruled
    assert (after > 0.9 * before, kept < 15 * 2**20) == (True, True)
