"""Where a compressor approximates: the logits themselves, or the probabilities softmax(logits / T).

An approximation of probabilities may be negative and need not sum to one. The rule here: what is below `FLOOR` becomes
`FLOOR`, the row is divided by its sum, and T times the logarithm is what comes back as logits. How many values of a
shard fell below the floor, and how many rows missed one by more than `OFF`, stands in its blob (section z).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from methods._codec.container import Specs

DOMAINS = ("logits", "probabilities")
FLOOR = 1e-7  # of a probability
OFF = 1e-3  # of a row's sum: what rounding alone comes to with 1,000 values in float16 is half of it
SPECS: Specs = {"t": ("<f4", 1), "z": ("<u4", 2)}  # what the domain of probabilities adds to a blob


def check(domain: str, temperature: float) -> None:
    """Raise ValueError for a domain or a temperature that is none."""
    if domain not in DOMAINS:
        raise ValueError(f"domain: {domain!r} is not one of {', '.join(DOMAINS)}")
    if not (temperature > 0 and np.isfinite(np.float32(temperature))):
        raise ValueError(f"temperature: must be a number > 0, got {temperature}")


def specs(domain: str) -> Specs:
    """Sections that `sections` announces."""
    return SPECS if domain == "probabilities" else {}


def sections(domain: str, temperature: float, spoilt: np.ndarray) -> dict[str, np.ndarray]:
    """T and the counts of `invalid` over the shard; nothing for logits."""
    if domain == "logits":
        return {}
    return {"t": np.array([temperature], np.float32), "z": np.minimum(spoilt, 2**32 - 1).astype(np.uint32)}


def enter(values: np.ndarray, domain: str, temperature: float) -> np.ndarray:
    """Logits [n, K, C] as they are, or float32 softmax(values / T)."""
    if domain == "logits":
        return values
    wide = values.astype(np.float64) / float(np.float32(temperature))
    wide = np.exp(wide - wide.max(2, keepdims=True))
    return (wide / wide.sum(2, keepdims=True)).astype(np.float32)


def leave(values: torch.Tensor, stored: Mapping[str, np.ndarray]) -> torch.Tensor:
    """Logits float32 [n, m, C] from what was approximated, by the rule above."""
    if "t" not in stored:
        return values
    wide = values.double().numpy().clip(FLOOR, None)
    wide /= wide.sum(2, keepdims=True)
    return torch.from_numpy((float(stored["t"][0]) * np.log(wide)).astype(np.float32))


def invalid(values: torch.Tensor) -> np.ndarray:
    """int64 [2]: values of [n, m, C] below the floor, and rows whose sum is not one."""
    off = (values.double().sum(2) - 1).abs() > OFF
    return np.array([int((values < FLOOR).sum()), int(off.sum())], np.int64)


def counted(stored: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """What `invalid` came to in the whole shard: (values, rows); zero in the domain of logits."""
    return (int(stored["z"][0]), int(stored["z"][1])) if "z" in stored else (0, 0)
