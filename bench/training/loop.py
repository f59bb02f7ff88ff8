"""The one training loop: every protocol, every student and every teacher is trained here.

Images lie in memory as uint8, or as floats where a condensed set has such pixels; an epoch's views are applied to
whole batches of tensors. Nothing here depends on the method that made the images: initialisation, data order and views
come from the coordinates that the caller names (protocol and replicate), so that comparisons between methods are
paired. Global random state is left as it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from bench.artifacts import pixels
from bench.artifacts.ahead import ahead
from bench.artifacts.split_images import SplitImages
from bench.errors import UserError
from bench.protocol.recipe import Optimizer, Recipe
from bench.seeds import Coordinate, seed
from bench.training.arithmetic import arithmetic, forward_pass, place
from bench.training.checkpoint import Parts
from bench.training.course import Course
from bench.training.feed import Feed, LabelReader, Teacher
from bench.training.footprint import images_of_a_pass
from bench.training.losses import Target, batch_loss, scale
from bench.training.rates import factor
from bench.training.speed_ups import compiled, prefetched
from bench.training.together import my_rows, rank, shared, summed, world
from bench.views.parameters import batch_bounds
from bench.views.render import normalise

__all__ = ["Evaluation", "LabelReader", "Teacher", "TrainLog", "TrainingDiverged", "evaluate", "normalise", "train"]


LABEL_BLOCK_BYTES = 256 * 2**20  # of decoded labels that are held at a time; at least one view is


class TrainingDiverged(UserError, RuntimeError):
    """The loss stopped being a finite number."""

    def __init__(self, epoch: int, loss: float) -> None:
        self.epoch, self.loss = epoch, loss
        super().__init__(f"training diverged: the mean loss of epoch {epoch} is {loss}; lower the learning rate")

    def __reduce__(self) -> tuple[type[TrainingDiverged], tuple[int, float]]:
        return (TrainingDiverged, (self.epoch, self.loss))


@dataclass
class TrainLog:
    """What happened in a training run."""

    losses: list[float] = field(
        default_factory=list
    )  # of each epoch, as bench.protocol.recipe.Loss defines it: mean per image
    steps: int = 0
    images_seen: int = 0
    seconds: float = 0.0  # wall time, callbacks included


@dataclass(frozen=True)
class Evaluation:
    """Result on a labelled set."""

    accuracy: float  # in [0, 1]
    loss: float  # mean cross-entropy
    n: int


def train(
    student: nn.Module,
    images: torch.Tensor | SplitImages,
    labels: torch.Tensor,
    recipe: Recipe,
    *,
    coordinates: Sequence[Coordinate],
    mean: Sequence[float],
    std: Sequence[float],
    mirror: bool,
    device: torch.device | str = "cpu",
    reader: LabelReader | None = None,
    teacher: Teacher | None = None,
    on_epoch_end: Callable[[int, nn.Module], None] | None = None,
    block_bytes: int = LABEL_BLOCK_BYTES,
    course: Course | None = None,
    stop_after: int | None = None,
) -> TrainLog:
    """Train `student` in place for `recipe.epochs` epochs; its last state is the result.

    Every image is seen once per epoch, the last batch may be short (a single left-over image joins the batch before).
    Stored labels: epoch e shows view e mod K; where only some views are stored, every batch draws one of them with
    replacement. With `recipe.draw` = "batch" every step draws a stored batch instead, and an epoch is its number of
    steps. With `recipe.accumulation` the student sees a batch chunk by chunk; online teachers see it whole. With
    `recipe.ema` the averaged parameters are copied into the student at the end; buffers (batch norm's running
    statistics) stay those of the trained model, as in EDC.

    Args:
        student: normalised float32 images -> logits [n, C]; already initialised. Moved to `device`.
        images: uint8, float32 or float16 [N, channels, size, size], grey levels; a split that does not fit into memory
            is read batch by batch.
        labels: int64 [N], class of each image.
        recipe: every fixed value.
        coordinates: name this run, for example (protocol id, replicate): data order, hard-label views, the draws from
            a pool of stored views and dropout are seeded by them. Same coordinates, same bits (CPU, one thread).
        mean, std: what the student's images are normalised with, per channel, in [0, 1].
        mirror: whether a mirrored image keeps its class (stored views know it already).
        device: where to train.
        reader: stored or learned labels; needed for, and only for, `recipe.labels` of these kinds.
        teacher: needed for, and only for, `recipe.labels == "online"`: maps a batch as the student sees it (normalised,
            mixed, erased; float32 [n, channels, size, size]) to teacher logits [n, classes]. Called without gradients.
        on_epoch_end: called as (epoch, student) after each epoch; may evaluate, must not train.
        block_bytes: bound on decoded labels held at a time.
        course: is told how far the training is, and keeps checkpoints from which it goes on; None: nobody and nothing.
        stop_after: epochs after which to stop, of a recipe that is longer; None: all of them.

    Raises:
        TrainingDiverged: the mean loss of an epoch is not finite.
        UserError: recipe, labels and images do not go together.
    """
    _check(images, labels, recipe, reader, teacher)
    device = torch.device(device)
    began = time.perf_counter()
    place(student, recipe, device)
    student.train()
    parameters: list[torch.Tensor] = [p for p in student.parameters() if p.requires_grad]
    optimizer = make_optimizer(student, recipe.optimizer)
    average = [p.detach().clone() for p in parameters] if recipe.ema else []
    scales = [m.weight for m in student.modules() if isinstance(m, nn.BatchNorm2d)] if recipe.scale_l1 else []
    log = TrainLog()
    with arithmetic(recipe, device), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # For networks of others that draw from the global generator.
        torch.manual_seed(seed("dropout", *coordinates, *([rank()] if rank() else [])))
        network = forward_pass(compiled(shared(student, device)), recipe, device)
        feed = Feed(
            images,
            labels,
            recipe,
            coordinates=coordinates,
            mean=mean,
            std=std,
            mirror=mirror,
            device=device,
            reader=reader,
            block_bytes=block_bytes,
            teacher=teacher,
        )
        times, offset, steps = scale(recipe.loss), 0.0, len(feed.bounds)
        course, epochs = course or Course(), min(recipe.epochs, stop_after or recipe.epochs)
        parts = Parts(student, optimizer, average, feed)
        if kept := course.begin(epochs, len(images), parts):
            offset, log.losses, log.seconds = kept["offset"], kept["losses"], kept["seconds"]
            log.steps, log.images_seen = kept["steps"], kept["images_seen"]
            began -= log.seconds
        for epoch in range(len(log.losses), epochs):
            if recipe.schedule.restart and epoch in recipe.schedule.milestones:
                optimizer = parts.optimizer = make_optimizer(student, recipe.optimizer)
            _set_rate(optimizer, recipe, epoch, log.losses)
            total, seen = torch.zeros((), device=device), 0
            for step, (x, target) in enumerate(prefetched(feed.epoch(epoch))):
                if recipe.schedule.per == "step":
                    _set_rate(optimizer, recipe, epoch + step / steps)
                total += _backward(network, x, target, recipe)
                for gamma in scales:
                    assert gamma.grad is not None
                    gamma.grad.add_(gamma.detach().sign(), alpha=recipe.scale_l1)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if average:
                    with torch.no_grad():  # else the average would remember every step
                        torch._foreach_lerp_(average, parameters, 1 - recipe.ema)
                seen += len(x)
                course.step(len(x))
            summed(total)
            so_far = float(feed.offset) * times
            log.losses.append((float(total) + so_far - offset) / seen)
            offset = so_far
            log.steps += steps
            log.images_seen += seen
            if not math.isfinite(log.losses[-1]):
                raise TrainingDiverged(epoch, log.losses[-1])
            if on_epoch_end is not None:
                on_epoch_end(epoch, student)
                student.train()
            log.seconds = time.perf_counter() - began
            course.epoch_ends(parts, {**vars(log), "offset": offset})
    if average:
        with torch.no_grad():
            torch._foreach_copy_(parameters, average)
    log.seconds = time.perf_counter() - began
    return log


def _check(
    images: torch.Tensor | SplitImages,
    labels: torch.Tensor,
    recipe: Recipe,
    reader: LabelReader | None,
    teacher: Teacher | None,
) -> None:
    if images.ndim != 4 or images.shape[-1] != images.shape[-2] or not len(images):
        raise UserError(f"images must be [N, channels, size, size], not {images.dtype} {tuple(images.shape)}")
    if isinstance(images, torch.Tensor):
        if fault := pixels.fault_of(images):
            raise UserError(fault)
        pixels.refuse_operations_on_floats(images, recipe)
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise UserError(f"labels must be int64 [{len(images)}], not {labels.dtype} {tuple(labels.shape)}")
    if (recipe.labels in ("stored", "learned")) != (reader is not None):
        raise UserError(f'labels = "{recipe.labels}" and {"a" if reader else "no"} stored label set do not go together')
    if (recipe.labels == "online") != (teacher is not None):
        raise UserError(f'labels = "{recipe.labels}" and {"a" if teacher else "no"} teacher do not go together')


def _set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, progress: float, losses: Sequence[float] = ()) -> None:
    for group in optimizer.param_groups:
        group["lr"] = recipe.optimizer.lr * factor(recipe.schedule, progress, recipe.epochs, losses)


def _backward(
    network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, target: Target, recipe: Recipe
) -> torch.Tensor:
    """Add the gradients of one batch, chunk by chunk, to the parameters; returns the sum of its images' losses, of
    those that this process trains on."""
    if recipe.accumulation == 1 and world() == 1:
        loss = batch_loss(network(x), target, recipe.loss)
        torch.autograd.backward(loss)
        return loss.detach() * len(x)
    total = torch.zeros((), device=x.device)
    for start, stop in batch_bounds(len(x), recipe.batch // recipe.accumulation):
        rows, mine = my_rows(start, stop)
        loss = batch_loss(network(x[rows]), target[rows], recipe.loss)
        nominal = recipe.accumulation_weight == "nominal"
        share = 1 / recipe.accumulation if nominal else (stop - start) / len(x)
        torch.autograd.backward(loss * (share if world() == 1 else share * world() * mine / (stop - start)))
        total += loss.detach() * mine
    return total


def make_optimizer(student: nn.Module, spec: Optimizer) -> torch.optim.Optimizer:
    """torch's AdamW or SGD in one fused kernel, weight decay where the recipe wants it."""
    decayed: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for name, p in student.named_parameters():
        if p.requires_grad:
            (decayed if spec.decay == "all" or ("weight" in name and p.ndim > 1) else others).append(p)
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if spec.name == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr, betas=spec.betas, fused=True)
    return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.nesterov, fused=True)


