"""Every compressor in methods/compressors with its variants, as the tests call them, and label sets to call them on."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import settings
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import methods.compressors
from bench.api import SoftLabels
from bench.errors import InfeasibleError
from bench.seeds import numpy_generator

NAMES = sorted(p.stem for p in Path(methods.compressors.__file__).parent.glob("*.py") if not p.stem.startswith("_"))
BUDGETED = [
    name for name in NAMES if getattr(importlib.import_module(f"methods.compressors.{name}"), "TAKES_BUDGET", True)
]
VARIANTS: list[tuple[str, dict]] = [
    *((name, {"steps": 4} if name == "vq" else {}) for name in NAMES),
    ("svd", {"factor": "int8"}),
    ("svd", {"layout": "set"}),
    ("svd", {"layout": "set", "factor": "int8"}),
    ("rsvd", {"factor": "int8", "power_iterations": 0, "oversampling": 0}),
    ("cur", {"pick": "sampled"}),
    ("cur", {"centre": False}),
    ("rpca", {"entries": "pursuit"}),
    ("rpca", {"precision": "float64", "lambda_": 0.2}),
    ("lpld", {"order": "first"}),
    ("lpqld", {"pool": 0.5, "rest": "minimum"}),
    ("topk", {"rest": "minimum"}),
    ("marginal_smoothing", {"temperature": 20.0}),
    ("mean", {"domain": "probabilities"}),
    ("quant", {"coder": "range"}),
    ("quant", {"coder": "zstd"}),
    ("quant", {"domain": "probabilities", "temperature": 20.0}),
    ("godec", {"domain": "probabilities"}),
    ("svd", {"domain": "probabilities", "temperature": 4.0}),
    ("svd", {"domain": "probabilities", "layout": "set"}),
    ("rsvd", {"domain": "probabilities"}),
    ("cur", {"domain": "probabilities"}),
    ("rpca", {"domain": "probabilities"}),
    ("pq", {"domain": "probabilities"}),
    ("vq", {"domain": "probabilities", "temperature": 4.0, "steps": 4}),
]
LOW_RANK = {"svd", "rsvd", "cur", "rpca", "godec"}
# What these keep of an image or a row is fixed: no budget brings all of it back.
FIXED = {"mean", "fkd_hard", "smoothing"}
# The constant of a row of logits is lost where probabilities are kept.
OF_PROBABILITIES = {"marginal_smoothing", "marginal_renorm", "smoothing", "fkd_hard"}
BUDGETED_VARIANTS = [(name, options) for name, options in VARIANTS if name in BUDGETED]
LAW = settings(max_examples=15, deadline=None, derandomize=True)
PLENTY = 1 << 30
every = pytest.mark.parametrize(("name", "options"), VARIANTS)
every_budgeted = pytest.mark.parametrize(("name", "options"), BUDGETED_VARIANTS)


def module(name: str) -> ModuleType:
    return importlib.import_module(f"methods.compressors.{name}")


def context(seed: int = 0) -> SimpleNamespace:
    return SimpleNamespace(numpy=lambda *coordinates: numpy_generator("test", seed, *coordinates))


def labels(logits: np.ndarray | torch.Tensor) -> SoftLabels:
    tensor = torch.as_tensor(logits)
    return SoftLabels(tensor, torch.zeros(len(tensor), dtype=torch.int64))


def encode(name: str, logits: np.ndarray | torch.Tensor, budget: int = PLENTY, seed: int = 0, **options) -> bytes:
    return module(name).encode(labels(logits), budget, context(seed), **options)


def kept(name: str, blob: bytes, k: int) -> np.ndarray:
    return module(name).rows(blob) if hasattr(module(name), "rows") else np.arange(k)


def smallest(name: str, logits: np.ndarray, **options) -> int:
    with pytest.raises(InfeasibleError) as caught:
        encode(name, logits, 0, **options)
    return caught.value.smallest_bytes


def keeps_probabilities(name: str, options: dict) -> bool:
    return name in OF_PROBABILITIES or options.get("domain") == "probabilities"


def comparable(logits: np.ndarray, name: str, options: dict) -> np.ndarray:
    """What a compressor undertakes to keep: the logits, or their probabilities at its temperature."""
    wide = logits.astype(np.float64)
    return softmax(wide / options.get("temperature", 1.0), 2) if keeps_probabilities(name, options) else wide


def error(name: str, blob: bytes, logits: np.ndarray, **options) -> float:
    """Squared error over the views that are stored, relative to the whole."""
    wide = comparable(logits, name, options)
    rest = comparable(module(name).decode(blob).numpy(), name, options) - wide[:, kept(name, blob, logits.shape[1])]
    return float((rest**2).sum() / (wide**2).sum())


@functools.cache
def noise(n: int = 5, k: int = 12, c: int = 20, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (4 * rng.standard_normal((n, 1, c)) + rng.standard_normal((n, k, c))).astype(np.float16)


@functools.cache
def digits() -> np.ndarray:
    """Logits [8, 30, 10] of a logistic regression for noisy, shifted views of eight digits."""
    images, target = load_digits(return_X_y=True)
    images = images / 16
    teacher = LogisticRegression(max_iter=200, C=1.0).fit(images[::4], target[::4])
    rng = np.random.default_rng(0)
    views = images[:8].reshape(8, 1, 8, 8).repeat(30, 1)
    for view in range(30):
        views[:, view] = np.roll(views[:, view], rng.integers(-1, 2, 2), (1, 2))
    noisy = views + 0.12 * rng.standard_normal(views.shape)
    return teacher.decision_function(noisy.reshape(-1, 64)).reshape(8, 30, 10).astype(np.float16)


def degenerate() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    one_hot = np.zeros((3, 8, 6), np.float32)
    one_hot[:, :, 2] = 1
    mixed = rng.standard_normal((3, 8, 6)).astype(np.float32)
    mixed[1] = 0
    outlier = rng.standard_normal((3, 8, 6)).astype(np.float16)
    outlier[0, 1, 2], outlier[2, 3, 4] = 65504, -65504
    return {
        "zeros": np.zeros((3, 8, 6), np.float32),
        "constant": np.full((3, 8, 6), 2.5, np.float32),
        "rows equal": rng.standard_normal((3, 1, 6)).repeat(8, 1).astype(np.float16),
        "one-hot": one_hot,
        "one image of zeros": mixed,
        "one view": rng.standard_normal((3, 1, 6)).astype(np.float16),
        "two classes": rng.standard_normal((3, 8, 2)).astype(np.float16),
        "one view, two classes": rng.standard_normal((1, 1, 2)).astype(np.float16),
        "one class": rng.standard_normal((2, 5, 1)).astype(np.float16),
        "tiny": (rng.standard_normal((3, 8, 6)) * 1e-30).astype(np.float32),
        "huge": (rng.standard_normal((3, 8, 6)) * 1e30).astype(np.float32),
        "outliers": outlier,
        "above float16": np.where(mixed > 2, 1e6, mixed).astype(np.float32),
    }
