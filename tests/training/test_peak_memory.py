"""The peak of memory is that of what came after the beginning: of this process, or of a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.training import peak_memory
from bench.training.peak_memory import PeakMemory

MIB = 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not begin a peak anew")
def test_what_was_held_and_given_back_is_seen_and_what_came_before_is_not() -> None:
    before = np.ones(120 * MIB, np.uint8)
    del before
    memory = PeakMemory()
    held = np.ones(60 * MIB, np.uint8)
    del held
    assert memory.exact
    assert memory.above() / MIB == pytest.approx(60, abs=15)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not begin a peak anew")
def test_what_the_process_had_freed_before_counts_again() -> None:
    """Blocks that lie below one that is in use are kept by the process when they are freed."""
    blocks = [bytearray(100_000) for _ in range(600)]
    pin = bytearray(100_000)
    blocks.clear()
    memory = PeakMemory()
    blocks += [bytearray(100_000) for _ in range(600)]
    assert memory.above() / MIB == pytest.approx(57, abs=15)
    assert len(pin) == len(blocks[0])


def test_a_system_that_cannot_begin_anew_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(peak_memory.Path, "write_text", refuse)
    memory = PeakMemory()
    assert not memory.exact
    assert memory.above() >= 0


def test_on_a_gpu_it_is_what_torch_allocates_above_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", calls.append)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 5 * MIB)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 12 * MIB)
    memory = PeakMemory("cuda")
    assert (memory.exact, memory.above()) == (True, 7 * MIB)
    assert calls == [torch.device("cuda")]
