"""Where a compressor approximates: the logits themselves, or the probabilities softmax(logits / T).

An approximation of probabilities may be negative and need not sum to one. The rule here: what is below a floor becomes
the floor, the row is divided by its sum, and T times the logarithm is what comes back as logits. The floor is the power
of ten that leaves the least KL divergence at T, over rows spread over the shard: what an approximation says of values
smaller than its errors is worth nothing, and how large those are depends on the budget. It stands in the blob (section
T, with the temperature); so does how many values of the shard were negative and how many rows missed one by more than
`OFF` (section Z).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.errors import InfeasibleError
from methods._codec import labels
from methods._codec.container import Container, Specs, pack, packed_size, unpack

DOMAINS = ("logits", "probabilities")
FLOORS = tuple(10.0**-power for power in (*range(2, 16), 20, 25, 30, 35))  # of a probability, of which one is taken
COLDEST, HOTTEST = 1e-6, 1e6  # temperatures
OFF = 1e-3  # of a row's sum: what rounding alone comes to with 1,000 values in float16 is half of it
_SPECS: Specs = {"T": ("<f4", 2), "Z": ("<u4", 2)}  # what the domain of probabilities adds to a blob
_AT_ONCE = 1 << 22  # values that are restored at once to be counted, 32 MiB as float64
_TRIED_ON = 1 << 20  # values, about, that the floor is chosen by

Encode = Callable[[np.ndarray, int], bytes]  # values [n, K, C], budget in bytes -> blob
Restore = Callable[[Container, np.ndarray], torch.Tensor]  # parsed blob, view indices -> values [n, len(rows), C]


def check(domain: str, temperature: float) -> None:
    """Raise ValueError for a domain or a temperature that is none, and for one that would not be used."""
    if domain not in DOMAINS:
        raise ValueError(f"domain: {domain!r} is not one of {', '.join(DOMAINS)}")
    if not COLDEST <= temperature <= HOTTEST:
        raise ValueError(f"temperature: must be a number in {COLDEST:g}..{HOTTEST:g}, got {temperature}")
    if domain == "logits" and temperature != 1:
        raise ValueError(f"temperature: logits have none. Type domain=probabilities,temperature={temperature}")


def entered(logits: np.ndarray, domain: str, temperature: float) -> np.ndarray:
    """What is approximated, [n, K, C]: the logits, or float32 probabilities. Raises ValueError as `check`."""
    check(domain, temperature)
    return logits if domain == "logits" else _probabilities(logits, temperature)


def blob_specs(domain: str) -> Specs:
    """What `Stored.encode` adds to a blob."""
    return {} if domain == "logits" else _SPECS


def shared_specs(domain: str) -> Specs:
    """What `told` is, as sections of a shared part."""
    return {} if domain == "logits" else {"T": ("<f4", 1)}


def told(domain: str, temperature: float) -> dict[str, np.ndarray]:
    """For a shared part: the domain that it was fitted in."""
    return {} if domain == "logits" else {"T": np.array([temperature], np.float32)}


def require(container: Container, domain: str, temperature: float) -> None:
    """Raise ValueError if a shared part was `told` of another domain."""
    fitted, asked = (
        sections.get("T", np.zeros(0, np.float32)) for sections in (container.sections, told(domain, temperature))
    )
    if fitted.tolist() != asked.tolist():
        was, now = (f"probabilities at T = {t[0]:g}" if t.size else "logits" for t in (fitted, asked))
        raise ValueError(f"shared: was fitted on {was}, the labels are to be stored as {now}")


@dataclass(frozen=True)
class Stored:
    """What a compressor of logits or probabilities has of its three functions; `codec` is the name in the header,
    `restore` gives the values of views as its blobs hold them."""

    codec: str
    restore: Restore

    def encode(self, logits: np.ndarray, budget_bytes: int, domain: str, temperature: float, plain: Encode) -> bytes:
        """A blob of `plain` in the domain asked for; of logits, exactly what `plain` gives.

        Args:
            logits: [n, K, C], checked.
            budget_bytes: total for the n images.
            domain: one of `DOMAINS`.
            temperature: T of the probabilities; 1 where there are none.
            plain: encodes values as they are, within its budget.

        Raises:
            ValueError: a domain or a temperature that is none.
            InfeasibleError: from `plain`; the smallest size is that of the whole blob.
        """
        probabilities = entered(logits, domain, temperature)
        if domain == "logits":
            return plain(logits, budget_bytes)
        extra = packed_size(self.codec, logits.shape, _SPECS) - packed_size(self.codec, logits.shape, {})
        try:
            container = unpack(plain(probabilities, max(budget_bytes - extra, 0)), self.codec)
        except InfeasibleError as error:
            raise InfeasibleError(error.smallest_bytes + extra, error.why) from None
        known = np.array([temperature, _floor(container, probabilities, self.restore)], np.float32)
        counted = _invalid(container, self.restore)
        return pack(self.codec, container.shape, {**container.sections, "T": known, "Z": counted})

    def decode(self, blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
        """Logits float32 [n, len(rows), C], of probabilities by the rule above; `rows`: view indices 0..K-1, None for
        all.

        Raises:
            CorruptBlobError: not a blob of this compressor, or made with another shared part.
            ValueError: a row out of range.
        """
        container = unpack(blob, self.codec)
        values, stored = self.restore(container, labels.checked_rows(rows, container.shape[1])), container.sections
        if "T" not in stored:
            return values
        temperature, floor = stored["T"].astype(np.float64)
        wide = values.double().numpy().clip(floor, None)
        wide /= wide.sum(2, keepdims=True)
        return torch.from_numpy((temperature * np.log(wide)).astype(np.float32))

    def invalid(self, blob: bytes) -> tuple[int, int]:
        """(negative values, rows whose sum is not one) of the approximation in the whole shard; zero for logits."""
        stored = unpack(blob, self.codec).sections
        return (int(stored["Z"][0]), int(stored["Z"][1])) if "Z" in stored else (0, 0)


def _probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    result = np.empty(logits.shape, np.float32)
    for start, chunk in labels.chunks(logits):
        wide = chunk.astype(np.float64) / float(np.float32(temperature))
        wide = np.exp(wide - wide.max(2, keepdims=True))
        result[start : start + len(chunk)] = wide / wide.sum(2, keepdims=True)
    return result


def _floor(container: Container, probabilities: np.ndarray, restore: Restore) -> float:
    """The one of `FLOORS` that leaves the least KL divergence to `probabilities` [n, K, C], on views spread evenly."""
    n, k, c = container.shape
    views = np.unique(np.linspace(0, k - 1, max(1, min(k, _TRIED_ON // (n * c)))).astype(np.int64))
    true = probabilities[:, views].astype(np.float64)
    found = restore(container, views).double().numpy()
    left = []
    for floor in FLOORS:
        raised = found.clip(floor, None)
        left.append(float(np.log(raised.sum(2)).sum() - (true * np.log(raised)).sum()))
    return FLOORS[int(np.argmin(left))]


def _invalid(container: Container, restore: Restore) -> np.ndarray:
    """uint32 [2]: what `invalid` reports, as restored."""
    n, k, c = container.shape
    step = max(1, _AT_ONCE // (n * c))
    negative = off = 0
    for start in range(0, k, step):
        values = restore(container, np.arange(start, min(start + step, k)))
        negative += int((values < 0).sum())
        off += int(((values.double().sum(2) - 1).abs() > OFF).sum())
    return np.array([negative, off], np.uint32)
