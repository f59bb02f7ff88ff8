"""Seeds from named coordinates: the same names give the same stream everywhere, and nothing else does.

`seed("student", "init", "small-soft-v1", 0)` is a sha256 of its arguments. No global generator is read or written, so a
result depends on what was asked and not on what ran before it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Coordinate = str | int | float | bool | None


def seed(*coordinates: Coordinate) -> int:
    """A 63-bit seed for the named coordinates (order and type matter: 1 and "1" differ)."""
    text = json.dumps(coordinates, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_generator(*coordinates: Coordinate) -> np.random.Generator:
    """A numpy generator (Philox, the same stream on every platform) for the named coordinates."""
    return np.random.Generator(np.random.Philox(key=seed(*coordinates)))


def torch_generator(*coordinates: Coordinate, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on `device` for the named coordinates."""
    import torch  # only now: records are read, and tables printed, without it

    return torch.Generator(device=device).manual_seed(seed(*coordinates))
