"""What observers see in a condensed set: networks that learnt the training split, and nothing of the set.

Entropy of the predicted classes and negative log-likelihood of the labels, as in Rethinking Large-scale Dataset
Compression (figure 3, tables 13 to 16), of whole images or of random crops; and the shape of the observer's loss on the
set, as in EDC (figure 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.artifacts.opened import Data
from bench.artifacts.refs import CondensedRef, DatasetRef, Workspace, read_condensed
from bench.labels.making import teacher_logits
from bench.protocol.recipe import Augment
from bench.seeds import seed, torch_generator
from bench.studies.probes.curvature import LossShape, Norm, cosine
from bench.teachers import loaded, network_choice, teacher_files, weights
from bench.teachers.ensemble import Ensemble, Member
from bench.teachers.teacher_files import TeacherRef
from bench.views.parameters import Views
from bench.views.render import normalise

TRAINING_IMAGES = 1000  # of the training split, whose gradient the set's is held to
LANCZOS, SIGNS = 20, 5  # steps, and random vectors


@dataclass(frozen=True)
class Crops:
    """How images are shown to observers: whole, or `count` random crops of each."""

    scale: float = 1.0  # smallest share of the area; 1 is the whole image
    count: int = 1


@dataclass(frozen=True)
class Seen:
    """What an observer says of a set, a value for each image (the mean over its crops)."""

    entropy: np.ndarray  # float64 [n], nats
    nll: np.ndarray  # float64 [n], nats
    right: np.ndarray  # float64 [n]: share of the crops that are taken for their class


@dataclass(frozen=True)
class Shape:
    """The observer's loss on a set, at the observer's weights."""

    loss: float
    gradient: float  # its norm
    cosine: float  # of the gradients on the set and on images of the training split
    largest: float  # eigenvalue of the Hessian by absolute value
    frobenius: Norm


@dataclass(frozen=True)
class Observer:
    """A network that learnt the training split, under its recipe's name."""

    recipe: str
    ref: TeacherRef
    member: Member


def observers(ws: Workspace, dataset: DatasetRef, names: Sequence[str]) -> list[Observer]:
    """The networks of these teacher recipes; of the data set's list where none is named. What does not ship with the
    project is trained once, from the training split alone.

    Raises:
        UserError: a recipe is not known, or cannot be had for this data set.
    """
    data = ws.described(dataset).sealed()
    out = []
    for name in names or network_choice.names(dataset.spec, dataset.size):
        recipe = teacher_files.load_recipe(ws.registry, name, dataset.spec, dataset.classes)
        ref = weights.make_unmeasured(ws.store, data, recipe, dataset.digest, device=ws.device)
        out.append(Observer(name, ref, loaded.member(ref, ws.store, ws.registry, data, device=ws.device)))
    return out


@dataclass(frozen=True)
class CondensedSet:
    """Images and labels of a condensed set."""

    images: torch.Tensor  # uint8 or float [n, channels, size, size], grey levels
    labels: torch.Tensor  # int64 [n]


def opened(ws: Workspace, condensed: CondensedRef) -> CondensedSet:
    """The set, out of the store."""
    arrays = read_condensed(ws, condensed).arrays
    return CondensedSet(torch.from_numpy(np.array(arrays["images"])), torch.from_numpy(np.array(arrays["labels"])))


def seen(observer: Observer, shown: CondensedSet, dataset: DatasetRef, crops: Crops, device: str) -> Seen:
    """Entropy and likelihood of every image."""
    views = Views(
        Augment(crop_scale=(crops.scale, 1.0), flip=0.0),
        len(shown.labels),
        dataset.size,
        mirror=False,
        batch=len(shown.labels),
        seed=seed("probe-views", dataset.digest),
        count=crops.count,
    )
    everything = np.arange(len(shown.labels))
    logits = teacher_logits(Ensemble([observer.member]), shown.images.to(device), views, everything)
    logs = torch.log_softmax(logits.double(), dim=2)  # [n, crops, C]
    entropy = -(logs.exp() * logs).sum(dim=2).mean(dim=1)
    labels = shown.labels[:, None, None].expand(-1, crops.count, 1)
    nll = -logs.gather(2, labels).squeeze(2).mean(dim=1)
    right = (logs.argmax(dim=2) == shown.labels[:, None]).double().mean(dim=1)
    return Seen(entropy.numpy(), nll.numpy(), right.numpy())


def loss_shape(observer: Observer, shown: CondensedSet, device: str) -> LossShape:
    """The observer's loss on the set."""
    member = observer.member
    return LossShape(member.model, normalise(shown.images.to(device), member.mean, member.std), shown.labels.to(device))


def shape(observer: Observer, shown: CondensedSet, data: Data, device: str) -> Shape:
    """Norms of gradient and Hessian, and the angle to the gradient on images of the training split."""
    surface = loss_shape(observer, shown, device)
    rows = np.sort(np.random.default_rng(seed("probe-images")).permutation(len(data.train))[:TRAINING_IMAGES])
    real = CondensedSet(data.train.images(rows), torch.from_numpy(data.train.labels[rows].copy()))
    gradient = surface.gradient()
    values = surface.eigenvalues(LANCZOS, torch_generator("probe-lanczos"))
    return Shape(
        loss=surface.loss(),
        gradient=float(gradient.norm()),
        cosine=cosine(gradient, loss_shape(observer, real, device).gradient()),
        largest=float(values[np.abs(values).argmax()]),
        frobenius=surface.frobenius(SIGNS, torch_generator("probe-signs")),
    )
