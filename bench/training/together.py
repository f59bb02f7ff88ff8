"""One training by several processes, each with a GPU (or a processor): torch's DistributedDataParallel.

Every process makes the same batches and trains on its part of them; gradients are averaged, weighted by the images of
each part, so that a step is that of the whole batch. Batch norm works on the statistics of the whole batch on GPUs
(torch's SyncBatchNorm), and has no such form on processors. Sums have another order than in one process: results agree
to the tolerance of float32, not to the bit.
"""

from __future__ import annotations

import copy
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.artifacts.split_images import SplitImages
from bench.errors import UserError
from bench.training.course import Course, Moving


def rank() -> int:
    """The number of this process among those that train together; 0 alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def my_rows(start: int, stop: int) -> tuple[slice, int]:
    """(rows of a batch that this process trains on, how many of them count), of its rows from `start` to `stop`.

    Where there are fewer rows than processes, some train on a row that does not count: gradients are averaged over all.
    """
    images = stop - start
    first, last = (start + images * number // world() for number in (rank(), rank() + 1))
    return (slice(first, last), last - first) if last > first else (slice(start, start + 1), 0)


def summed(value: torch.Tensor) -> torch.Tensor:
    """The sum over all processes."""
    if world() > 1:
        dist.all_reduce(value)
    return value


def shared(network: nn.Module, device: torch.device) -> nn.Module:
    """The network as the loop calls it where several processes train it: its gradients are those of all."""
    if world() == 1:
        return network
    devices = [device.index or 0] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=devices)


def train_together(
    train: Callable[..., Any],
    network: nn.Module,
    images: torch.Tensor | SplitImages,
    labels: torch.Tensor,
    recipe: Any,
    *,
    processes: int,
    device: str,
    course: Course | None = None,
    **options: Any,
) -> None:
    """Train a network by several processes; it has its last state afterwards, on the device that it was on.

    Args:
        train: bench.training.loop.train. Its arguments are passed on to every process; callbacks cannot be.
        network, images, labels, recipe, options: its arguments.
        processes: how many; on GPUs each has its own.
        device: cpu or cuda.
        course: kept by the first process.

    Raises:
        UserError: the network has batch norms and trains on processors, or `train` raised one.
    """
    if device == "cpu" and any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise UserError(
            f"{processes} processes cannot train a network with batch norm on processors: torch has no batch norm over "
            "several of them. Train it in one process."
        )
    place = next(network.parameters()).device
    network.cpu().share_memory()
    images, labels = (each.share_memory_() for each in (_whole(images), labels))  # type: ignore[no-untyped-call]
    folder, name = (None, "") if course is None else (course.folder, course.name)
    with tempfile.TemporaryDirectory(prefix="condensebench-together-") as meeting:
        arguments = (
            processes,
            meeting,
            name,
            folder,
            train,
            network,
            images,
            labels,
            recipe,
            {**options, "device": device},
        )
        torch.multiprocessing.spawn(_one_process, args=arguments, nprocs=processes)  # type: ignore[no-untyped-call]
        if (failure := Path(meeting, "failure")).is_file():
            raise UserError(json.loads(failure.read_text(encoding="utf-8")))
    network.to(place)


def _whole(images: torch.Tensor | SplitImages) -> torch.Tensor:
    """All images in memory, which the processes share. Raises UserError where they do not fit."""
    if isinstance(images, torch.Tensor):
        return images
    needed, there = math.prod(images.shape), psutil.virtual_memory().available
    if needed > there:
        raise UserError(
            f"--teacher-gpus: {needed / 1e9:.1f} GB of training images have to lie in memory, which all processes "
            f"share, and {there / 1e9:.1f} GB are free. Train the teacher by one process."
        )
    return images[torch.arange(len(images))]


class _Follower(Course):
    """The course of a process that is not the first: it goes on where the first one does, and keeps nothing."""

    def epoch_ends(self, parts: Moving, facts: dict[str, Any]) -> None:
        """As Course.epoch_ends."""


def _one_process(
    number: int,
    processes: int,
    meeting: str,
    name: str,
    folder: Path | None,
    train: Callable[..., Any],
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    recipe: Any,
    options: dict[str, Any],
) -> None:
    """What each process does: it trains a copy, and the first one writes its last state into the network of all."""
    torch.set_num_threads(1)
    mine, on_gpu = copy.deepcopy(network), options["device"] == "cuda"
    if on_gpu:
        torch.cuda.set_device(number)
        options["device"] = f"cuda:{number}"
        mine = nn.SyncBatchNorm.convert_sync_batchnorm(mine)  # type: ignore[no-untyped-call]
    place = f"file://{meeting}/meeting"
    dist.init_process_group("nccl" if on_gpu else "gloo", init_method=place, rank=number, world_size=processes)
    try:
        train(mine, images, labels, recipe, course=(_Follower if number else Course)(name, folder), **options)
        if number == 0:
            network.load_state_dict(mine.state_dict())
    except UserError as error:  # of all of them: they compute the same losses
        if number == 0:
            Path(meeting, "failure").write_text(json.dumps(str(error)), encoding="utf-8")
    finally:
        dist.destroy_process_group()
