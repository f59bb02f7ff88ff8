"""Which code decomposes labels: numpy, or batches in torch where the context lends a GPU. The only place that asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from methods._codec import batched, godec, godec_batched, lowrank, pcp, pcp_batched
from methods._codec.split import Split

if TYPE_CHECKING:
    from bench.api import Context

Three = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Decompositions:
    """Functions on batches [b, K, C], with arguments and results as the modules named here have them."""

    pcp: Callable[..., Three]  # pcp.pcp
    truncated_svd: Callable[[np.ndarray, int], Three]  # lowrank.truncated_svd
    randomised_svd: Callable[[np.ndarray, int, np.ndarray, int], Three]  # lowrank.randomised_svd
    godec: Callable[[np.ndarray, int, int], Split]  # godec.split


_ON_CPU = Decompositions(pcp.pcp, lowrank.truncated_svd, lowrank.randomised_svd, godec.split)


def of(ctx: Context | None) -> Decompositions:
    """Those for the device of this context; one that lends none stands for the CPU.

    The CPU keeps numpy, not torch with the device "cpu": released records were made with it, and must come out again
    to the bit.
    """
    device = getattr(ctx, "device", None)
    if device is None or device.type != "cuda":
        return _ON_CPU
    return Decompositions(
        partial(pcp_batched.pcp, device=device),
        partial(batched.truncated_svd, device=device),
        partial(batched.randomised_svd, device=device),
        partial(godec.split, search=partial(godec_batched.search, device=device)),
    )
