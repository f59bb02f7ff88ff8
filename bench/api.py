"""The contracts. Read this file first: it is all that a method, a compressor or a data set needs to know.

A plugin is a module with one function (a compressor: two to six). The file stem is its name, the first line of its
docstring its description, keyword-only arguments with literal defaults are its parameters. A name with hyphens, which
no file can have, is given by the constant NAME.

    methods/selection/NAME.py    def select(train, ipc, ctx, *, ...) -> indices
    methods/synthesis/NAME.py    def synthesize(train, ipc, ctx, *, ...) -> Condensed
    methods/compressors/NAME.py  def encode(labels, budget_bytes, ctx, *, ...) -> bytes
                                 def decode(blob, rows=None) -> tensor [n, len(rows), C]
                                 def rows(blob) -> int64 array                        (optional: rows that are stored)
                                 def batches(blob) -> int64 [m, 2] or None            (optional: (row, batch) pairs,
                                     where batches were pruned; decode then gives NaN for what is not stored of a row)
                                 def invalid(blob) -> (values, rows)                  (optional: approximated
                                     probabilities that were negative, and rows of them that did not sum to one)
                                 def fit(labels, budget_bytes, ctx, *, ...) -> bytes  (optional: what all images share;
                                     encode and decode then take it as the keyword `shared`; where it takes the
                                     keyword `survey`, it is handed a `Survey` or None)
    protocols/datasets/NAME.py   def load(root, *, ...) -> Dataset
                                     (bench/sources.py has sources to return: ArraySource, FileSource; bench/places.py
                                     finds the files that the user has)

Optional module constants: NAME (str, where it is not the file's stem), CITATION (str), NUM_GPUS (float, share of a
GPU a task asks for; unsaid, a method whose code uses a network or the device asks for a whole one), GPU_MEMORY_GB and
MEMORY_GB (float, what a task takes of a GPU and of the machine), PUBLISHED (dict of published settings), TAKES_BUDGET
(compressors: False when the size does not depend on a budget), PLACES (methods: dict, parameters that name files -> the
one that may give their digest, or ""; a trial holds name and digest of the content, never the path), BACKBONES
(methods: how many networks `ctx.teachers` is asked for, an int, or the name of the parameter that tells how many or
which), TEACHER (methods: whether the teacher is asked for, where the code does not show it: True, False, or the values
of parameters with which it is), UNBALANCED (methods: True where classes get different numbers of images, ipc on the
mean: protocols with recipe.class_balance = "free" take such sets), CHECK_EXCEPTIONS (dict: a rule of `condensebench
check plugins` that does not hold here, and why).
A method that ranks images may also have `scores(train, ctx, *, ...) -> float64 [N]`, low is easy; it is called with all
of the method's parameters, and `condensebench probe --scores` shows what it gives.
A file or folder whose name starts with an underscore is shared code, not a plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:  # these names stand in annotations alone: what reads records imports no torch
    from torch import Generator, Tensor, nn
    from torch import device as Device
    from torch.optim import Optimizer

    from bench.views.parameters import View

# What may change from step to step, see Context.steps.
Stepped: TypeAlias = "Tensor | Generator | Optimizer | nn.Module | list[float]"


class ImageSource(Protocol):
    """Images by index, in batches. A folder of a million files fits as well as an array in memory."""

    labels: np.ndarray  # int64 [N]

    def __len__(self) -> int: ...

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Images uint8 [n, channels, height, width] at the resolution they are kept in (the source resolution)."""
        ...

    def digest(self) -> str:
        """A hex sha256 of everything that `read` and `labels` can return."""
        ...


@dataclass(frozen=True)
class Dataset:
    """What a data set's `load` returns. Both splits are opened lazily: nothing touches `test` by accident."""

    num_classes: int
    channels: int
    size: int  # pixels, the resolution at which students are trained and tested
    source_size: int  # pixels, the resolution of the sources of `train`: `size` or more; `test` may have `size` already
    mirror: bool  # True where a mirrored image keeps its class (photographs yes, characters no)
    mean: tuple[float, ...]  # per channel, in [0, 1]
    std: tuple[float, ...]
    train: Callable[[], ImageSource]
    test: Callable[[], ImageSource]
    class_names: tuple[str, ...] = ()
    folder: Path | None = None  # where the images lie that are read from disk; no part of the data set's identity
    # The files that both splits are read from, best a bench.sources.FileList: where one is exchanged, the harness takes
    # the digests anew.
    files: Callable[[], Sequence[str | Path]] = tuple


