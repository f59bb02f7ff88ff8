"""Rows kept as they are, in float16, with a power-of-two scale for images that float16 cannot hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from methods._codec import labels


def sections(values: np.ndarray, exponents: np.ndarray) -> dict[str, np.ndarray]:
    """ "X": the values [n, m, C] in float16; "e": `labels.fp16_exponents`, only where some image needs one."""
    if not exponents.any():
        return {"X": values.astype(np.float16).ravel()}
    return {"e": labels.encode_exponents(exponents), "X": labels.scaled(values, -exponents, np.float16).ravel()}


def read(stored: Mapping[str, np.ndarray], n: int, m: int, c: int, at: np.ndarray) -> torch.Tensor:
    """float32 [n, len(at), C]: the kept rows at the positions `at` in 0..m-1."""
    picked = torch.from_numpy(stored["X"].reshape(n, m, c)[:, at]).float()  # indexing with an array copies
    if "e" in stored:
        scale = np.ldexp(1.0, labels.decode_exponents(stored["e"], n).astype(np.int32))
        picked = (picked.double() * torch.from_numpy(scale)[:, None, None]).float()
    return picked
