"""A device layer without a device: GPUs of a stated memory, and what was asked of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bench.training import gpus


class FakeCuda:
    """Stands for `torch.cuda`, with these bytes of memory on each GPU."""

    def __init__(self, *memory: int) -> None:
        self.memory = memory
        self.fractions: list[tuple[float, int]] = []  # (share of its memory that this process may take, GPU)
        self.emptied = 0

    def is_available(self) -> bool:
        return bool(self.memory)

    def device_count(self) -> int:
        return len(self.memory)

    def get_device_properties(self, number: int) -> SimpleNamespace:
        return SimpleNamespace(total_memory=self.memory[number])

    def set_per_process_memory_fraction(self, fraction: float, number: int) -> None:
        self.fractions.append((fraction, number))

    def is_initialized(self) -> bool:
        return bool(self.fractions)

    def empty_cache(self) -> None:
        self.emptied += 1


def fake_gpus(monkeypatch: pytest.MonkeyPatch, *memory: int) -> FakeCuda:
    """Let this process see GPUs with so many bytes."""
    layer = FakeCuda(*memory)
    monkeypatch.setattr(gpus, "cuda", layer)
    return layer


def which_gpu(*call: object) -> tuple[object, bytes]:
    """Stands for `bench.driver.on_ray.serving.serve` in a worker: the process, and the GPUs that Ray lets it see."""
    import os
    import time

    from bench.driver.outcome import Outcome

    time.sleep(0.2)
    return Outcome("ok", value=(os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", ""))), b""