class Train(Protocol):
    """The training split as a method sees it. There is no way from here to the test split."""

    labels: np.ndarray  # int64 [N], read-only
    num_classes: int
    channels: int
    size: int  # pixels, of `images`
    source_size: int  # pixels, of `sources`
    mirror: bool

    def __len__(self) -> int: ...

    def images(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """uint8 [n, channels, size, size]."""
        ...

    def sources(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """uint8 [n, channels, source_size, source_size]."""
        ...

    def photos(self, indices: Sequence[int] | np.ndarray) -> list[Tensor]:
        """The originals of photographs, uint8 [channels, height, width] each, of any size and not square: for crops of
        the whole image. A data set without files gives its sources."""
        ...

    def batches(self, batch: int = 256, indices: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, Tensor]]:
        """(indices int64 [n], images uint8 [n, channels, size, size]) in order."""
        ...

    def class_indices(self, label: int) -> np.ndarray:
        """int64, ascending: where `labels == label`."""
        ...


class Context(Protocol):
    """What the harness lends a plugin. Shared artifacts are computed once per data set and teacher, then read back."""

    device: Device
    scratch: Path  # an empty folder, removed after the call
    teacher: nn.Module  # eval mode, parameters frozen; normalised float32 images -> logits [n, C]

    def teachers(self, choice: int | str) -> Sequence[nn.Module]:
        """Several networks that learnt the same training split, all in eval mode, parameters frozen, for images
        normalised as the teacher's. A number n is `teacher` and n - 1 networks of other kinds, fixed by the data set;
        "all" is all of them; names of teacher recipes with + between them are these, in this order, where "teacher" is
        `teacher`. What does not ship with the project is trained here once, which takes minutes. For more than the
        teacher, the method's module declares BACKBONES: condensed sets are kept by the networks that made them.

        Raises:
            UserError: the data set has fewer, or a name is not known.
            PluginError: more than the method declares, or others.
        """
        ...

    def numpy(self, *name: str | int) -> np.random.Generator:
        """A generator seeded by method, data set, ipc, replicate and `name`. A method that never asks for one is taken
        as deterministic: its result is shared by all replicates."""
        ...

    def torch(self, *name: str | int) -> Generator:
        """The same for torch, on the CPU."""
        ...

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (or float in [0, 255]) [n, channels, s, s] -> float32, as the teacher sees them. So do students,
        unless their protocol normalises with the constants of another data set."""
        ...

    def predict(self, images: Tensor) -> Tensor:
        """Teacher logits float32 [n, C] of uint8 images [n, channels, size, size], in batches, without gradients."""
        ...

    def features(self) -> np.ndarray:
        """float32 [N, d]: the teacher's penultimate activations of the whole training split (read-only)."""
        ...

    def logits(self) -> np.ndarray:
        """float32 [N, C]: the teacher's logits of the whole training split, not augmented (read-only)."""
        ...

    def dynamics(self, epochs: int) -> np.ndarray:
        """float16 [epochs, N, C]: class probabilities of every training image, logged after each epoch of a
        network that is trained from scratch by the data set's recipe, see bench/teachers/dynamics_recipes.py
        (read-only, mapped from disk). They take 2 epochs N C bytes of disk: 25.6 GB for 10 epochs of ImageNet-1K, and a
        message says so. Most scores need `dynamics_scores` alone."""
        ...

    def dynamics_scores(self, epochs: int) -> DynamicsScores:
        """Three numbers of every training image after each epoch, of the same training as `dynamics`: 12 bytes each."""
        ...

    def soft_labels(
        self, images: Tensor | None, k: int, *, crop_scale: float = 0.4, cutmix: bool = False
    ) -> np.ndarray:
        """float16 [n, k, C]: teacher logits of `k` random-resized-crop (and, where the data set allows, mirrored) views
        of uint8 images; None stands for the whole training split. A crop keeps `crop_scale` of the area or more, above
        0 and at most 1. With `cutmix` each view shows a box of another one of these images, drawn for every image and
        view: the label of an image then depends on its partners."""
        ...

    def steps(self, count: int, state: Mapping[str, Stepped]) -> Iterator[int]:
        """The numbers of the steps 0..count-1 that are still to do, for a method that learns for minutes or longer: it
        goes on after a kill to the same bits, and says how far it is.

            for step in ctx.steps(1000, {"images": images, "choice": generator, "optimizer": optimizer}):

        A step ends where the next number is asked for. At most once a minute the state is kept between two steps. Where
        an earlier process was killed, the state is restored in place before the first number, to the same objects.

        Args:
            count: how many steps there are; at least 0.
            state: all that changes from step to step and is read in a later step or after the last one, by names
                without "/": tensors of fixed shape, generators of torch, optimizers, modules, and lists of floats,
                which may grow. Rates and other numbers of an optimizer's groups are kept with it; a scheduler of torch
                is not: set the rate by the number of the step. What is neither named nor the same in every process (a
                network that is drawn anew in the middle, torch's global generator, numbers in plain variables) makes
                other bits after a kill.

        Raises:
            PluginError: a part of the state is of another kind; a loop stands within another one; or, where it is kept,
                an optimizer remembers a value that is no tensor.
        """
        ...


@dataclass(frozen=True)
class DynamicsScores:
    """What training dynamics tell of every training image after each epoch; read-only arrays [epochs, N], mapped from
    disk."""

    error: np.ndarray  # float64: the length of the class probabilities less the one-hot label, at most sqrt(2)
    own: np.ndarray  # float16: the probability of the image's class
    other: np.ndarray  # float16: the largest probability of another class; 0 where there is none

    def margin(self, epoch: int) -> np.ndarray:
        """float64 [N]: own - other after an epoch."""
        difference: np.ndarray = self.own[epoch].astype(np.float64) - self.other[epoch].astype(np.float64)
        return difference

    def correct(self, epoch: int) -> np.ndarray:
        """bool [N]: where the image's class is more probable than every other one; a tie is wrong."""
        right: np.ndarray = self.own[epoch] > self.other[epoch]
        return right


@dataclass(frozen=True)
class Condensed:
    """A condensed set: what a method hands in.

    Images are grey levels: 0 is black, 255 is white. uint8 images take the bytes of lossless PNG files. Float images
    may lie between the levels and beyond black and white. They reach students neither rounded nor clipped, and take 4
    (float32) or 2 (float16) bytes a value. A normalised image becomes one by 255 * (image * std + mean).

    `soft_labels` are labels of the method's own, one row an image: logits. Students learn from them under protocols
    with `labels = "learned"`, and there alone; whatever view of an image is shown, its row is the same. Probabilities
    are handed in as their logarithms; protocols of squared error (`loss.name = "mse"`) take any values as they are.
    They take 4 (float32) or 2 (float16) bytes a value.
    """

    images: Tensor  # uint8, float32 or float16 [M, channels, size, size]
    labels: Tensor  # int64 [M]
    indices: np.ndarray | None = None  # int64 [M]: where the images stand in the training split, if they are real ones
    provenance: Mapping[str, Any] = field(default_factory=dict)  # JSON values: what was resolved, deviations, scores
    soft_labels: Tensor | None = None  # float32 or float16 [M, C], finite


@dataclass(frozen=True)
class SoftLabels:
    """Stored augmentations of n images: teacher logits and what replays the views that they belong to."""

    logits: Tensor  # float16 or float32 [n, K, C]
    hard: Tensor  # int64 [n]: class of the image itself
    views: Sequence[View] = ()  # K views over the whole set; `images` tells which of its images these n are
    images: np.ndarray | None = None  # int64 [n]; None means 0..n-1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images, stored views, classes)."""
        n, k, c = self.logits.shape
        return int(n), int(k), int(c)


# Some views (their indices) of all images of a set that is encoded in several shards -> their labels, shard by shard in
# order, with `views` and `images` filled in. The teacher may be asked for them anew: it is best to ask for a few.
Survey = Callable[[Sequence[int]], Iterator[SoftLabels]]