class ImageSlices(Protocol):
    """Images by slices: a tensor, or a test split that is read when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> torch.Tensor: ...


def _read(images: ImageSlices, slices: Sequence[slice]) -> Iterable[torch.Tensor]:
    """The slices of images, read ahead where they are not in memory."""
    if isinstance(images, torch.Tensor):
        return (images[part] for part in slices)
    return ahead(images.__getitem__, slices)


def evaluate(
    student: nn.Module,
    images: ImageSlices,
    labels: torch.Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch: int = 256,
) -> Evaluation:
    """Accuracy and cross-entropy in eval mode; the student's mode is restored.

    Args:
        student: runs on the device of its parameters.
        images: uint8 [N, channels, size, size], a tensor or what gives one for a slice.
        labels: int64 [N].
        mean, std: per channel, in [0, 1].
        batch: images that are read at once, and per forward pass; of images above 64 px a processor takes fewer a pass.
    """
    if not len(images):
        raise ValueError("images must hold at least one image")
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels")
    device = next((p.device for p in student.parameters()), labels.device)
    training = student.training
    student.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    total = torch.zeros((), dtype=torch.float64, device=device)
    with torch.inference_mode():
        slices = [slice(start, start + batch) for start in range(0, len(labels), batch)]
        for part, x in zip(slices, _read(images, slices), strict=True):
            at_once = images_of_a_pass(x, device)
            for some, y in zip(torch.split(x, at_once), torch.split(labels[part].to(device), at_once), strict=True):
                logits = student(normalise(some.to(device), mean, std))
                correct += (logits.argmax(dim=1) == y).sum()
                total += F.cross_entropy(logits, y, reduction="sum").double()
    student.train(training)
    return Evaluation(accuracy=int(correct) / len(images), loss=float(total) / len(images), n=len(images))
