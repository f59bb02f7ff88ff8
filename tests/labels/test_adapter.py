"""Compressors get what their functions take, and what they return is held to the rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bench.api import SoftLabels
from bench.errors import InfeasibleError, PluginError
from bench.labels.adapter import encode, fit, takes_shared
from tests.worlds.stored_labels import CLASSES, VIEWS, compressor, read_rows, soft


def test_what_all_images_share_reaches_encode_and_decode(logits: torch.Tensor) -> None:
    def fit(labels: SoftLabels, budget_bytes: int, ctx: Any, *, digits: int = 1) -> bytes:
        return labels.logits.float().mean(dim=(0, 1)).numpy().astype(np.float32).tobytes()

    def with_shared(labels: SoftLabels, budget_bytes: int, ctx: Any, *, shared: bytes = b"", digits: int = 1) -> bytes:
        return (labels.logits.float().numpy() - np.frombuffer(shared, np.float32)).astype(np.float32).tobytes()

    def back(blob: bytes, rows: Any = None, *, shared: bytes = b"") -> torch.Tensor:
        values = np.frombuffer(blob, np.float32).reshape(-1, VIEWS, CLASSES) + np.frombuffer(shared, np.float32)
        return torch.from_numpy(values)[:, rows]

    module = compressor(fit=fit, encode=with_shared, decode=back)
    assert takes_shared(module)
    shared = fit(soft(logits[:20]), 10**6, None)
    blobs = [encode(module, soft(part), 10**6, None, shared, digits=2) for part in logits[:40].split(20)]
    torch.testing.assert_close(read_rows(module, blobs, 40, shared), logits[:40, [4, 1]].float(), rtol=1e-3, atol=1e-3)


def test_a_fit_that_nobody_takes_is_refused() -> None:
    with pytest.raises(PluginError, match=r"'fake' defines fit\(\.\.\.\), so encode\(\.\.\.\) must take `shared`"):
        takes_shared(compressor(fit=lambda *_: b""))
    assert not takes_shared(compressor())


def test_a_code_over_its_budget_is_refused(logits: torch.Tensor) -> None:
    blob = encode(compressor(), soft(logits[:10]), 10 * VIEWS * CLASSES * 2, None, b"")
    assert torch.equal(read_rows(compressor(), [blob], 10), logits[:10, [4, 1]].float())
    with pytest.raises(PluginError, match=r"'fake': encode\(\.\.\.\) returned 1200 bytes for a budget of 1199"):
        encode(compressor(), soft(logits[:10]), 1199, None, b"")
    assert len(encode(compressor(TAKES_BUDGET=False), soft(logits[:10]), 1199, None, b"")) == 1200


@pytest.mark.parametrize("returned", ["text", None, bytearray(b"x"), np.zeros(3, np.uint8)])
def test_a_code_that_is_no_bytes_is_refused(logits: torch.Tensor, returned: Any) -> None:
    with pytest.raises(PluginError, match=f"must return bytes, not {type(returned).__name__}"):
        encode(compressor(encode=lambda *_: returned), soft(logits[:10]), 10**6, None, b"")


def test_what_is_shared_is_held_to_the_same_rules(logits: torch.Tensor) -> None:
    with pytest.raises(PluginError, match=r"fit\(\.\.\.\) must return bytes, not list"):
        fit(compressor(fit=lambda *_: [1.0]), soft(logits[:10]), 100, None)
    with pytest.raises(PluginError, match=r"fit\(\.\.\.\) returned 101 bytes for a budget of 100"):
        fit(compressor(fit=lambda *_: bytes(101)), soft(logits[:10]), 100, None)
    assert fit(compressor(fit=lambda *_: b"x"), soft(logits[:10]), 100, None) == b"x"


def test_infeasible_is_passed_on(logits: torch.Tensor) -> None:
    def too_small(labels: SoftLabels, budget_bytes: int, ctx: Any) -> bytes:
        raise InfeasibleError(77, "rank 1")

    with pytest.raises(InfeasibleError, match="77 bytes: rank 1"):
        encode(compressor(encode=too_small), soft(logits[:10]), 5, None, b"")
