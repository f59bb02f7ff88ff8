"""The GPUs that this process sees: their memory, the share of it that a task may take, and how it is handed back.

Everything goes through `cuda`, torch's own layer, so that a test can put another one in its place.
"""

from __future__ import annotations

import gc
import os
from typing import Any

import torch

cuda: Any = torch.cuda
# cuBLAS reads it when it starts; its sums then may have a fixed order.
WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

CONTEXT_BYTES = 600 * 2**20  # what a process takes of a GPU before it holds a tensor: kernels, cuDNN and cuBLAS


def memory() -> tuple[int, ...]:
    """Bytes of each GPU, in the order of their numbers; empty where there is none."""
    if not cuda.is_available():
        return ()
    return tuple(int(cuda.get_device_properties(number).total_memory) for number in range(cuda.device_count()))


def device(share: float) -> str:
    """Where a task computes that was given this share of a GPU: `cuda` or `cpu`.

    Whoever was given none computes on the processor, also where GPUs are to be seen: they are somebody else's. Who was
    given less than a whole one can take no more of its memory, so that a task which is too large fails by itself and
    takes no neighbour with it.
    """
    if not share or not cuda.is_available():
        return "cpu"
    os.environ.setdefault(*WORKSPACE)  # for recipes that are deterministic; it is read once
    for number in range(cuda.device_count()):
        cuda.set_per_process_memory_fraction(min(1.0, share), number)
    return "cuda"


def hand_back() -> None:
    """Give the memory of tensors that are gone back to the GPU. Nothing where this process never used one."""
    if cuda.is_initialized():
        gc.collect()
        cuda.empty_cache()
