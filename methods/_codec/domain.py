"""Where a compressor approximates: the logits themselves, or the probabilities softmax(logits / T).

An approximation of probabilities may be negative and need not sum to one. The rule here: what is below `FLOOR` becomes
`FLOOR`, the row is divided by its sum, and T times the logarithm is what comes back as logits. How many values of a
shard fell below the floor, and how many rows missed one by more than `OFF`, stands in its blob (section Z).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from bench.errors import InfeasibleError
from methods._codec import labels
from methods._codec.container import Container, Specs, pack, packed_size, unpack

DOMAINS = ("logits", "probabilities")
FLOOR = 1e-7  # of a probability
OFF = 1e-3  # of a row's sum: what rounding alone comes to with 1,000 values in float16 is half of it
_SPECS: Specs = {"T": ("<f4", 1), "Z": ("<u4", 2)}  # what the domain of probabilities adds to a blob
_COUNTED_AT_ONCE = 1 << 24  # values that are restored at once to be counted, 128 MiB as float64

Encode = Callable[[np.ndarray, int], bytes]  # values [n, K, C], budget in bytes -> blob
Restore = Callable[[Container, np.ndarray], torch.Tensor]  # parsed blob, view indices -> values [n, len(rows), C]


def encode(
    codec: str, logits: np.ndarray, budget_bytes: int, domain: str, temperature: float, plain: Encode, restore: Restore
) -> bytes:
    """A blob of `plain` in the domain asked for; of logits, exactly what `plain` gives.

    Args:
        codec: name in the header.
        logits: [n, K, C], checked.
        budget_bytes: total for the n images.
        domain: one of `DOMAINS`.
        temperature: T of the probabilities.
        plain: encodes values as they are, within its budget.
        restore: what `plain` encoded, before `leave`.

    Raises:
        ValueError: a domain or a temperature that is none.
        InfeasibleError: from `plain`; the smallest size is that of the whole blob.
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain: {domain!r} is not one of {', '.join(DOMAINS)}")
    if not (temperature > 0 and np.isfinite(np.float32(temperature))):
        raise ValueError(f"temperature: must be a number > 0, got {temperature}")
    if domain == "logits":
        return plain(logits, budget_bytes)
    extra = packed_size(codec, logits.shape, _SPECS) - packed_size(codec, logits.shape, {})
    try:
        container = unpack(plain(_probabilities(logits, temperature), budget_bytes - extra), codec)
    except InfeasibleError as error:
        raise InfeasibleError(error.smallest_bytes + extra, error.why) from None
    spoilt = np.minimum(_invalid(container, restore), 2**32 - 1).astype(np.uint32)
    return pack(codec, container.shape, {**container.sections, "T": np.array([temperature], np.float32), "Z": spoilt})


def decode(container: Container, rows: np.ndarray, restore: Restore) -> torch.Tensor:
    """Logits float32 [n, len(rows), C] of a blob of `encode`, by the rule above."""
    values, stored = restore(container, rows), container.sections
    if "T" not in stored:
        return values
    wide = values.double().numpy().clip(FLOOR, None)
    wide /= wide.sum(2, keepdims=True)
    return torch.from_numpy((float(stored["T"][0]) * np.log(wide)).astype(np.float32))


def counted(container: Container) -> tuple[int, int]:
    """(values below the floor, rows whose sum is not one) in the whole shard; zero in the domain of logits."""
    stored = container.sections
    return (int(stored["Z"][0]), int(stored["Z"][1])) if "Z" in stored else (0, 0)


def _probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    result = np.empty(logits.shape, np.float32)
    for start, chunk in labels.chunks(logits):
        wide = chunk.astype(np.float64) / float(np.float32(temperature))
        wide = np.exp(wide - wide.max(2, keepdims=True))
        result[start : start + len(chunk)] = wide / wide.sum(2, keepdims=True)
    return result


def _invalid(container: Container, restore: Restore) -> np.ndarray:
    """int64 [2]: what `counted` reports, as restored."""
    n, k, c = container.shape
    step = max(1, _COUNTED_AT_ONCE // (n * c))
    found = np.zeros(2, np.int64)
    for start in range(0, k, step):
        values = restore(container, np.arange(start, min(start + step, k)))
        off = (values.double().sum(2) - 1).abs() > OFF
        found += int((values < FLOOR).sum()), int(off.sum())
    return found
