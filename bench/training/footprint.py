"""How much memory of a GPU a network takes while it is trained or asked, measured on tensors without content.

The network runs once on torch's device `meta`: shapes alone. What automatic differentiation would keep is added up, so
that the figure is right for networks of every kind. It is an estimate: kernels take room of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from bench.plugins.spec import Spec
from bench.protocol.recipe import Recipe
from bench.training.gpus import CONTEXT_BYTES
from bench.training.networks import build_network

ASKED_AT_ONCE = 250  # images of a forward pass without gradients (bench.teachers.ensemble.TEACHER_BATCH)
PASS_PIXELS = 256 * 64 * 64  # of such a pass on a processor
LABEL_WINDOW = 256 * 2**20  # bytes of decoded labels that the loop holds at a time
FLOATS = 512 * 2**20  # bytes of float images up to which the loop keeps a set as floats; a larger one stays uint8
SLACK = 1.25  # for what kernels take, and for gaps between blocks


def images_of_a_pass(images: torch.Tensor, device: torch.device | str) -> int:
    """How many of these images [..., size, size] go through a network at once, where no gradients are asked for.

    A worker on a processor shares its memory with others, and what a network makes of 256 images of 224 px takes 6 GB:
    there a pass has no more pixels than 256 images of 64 px have.
    """
    if torch.device(device).type != "cpu":
        return max(1, len(images))
    return max(1, PASS_PIXELS // (images.shape[-1] * images.shape[-2]))


@dataclass(frozen=True)
class Sizes:
    """Bytes of one network."""

    parameters: int  # and buffers
    kept: int  # per image, for the backward pass
    largest: int  # per image, of one activation


_known: dict[tuple[str, int, int, int], Sizes] = {}


def sizes(network: Spec, channels: int, size: int, classes: int) -> Sizes:
    """Bytes that a network takes, measured once."""
    key = str(network), channels, size, classes
    if key not in _known:
        _known[key] = _measured(network, channels, size, classes)
    return _known[key]


def _measured(network: Spec, channels: int, size: int, classes: int) -> Sizes:
    """`sizes`, from one forward pass of two images without content."""
    with torch.device("meta"):
        model = build_network(network, channels=channels, size=size, classes=classes, seed=0).train()
        images = torch.empty(2, channels, size, size)
    states = {t.untyped_storage()._cdata: t for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor  # held, so that no other storage takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = model(images)
    activations = [t.untyped_storage().nbytes() // 2 for key, t in kept.items() if key not in states]
    return Sizes(
        parameters=sum(t.untyped_storage().nbytes() for t in states.values()),
        kept=sum(activations),
        largest=max([*activations, outputs.untyped_storage().nbytes() // 2]),
    )


def training(
    network: Spec, recipe: Recipe, teachers: Iterable[Spec] = (), *, channels: int, size: int, classes: int, images: int
) -> int:
    """Bytes of a GPU that training takes.

    Args:
        network: the student.
        recipe: batch, accumulation, optimiser, average and labels are read.
        teachers: that answer for every batch while the student trains.
        channels, size, classes: of the data set.
        images: of the training set, which lies on the GPU.
    """
    student = sizes(network, channels, size, classes)
    states = 2 + (2 if recipe.optimizer.name == "adamw" else 1) + (1 if recipe.ema else 0)
    chunk = min(images, recipe.batch) // recipe.accumulation or 1
    image = 4 * channels * size * size
    labels = min(LABEL_WINDOW, 4 * images * recipe.views * classes)
    total = student.parameters * states + chunk * (student.kept + 2 * student.largest)
    total += _held(image, images) + 6 * image * min(images, recipe.batch) + 2 * labels
    for teacher in teachers:
        total += _asking(teacher, min(images, recipe.batch), channels, size, classes)
    return CONTEXT_BYTES + int(SLACK * total)


def labelling(teachers: Iterable[Spec], *, channels: int, size: int, classes: int, images: int) -> int:
    """Bytes of a GPU that labelling takes, by all teachers together; arguments as of `training`."""
    image, batch = 4 * channels * size * size, min(images, ASKED_AT_ONCE)
    total = _held(image, images) + 6 * image * batch
    total += sum(_asking(teacher, batch, channels, size, classes) for teacher in teachers)
    return CONTEXT_BYTES + int(SLACK * total)


def _held(image: int, images: int) -> int:
    """Bytes of a whole set on the GPU, of `image` bytes an image as floats."""
    return image * images if image * images <= FLOATS else image * images // 4


def _asking(network: Spec, batch: int, channels: int, size: int, classes: int) -> int:
    """Bytes of a forward pass without gradients: an activation goes when the next one has come."""
    each = sizes(network, channels, size, classes)
    return each.parameters + 4 * batch * each.largest
