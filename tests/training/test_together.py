"""One training by several processes: gloo on processors, as torch's own tools do it on GPUs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bench.artifacts.split_images import SplitImages
from bench.errors import UserError
from bench.protocol.recipe import Optimizer, Schedule
from bench.training.loop import train
from bench.training.together import my_rows, train_together
from tests.worlds.lessons import MEAN, STD, hard, network, task, weights

OPTIONS = {"coordinates": ("run", 0), "mean": MEAN, "std": STD, "mirror": False}
TOLERANCE = 1e-5  # of float32 sums in another order, over the steps below


def test_two_processes_train_what_one_does(tmp_path):
    """Batches of 5 and 3: parts of 2 and 3 images, and of 1 and 2; weighted by their images they are the whole."""
    images, labels = task(23)
    recipe = hard(3, batch=5, ema=0.9, optimizer=Optimizer(name="sgd", lr=0.05, momentum=0.9))
    alone, both = network(norm=False), network(norm=False)
    train(alone, images, labels, recipe, **OPTIONS)
    train_together(train, both, images, labels, recipe, processes=2, device="cpu", **OPTIONS)
    moved = max((a - b).abs().max().item() for a, b in zip(weights(alone), weights(network(norm=False)), strict=True))
    apart = max((a - b).abs().max().item() for a, b in zip(weights(alone), weights(both), strict=True))
    assert apart < TOLERANCE < 1000 * TOLERANCE < moved


def test_what_ends_the_training_is_told_as_in_one_process():
    images, labels = task(12)
    steep = hard(2, optimizer=Optimizer(name="sgd", lr=1e30), schedule=Schedule(name="constant"))
    with pytest.raises(UserError, match="training diverged"):
        train_together(train, network(norm=False), images, labels, steep, processes=2, device="cpu", **OPTIONS)


def test_a_split_that_is_read_in_rows_is_shared_whole_where_it_fits(monkeypatch):
    from bench.training import together

    images, _ = task(12)

    class Rows(SplitImages):
        shape = images.shape

        def __init__(self) -> None:
            """Reads nothing."""

        def __getitem__(self, rows):
            return images[rows]

    assert torch.equal(together._whole(Rows()), images)
    monkeypatch.setattr(together.psutil, "virtual_memory", lambda: SimpleNamespace(available=700))
    with pytest.raises(UserError, match=r"0\.0 GB of training images have to lie in memory.*Train the teacher by one"):
        together._whole(Rows())


def test_batch_norm_over_processors_is_refused():
    with pytest.raises(UserError, match=r"torch has no batch norm over several of them\. Train it in"):
        train_together(train, network(), *task(), hard(), processes=2, device="cpu", **OPTIONS)


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_the_parts_of_a_batch_are_the_whole_and_one_that_is_empty_counts_nothing(processes, monkeypatch):
    from bench.training import together

    monkeypatch.setattr(together, "world", lambda: processes)
    rows: list[int] = []
    for number in range(processes):
        monkeypatch.setattr(together, "rank", lambda number=number: number)
        mine, counted = my_rows(4, 9)
        assert mine.stop > mine.start
        rows += list(range(mine.start, mine.stop))[:counted]
    assert rows == [4, 5, 6, 7, 8]
    assert torch.arange(9)[slice(4, 9)].tolist() == rows
