"""The kind of machine: what decides the last bits of a result, and the arithmetic that makes them equal everywhere.

Two runs of one trial agree to the bit where the same instructions add the same numbers in the same order. Libraries
choose their instructions by the processor. Under *portable* arithmetic they are told which to use, AVX2 and FMA, which
most x86-64 processors since 2015 have; under *native* arithmetic they use the best that they find. docs/same-bits.md
tells what was measured.

Libraries read most switches when they're loaded or first used, so a process is portable from its start: `switches`
gives the environment of one, and `become_portable` sets it in this one before numpy and torch are loaded.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.errors import UserError

PORTABLE, NATIVE = "portable", "native"
ARITHMETICS = (PORTABLE, NATIVE)
NEEDED = ("avx2", "fma")  # flags of /proc/cpuinfo

# What each switch fixes, and the value under which all processors with AVX2 give the same bits.
SWITCHES: Mapping[str, str] = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # products and decompositions in torch; other branches differ between vendors
    "OPENBLAS_CORETYPE": "Haswell",  # products and decompositions in numpy and scipy
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # numpy's own loops
}

# The same for a process that was told nothing: what decides its bits beside the versions of libraries.
OVERRIDES = (
    *SWITCHES, "OPENBLAS_L2_SIZE", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "ONEDNN_DEFAULT_FPMATH_MODE",
    "NPY_ENABLE_CPU_FEATURES", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "GLIBC_TUNABLES",
)  # fmt: skip
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "numba", "pillow")

# Memory that a process keeps once it has freed it: blocks up to so many bytes are used again, and so many bytes at the
# end of the heap stay, the most that mallopt takes. A step of 256 images of 32 px has blocks of 134 MB; with larger
# ones as well a student of 224 px would take .4 GiB more, for the gaps between them.
_BLOCK_BYTES, _END_BYTES = 160 * 2**20, 2**31 - 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names of these two for GNU's mallopt

# Fields of an environment that have to be equal for results to be equal to the bit, on a CPU.
_EVERYWHERE = ("arithmetic", "system", "python", "libc", *LIBRARIES, "threads", "device", "speed_ups")
_NATIVE = ("processor", "flags", "caches", "instructions", "switches")
_WORDS = {
    "arithmetic": "other arithmetic",
    "system": "another system",
    "python": "another Python",
    "libc": "another C library",
    "threads": "another number of threads",
    "device": "another device",
    "speed_ups": "other speed-ups",
    "processor": "another processor",
    "flags": "other instruction sets of the processor",
    "caches": "other caches",
    "instructions": "another instruction set",
    "switches": "other switches in the environment",
    **{library: f"another version of {library}" for library in LIBRARIES},
}


def usable() -> bool:
    """Whether this machine can compute in portable arithmetic: x86-64 with AVX2 and FMA."""
    return platform.machine().lower() in ("x86_64", "amd64") and set(NEEDED) <= _flags()


def resolve(requested: str | None, default: str) -> str:
    """The arithmetic of a trial: what the user asked for, else what the data set has as its default.

    A default that this machine cannot have gives native arithmetic, which the record tells.

    Raises:
        UserError: portable arithmetic was asked for, and the processor has no AVX2.
    """
    arithmetic = requested or default
    if arithmetic not in ARITHMETICS:
        raise UserError(f"arithmetic '{arithmetic}' is none of {', '.join(ARITHMETICS)}.")
    if arithmetic == PORTABLE and not usable():
        if requested:
            raise UserError(
                "--arithmetic portable needs an x86-64 processor with AVX2 and FMA, which this machine does not have. "
                "Type --arithmetic native; results are then compared by statistics."
            )
        return NATIVE
    return arithmetic


def switches(arithmetic: str) -> dict[str, str]:
    """The environment variables of a process with this arithmetic; none for native."""
    return dict(SWITCHES) if arithmetic == PORTABLE else {}


def become_portable() -> None:
    """Make this process portable. It does nothing once numpy or torch is loaded: `current` tells what is so."""
    if usable() and not {"numpy", "torch"} & sys.modules.keys():
        os.environ.update(SWITCHES)


def current() -> str:
    """The arithmetic of this process."""
    return PORTABLE if usable() and all(os.environ.get(key) == value for key, value in SWITCHES.items()) else NATIVE


def environment() -> dict[str, str]:
    """Everything that decides the last bits, and versions. Neither a host name nor a user name: records are published.

    `instructions` says what libraries chose; those that are not loaded in this process are left out.
    """
    return {
        "python": platform.python_version(),
        **{library: _installed(library) for library in LIBRARIES},
        "libc": " ".join(platform.libc_ver()).strip() or "-",
        "machine": _processor().get("model name", "") or platform.processor() or platform.machine(),
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _identity(),
        "flags": " ".join(sorted(flag for flag in _flags() if flag.startswith(("avx", "amx", "fma", "sse4", "asimd")))),
        "caches": _caches(),
        "arithmetic": current(),
        "instructions": instructions(),
        "switches": " ".join(f"{key}={os.environ[key]}" for key in sorted(OVERRIDES) if key in os.environ),
    }


def instructions() -> str:
    """What the loaded libraries use: `torch AVX2, MKL COMPATIBLE, OpenBLAS Haswell, numpy X86_V3`."""
    parts = []
    if torch := sys.modules.get("torch"):
        parts += [f"torch {torch.backends.cpu.get_cpu_capability()}", *_mkl(torch)]
        parts.append(f"oneDNN {os.environ.get('ONEDNN_MAX_CPU_ISA', 'all')}")
    if "numpy" in sys.modules:
        import threadpoolctl

        kernels = sorted({pool["architecture"] for pool in threadpoolctl.threadpool_info() if "architecture" in pool})
        parts += [f"OpenBLAS {'+'.join(kernels)}"] if kernels else []
        parts.append(f"numpy {_numpy_features()}")
    return ", ".join(parts)


def keep_freed_memory() -> None:
    """Have this process, and those that are forked from it, use freed memory again.

    GNU's C library hands every block above 32 MiB back to the system at once, which clears the pages when they are
    asked for again: where images are large, that takes longer than the network's products. Results stay what they are.
    Other libraries, and processes whose environment says otherwise (MALLOC_..., GLIBC_TUNABLES), are left alone.
    """
    if not any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        _of_libc("mallopt", _M_MMAP_THRESHOLD, _BLOCK_BYTES)
        _of_libc("mallopt", _M_TRIM_THRESHOLD, _END_BYTES)


def hand_back_freed_memory() -> None:
    """Give the system what this process has freed and kept; only GNU's C library is asked."""
    _of_libc("malloc_trim", 0)


