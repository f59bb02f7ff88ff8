"""Decompositions in batches on a torch device against those in numpy, and which of them the compressors take.

The code asks for no GPU, so that all but the last tests run it on the CPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.api import SoftLabels
from methods._codec import batched, decompositions, godec, godec_batched, lowrank, pcp, pcp_batched
from methods._codec.split import rank_grid
from methods.compressors import godec as godec_compressor
from methods.compressors import rpca, rsvd, svd
from speed import batched as speed_batched
from speed.__main__ import table

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def planted(b: int, k: int, c: int, rank: int, share: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.standard_normal((b, k, rank)) @ rng.standard_normal((b, rank, c))
    return low + np.where(rng.random((b, k, c)) < share, rng.choice([-8.0, 8.0], (b, k, c)), 0)


def cases() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3, 12, 20))
    return {
        "random": noise,
        "low rank plus sparse": planted(3, 30, 50, 2, 0.05, 1),
        "square": rng.standard_normal((2, 15, 15)),
        "zeros": np.zeros((2, 5, 7)),
        "one matrix of zeros": np.concatenate([noise[:1], np.zeros((1, 12, 20)), noise[1:]]),
        "constant": np.full((2, 6, 9), 2.5),
        "rows equal": np.repeat(rng.standard_normal((2, 1, 9)), 6, axis=1),
        "one view": rng.standard_normal((3, 1, 9)),
        "two classes": rng.standard_normal((3, 9, 2)),
        "one value": rng.standard_normal((2, 1, 1)),
        "more views than classes": rng.standard_normal((2, 25, 8)),
        "tiny": 1e-30 * noise,
        "huge": 1e30 * noise,
        "float32": noise.astype(np.float32),
    }


def mixed_difficulty() -> np.ndarray:
    """Matrices [5, 20, 30] that stop at iterations of their own."""
    rng = np.random.default_rng(9)
    noise = rng.standard_normal((2, 20, 30))
    heavy = rng.standard_t(2, (1, 20, 30))
    return np.concatenate([noise, planted(1, 20, 30, 2, 0.05, 9), np.ones((1, 20, 30)), heavy])


def apart(found: np.ndarray, expected: np.ndarray, of: np.ndarray) -> float:
    """The largest distance in the batch, relative to the norm of the matrix."""
    norm = np.maximum(np.linalg.norm(of.astype(np.float64), axis=(1, 2)), np.finfo(np.float64).tiny)
    return float((np.linalg.norm(found.astype(np.float64) - expected, axis=(1, 2)) / norm).max())


def assert_same_split(data: np.ndarray, device: torch.device, **options) -> None:
    low, sparse, iterations = pcp.pcp(data, **options)
    found_low, found_sparse, found_iterations = pcp_batched.pcp(data, device=device, **options)
    assert (found_low.dtype, found_sparse.dtype, found_iterations.dtype) == (np.float64, np.float64, np.int64)
    within = 1e-3 if options.get("precision") == "mixed" else 1e-10
    assert apart(found_low, low, data) <= within
    assert apart(found_sparse, sparse, data) <= within
    if options.get("precision") != "mixed":
        np.testing.assert_array_equal(found_iterations, iterations)


def assert_same_product(data: np.ndarray, rank: int, device: torch.device) -> None:
    left, right, singular = lowrank.truncated_svd(data, rank)
    found_left, found_right, found_singular = batched.truncated_svd(data, rank, device)
    for found, expected in ((found_left, left), (found_right, right), (found_singular, singular)):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found_left @ found_right, left @ right, atol=1e-5)
    np.testing.assert_allclose(found_singular, singular, atol=1e-5)


def assert_same_search(data: np.ndarray, share: int, device: torch.device, rel: float = 1e-3) -> None:
    """The walk of every image ends at the same rank, with as little left over, of which as much is in the entries."""
    _, k, c = data.shape
    grid = rank_grid(min(share // (16 * (k + c)), k, c))
    matrices = np.ascontiguousarray(data, np.float32)
    states = godec_batched.search(matrices, grid, share, 4, device)
    for matrix, there in zip(matrices, states, strict=True):
        here = godec.search(matrix, grid, share, 4)
        assert (there.basis.shape, there.sparse.shape) == (here.basis.shape, here.sparse.shape)
        assert (there.basis.dtype, there.sparse.dtype) == (np.float32, np.float32)
        norm = float(np.vdot(matrix, matrix))
        assert there.error == pytest.approx(here.error, rel=rel, abs=1e-6 * norm)
        filled = [np.count_nonzero(one.sparse) for one in (here, there)]
        assert abs(filled[0] - filled[1]) <= 0.02 * filled[0] + 2


def assert_same_random_range(data: np.ndarray, rank: int, power_iterations: int, device: torch.device) -> None:
    test = np.random.default_rng(3).standard_normal((data.shape[2], min(rank + 2, *data.shape[1:])))
    left, right, singular = lowrank.randomised_svd(data, rank, test, power_iterations)
    found = batched.randomised_svd(data, rank, test, power_iterations, device)
    assert [part.shape for part in found] == [left.shape, right.shape, singular.shape]
    np.testing.assert_allclose(found[0] @ found[1], left @ right, atol=1e-5)
    np.testing.assert_allclose(found[2], singular, atol=1e-5)


def normalised(data: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(data.astype(np.float64), axis=(1, 2), keepdims=True)
    return data / np.where(norm > 0, norm, 1)


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize(
    "options",
    [{}, {"tol": 1e-4}, {"lambda_": 0.1}, {"precision": "mixed"}, {"precision": "mixed", "tol": 1e-4}],
    ids=str,
)
def test_the_pursuit_is_that_of_numpy(name, options):
    assert_same_split(cases()[name], CPU, **options)


@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_each_matrix_of_a_batch_stops_by_itself(precision):
    data = mixed_difficulty()
    assert_same_split(data, CPU, precision=precision)
    low, sparse, iterations = pcp_batched.pcp(data, precision=precision, device=CPU)
    assert len(set(iterations)) >= 4
    for i in range(len(data)):
        alone = pcp_batched.pcp(data[i : i + 1], precision=precision, device=CPU)
        assert apart(low[i : i + 1], alone[0], data[i : i + 1]) <= (1e-3 if precision == "mixed" else 1e-12)
        assert apart(low[i : i + 1] + sparse[i : i + 1], data[i : i + 1], data[i : i + 1]) <= 1.1e-7
        assert precision == "mixed" or iterations[i] == alone[2][0]


def test_iterations_end_at_the_most_allowed():
    assert_same_split(mixed_difficulty(), CPU, max_iter=12)
    assert pcp_batched.pcp(mixed_difficulty(), max_iter=12, device=CPU)[2].max() == 12


def test_extreme_weights_put_all_into_one_part():
    for weight in (1e-6, 1e4):
        assert_same_split(np.random.default_rng(7).standard_normal((2, 10, 14)), CPU, lambda_=weight)


@pytest.mark.parametrize("bad", [{"lambda_": 0.0}, {"lambda_": -1.0}, {"tol": 0.0}, {"precision": "float16"}])
def test_arguments_out_of_range_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        pcp_batched.pcp(np.ones((1, 2, 2)), device=CPU, **bad)


@pytest.mark.parametrize("name", cases())
def test_the_truncated_svd_is_that_of_numpy(name):
    data = normalised(cases()[name])
    side = min(data.shape[1:])
    for rank in {1, (side + 1) // 2, side}:
        assert_same_product(data, rank, CPU)


def test_the_truncated_svd_in_float32_is_that_of_numpy():
    """Above 128 on the smaller side both work in float32; the cut is where the spectrum falls, as its place tells."""
    data = normalised(planted(2, 140, 200, 3, 0.02, 3))
    assert lowrank.working_dtype(140, 200) is np.float32
    assert_same_product(data, 3, CPU)
    assert_same_product(data.transpose(0, 2, 1), 3, CPU)


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("power_iterations", [0, 2])
def test_the_random_range_is_that_of_numpy(name, power_iterations):
    data = normalised(cases()[name])
    side = min(data.shape[1:])
    for rank in {1, (side + 1) // 2, side}:
        assert_same_random_range(data, rank, power_iterations, CPU)


def exact_ranks() -> np.ndarray:
    """Matrices [12, 40, 60] of ranks 1, 3 and 9 and entries, and nothing else."""
    return np.concatenate([planted(4, 40, 60, rank, 0.05, rank) for rank in (1, 3, 9)])


def walks() -> dict[str, np.ndarray]:
    """Where the best rank, and the subspace at each, are told by more than rounding."""
    rng = np.random.default_rng(4)
    return {
        "noise": rng.standard_normal((4, 40, 60)),
        "heavy tails": rng.standard_t(2, (4, 40, 60)),
        "low rank plus sparse": planted(5, 40, 60, 4, 0.05, 4) + 0.1 * rng.standard_normal((5, 40, 60)),
        "more views than classes": rng.standard_t(3, (3, 90, 20)),
        "zeros": np.zeros((2, 40, 60)),
        "ranks of their own": exact_ranks() + 0.1 * rng.standard_normal((12, 40, 60)),
    }


WALKS = pytest.mark.parametrize(("name", "share_of"), [(n, s) for n in walks() for s in (0.1, 0.3, 0.8)])


@WALKS
def test_the_search_of_godec_is_that_of_numpy(name, share_of):
    data = walks()[name]
    assert_same_search(normalised(data), int(16 * share_of * data[0].size), CPU)


def test_where_rounding_is_all_that_is_left_walks_part():
    """Fifteen dimensions for a matrix of rank 9: what lies in the others is rounding. numpy's own walk ends with a
    twentieth more or less left over where the matrix moves by a ten-millionth; so may that of another processor."""
    assert_same_search(normalised(exact_ranks()), int(16 * 0.8 * 2400), CPU, rel=0.1)


def test_images_walk_by_themselves_and_no_more_at_once_than_memory_holds(monkeypatch: pytest.MonkeyPatch):
    data = normalised(walks()["ranks of their own"]).astype(np.float32)
    grid, share = rank_grid(12), 16 * 1200
    together = godec_batched.search(data, grid, share, 4, CPU)
    assert len({state.basis.shape[1] for state in together}) > 1
    sizes: list[int] = []

    def watched(matrices: np.ndarray, _: torch.device) -> torch.Tensor:
        sizes.append(len(matrices))
        return torch.from_numpy(np.ascontiguousarray(matrices))

    monkeypatch.setattr(batched, "moved", watched)
    alone = godec_batched.search(data, grid, share, 4, CPU, working_bytes=1)
    assert sizes == [1] * len(data)
    for one, other in zip(alone, together, strict=True):
        assert one.basis.shape == other.basis.shape
        assert one.error == pytest.approx(other.error, rel=1e-3)


def test_what_is_worked_on_at_once_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    data = mixed_difficulty()
    low, _, iterations = pcp_batched.pcp(data, device=CPU)
    left, right, _ = batched.truncated_svd(data, 3, CPU)
    sizes: list[int] = []

    def watched(matrices: np.ndarray, _: torch.device) -> torch.Tensor:
        sizes.append(len(matrices))
        return torch.from_numpy(np.ascontiguousarray(matrices))

    monkeypatch.setattr(batched, "moved", watched)
    two = 2 * 8 * (12 * 20 * 30 + 6 * 20 * 20)  # bytes
    again = pcp_batched.pcp(data, device=CPU, working_bytes=two)
    assert sizes == [2, 2, 1]
    assert apart(again[0], low, data) <= 1e-12
    np.testing.assert_array_equal(again[2], iterations)
    sizes.clear()
    alone = batched.truncated_svd(data, 3, CPU, working_bytes=1)
    assert sizes == [1] * 5
    np.testing.assert_allclose(alone[0] @ alone[1], left @ right, atol=1e-9)


def test_matrices_handed_in_are_left_alone():
    data = planted(2, 8, 12, 2, 0.1, 5)
    before = data.copy()
    pcp_batched.pcp(data, device=CPU)
    batched.truncated_svd(data, 2, CPU)
    np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize("context", [None, SimpleNamespace(), SimpleNamespace(device=CPU)], ids=str)
def test_without_a_gpu_numpy_decomposes(context):
    assert decompositions.of(context).pcp is pcp.pcp
    assert decompositions.of(context).truncated_svd is lowrank.truncated_svd
    assert decompositions.of(context).randomised_svd is lowrank.randomised_svd
    assert decompositions.of(context).godec is godec.split


def field() -> SoftLabels:
    rng = np.random.default_rng(2)
    logits = planted(6, 20, 30, 3, 0.05, 2) + 0.3 * rng.standard_normal((6, 20, 30))
    logits[3] = 0
    return SoftLabels(torch.from_numpy(logits.astype(np.float16)), torch.zeros(6, dtype=torch.int64))


def assert_same_blob(module: ModuleType, options: dict) -> None:
    """Encoded for a GPU: as many bytes, decoded within as much of the labels as what the CPU makes of them."""
    labels, budget = field(), 2 * 6 * 20 * 30 // 4
    wide = labels.logits.double()
    contexts = [SimpleNamespace(device=device, numpy=lambda _: np.random.default_rng(0)) for device in (CPU, GPU)]
    blobs = [module.encode(labels, budget, context, **options) for context in contexts]
    here, there = (module.decode(blob).double() for blob in blobs)
    assert len(blobs[1]) <= budget
    errors = [float((decoded - wide).norm() / wide.norm()) for decoded in (here, there)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)
    assert float((here - there).norm() / wide.norm()) < 1e-2 * errors[0]


COMPRESSORS = pytest.mark.parametrize(
    ("module", "options"),
    [
        (rpca, {}),
        (rpca, {"entries": "pursuit", "precision": "float64"}),
        (svd, {}),
        (svd, {"factor": "int8"}),
        (svd, {"layout": "set"}),
        (rsvd, {}),
        (godec_compressor, {}),
        (godec_compressor, {"domain": "probabilities"}),
    ],
)


WORKS: dict[str, Callable[[np.ndarray, torch.device, int], object]] = {
    "float64": lambda data, device, most: pcp_batched.pcp(data, device=device, working_bytes=most),
    "mixed": lambda data, device, most: pcp_batched.pcp(data, precision="mixed", device=device, working_bytes=most),
    "svd": lambda data, device, most: batched.truncated_svd(data, 9, device, most),
    "rsvd": lambda data, device, most: batched.randomised_svd(data, 9, np.ones((data.shape[2], 19)), 1, device, most),
    "godec": lambda data, device, most: godec_batched.search(data, rank_grid(20), 16 * 6000, 4, device, most),
}


class Peak(TorchDispatchMode):
    """Bytes of all tensors that operations made and that are still alive, at the most."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, int] = {}
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                at = storage.data_ptr()
                if at and at not in self._alive:
                    self._alive[at] = storage.nbytes()
                    weakref.finalize(storage, self._alive.pop, at, None)
        self.bytes = max(self.bytes, sum(self._alive.values()))
        return made


