"""What is taken where the user names nothing: the store, the device, the protocols."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_PROTOCOLS = ("small-soft-v1",)


def default_store() -> Path:
    """Where artifacts are kept: $CONDENSEBENCH_STORE, else .condensebench in the current folder."""
    return Path(os.environ.get("CONDENSEBENCH_STORE", ".condensebench"))


def default_device() -> str:
    """`cuda` where there is a CUDA device, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