def _of_libc(function: str, *numbers: int) -> None:
    """Call a function of the C library; nothing where it has none of this name."""
    import ctypes

    with suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), function)(*numbers)


def must_agree(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Whether results made in these two environments have to be equal to the bit. See `difference`."""
    return difference(first, second) is None


def difference(first: Mapping[str, str], second: Mapping[str, str]) -> str | None:
    """Why results of two environments may differ in their last bits; None where they must not.

    Environments of records before version 0.2 do not tell what decides bits, and count as another kind of machine.
    """
    for environment in (first, second):
        if "arithmetic" not in environment:
            return "the record does not tell its kind of machine (made before version 0.2)"
        if environment.get("device", "cpu") != "cpu":
            return "a GPU"
    fields = _EVERYWHERE if first["arithmetic"] == second["arithmetic"] == PORTABLE else (*_EVERYWHERE, *_NATIVE)
    for field in fields:
        if first.get(field) != second.get(field):
            return f"{_WORDS[field]} ({first.get(field) or 'none'}, {second.get(field) or 'none'})"
    return None


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


@cache
def _processor() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is none (not Linux)."""
    try:
        block = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _flags() -> set[str]:
    cpu = _processor()
    return set((cpu.get("flags") or cpu.get("Features") or "").split())


def _identity() -> str:
    """`AuthenticAMD family 26 model 2 stepping 1`."""
    cpu = _processor()
    names = (("vendor_id", ""), ("cpu family", "family "), ("model", "model "), ("stepping", "stepping "))
    return " ".join(f"{word}{cpu[key]}" for key, word in names if key in cpu) or platform.machine()


@cache
def _caches() -> str:
    """`L1d 48K, L2 1024K, L3 32768K`, as Linux tells them; empty elsewhere."""
    sizes = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            sizes.append(f"L{level}{'d' if kind == 'Data' else ''} {size}")
    return ", ".join(sizes)


def _mkl(torch: Any) -> list[str]:
    """The branch of conditional reproducibility that MKL has really taken inside torch."""
    import ctypes

    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        branch = library.mkl_serv_cbwr_get(1)
    except (OSError, AttributeError):
        return []  # another build of torch
    return [f"MKL {_MKL_BRANCHES.get(branch & ~_MKL_STRICT, branch)}{' strict' if branch & _MKL_STRICT else ''}"]


_MKL_STRICT = 0x10000
_MKL_BRANCHES = {
    1: "OFF", 2: "AUTO", 3: "COMPATIBLE", 4: "SSE2", 6: "SSSE3", 7: "SSE4_1", 8: "SSE4_2", 9: "AVX", 10: "AVX2",
    11: "AVX512_MIC", 12: "AVX512", 14: "AVX512_E1",
}  # fmt: skip


def _numpy_features() -> str:
    """The highest level of numpy's own loops."""
    from importlib import import_module

    core = import_module("numpy._core._multiarray_umath")  # numpy.show_runtime() reads the same
    enabled = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    return enabled[-1] if enabled else "+".join(core.__cpu_baseline__)