@pytest.mark.parametrize("work", WORKS)
def test_the_tensors_of_a_part_take_no_more_than_the_working_memory(work):
    """What the solvers inside an operation take for themselves is not seen here; it is on a GPU, below."""
    data = planted(40, 100, 200, 4, 0.05, 6).astype(np.float32 if work == "godec" else np.float64)
    with Peak() as peak:
        WORKS[work](data, CPU, 1 << 24)
    assert peak.bytes > 1 << 21
    assert peak.bytes <= 1 << 24


@COMPRESSORS
def test_a_compressor_lent_a_gpu_makes_an_equal_blob(module, options, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def here(matrices: np.ndarray, device: torch.device) -> torch.Tensor:
        asked.append(device.type)
        return torch.from_numpy(np.ascontiguousarray(matrices))

    monkeypatch.setattr(batched, "moved", here)
    assert_same_blob(module, options)
    assert set(asked) == (set() if options.get("layout") == "set" else {"cuda"})


def test_the_speed_table_says_why_it_has_no_figures_of_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = speed_batched.measure(quick=True)
    assert len(rows) == 4
    assert all(row.holds is None for row in rows)
    assert table(rows).count("skipped") == 4
    assert "no CUDA device" in table(rows)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", cases())
def test_a_gpu_decomposes_as_numpy_does(name):
    data = cases()[name]
    for options in ({}, {"precision": "mixed"}):
        assert_same_split(data, GPU, **options)
    assert_same_product(normalised(data), min(data.shape[1:]), GPU)
    assert_same_random_range(normalised(data), min(data.shape[1:]), 1, GPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@WALKS
def test_a_gpu_walks_as_numpy_does(name, share_of):
    data = walks()[name]
    assert_same_search(normalised(data), int(16 * share_of * data[0].size), GPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@COMPRESSORS
def test_a_gpu_makes_an_equal_blob(module, options):
    assert_same_blob(module, options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("work", WORKS)
def test_a_gpu_keeps_to_the_working_memory(work):
    data = planted(40, 100, 200, 4, 0.05, 6).astype(np.float32 if work == "godec" else np.float64)
    WORKS[work](data[:1], GPU, 1 << 24)  # libraries take their own memory once
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    WORKS[work](data, GPU, 1 << 24)
    assert torch.cuda.max_memory_allocated() - before <= 1 << 24
