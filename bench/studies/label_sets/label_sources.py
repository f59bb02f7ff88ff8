"""Label sets that compressors are measured on: those of a trial, those in a file, those that a network makes here.

All are read shard by shard, once and in order, so that no more than a shard of raw labels is ever in memory.
"""

from __future__ import annotations

import contextlib
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from bench.api import SoftLabels, Survey
from bench.artifacts.store import Store
from bench.errors import PluginError, UserError
from bench.foreign.bounds import check_unpacked, regular
from bench.foreign.tensors import read_npy, read_npy_header
from bench.labels.label_file import shard_sizes, shards
from bench.plugins.spec import Spec
from bench.seeds import Coordinate, numpy_generator, torch_generator
from bench.stages.label import Labelling
from bench.studies.storage.teacher_line import fp16_bytes
from bench.teachers.ensemble import Member
from bench.views.parameters import View, Views
from bench.views.render import render

_BATCH = {"cpu": 64, "cuda": 256}  # images a network sees at once: 64 of 224 pixels take about 1 GB of activations


@dataclass(frozen=True)
class PartOfSet(SoftLabels):
    """Labels that are a part of a set: what all its images share is weighed against as many."""

    set_images: int = 0


class LabelSet(ABC):
    """Labels of n images, K views each, C classes."""

    name: str  # one line: what they are
    shape: tuple[int, int, int]
    sizes: Sequence[int]  # images of each shard
    views: bytes  # what replays the augmentations, as it is stored; empty where nothing is known of them
    device: str = "cpu"  # where the logits are made
    # Seconds that making the logits took, as far as `parts` has come: core time on a CPU, wall time on a GPU. None:
    # they were not made here.
    label_seconds: float | None = None

    @abstractmethod
    def parts(self) -> Iterator[SoftLabels]:
        """The shards, in order; once."""

    @property
    def survey(self) -> Survey | None:
        """Some views of all images again, see bench.api.Survey; None: one shard has them all, or they pass by once."""
        return None

    @abstractmethod
    def context(self, spec: Spec) -> contextlib.AbstractContextManager[Any]:
        """The context that a compressor is called with."""

    def teacher_bytes(self) -> int | None:
        """What the networks behind the labels take in float16 (bench.studies.storage.teacher_line); None where they
        are not known."""
        return None


class BareContext:
    """What a compressor is lent where there is no data set: generators by name, the CPU and a scratch folder."""

    def __init__(self, scratch: Path, *coordinates: Coordinate) -> None:
        self.scratch, self.device = scratch, torch.device("cpu")
        self._coordinates = coordinates

    def numpy(self, *name: str | int) -> np.random.Generator:
        """A numpy generator seeded by this call's coordinates and `name`."""
        return numpy_generator(*self._coordinates, *name)

    def torch(self, *name: str | int) -> torch.Generator:
        """The same for torch."""
        return torch_generator(*self._coordinates, *name)

    def __getattr__(self, name: str) -> Any:
        raise PluginError(f"the compressor asks for ctx.{name}, which only labels of a data set have (--dataset)")


class TrialLabels(LabelSet):
    """What the trials of one condensed set encode, with the context that they give."""

    def __init__(self, labelling: Labelling) -> None:
        self._labelling = labelling
        self.shape = (labelling.condensed.images, labelling.recipe.views, labelling.dataset.classes)
        self.sizes = [len(shard) for shard in labelling.shards]
        self.views = labelling.views.to_bytes()
        self.name = f"{labelling.dataset.spec}, labelled as {labelling.protocol_id} does"
        self.device = labelling.ws.device

    def parts(self) -> Iterator[SoftLabels]:
        """The shards."""
        return (self._labelling.raw(shard) for shard in range(len(self.sizes)))

    @property
    def survey(self) -> Survey | None:
        """As the trial has it."""
        return self._labelling.survey

    def context(self, spec: Spec) -> contextlib.AbstractContextManager[Any]:
        """The trial's own."""
        return self._labelling.context(spec)

    def teacher_bytes(self) -> int | None:
        """Of all teachers of the protocol together."""
        return fp16_bytes(*(member.model for member in self._labelling.ensemble.members))


class _Bare(LabelSet):
    """A label set without a data set."""

    store: Store

    @contextlib.contextmanager
    def context(self, spec: Spec) -> Iterator[BareContext]:
        """Generators seeded by the compressor and the set's name."""
        with self.store.scratch() as scratch:
            yield BareContext(scratch, "labels", str(spec), self.name)


class FileLabels(_Bare):
    """`logits` (float16 or float32 [n, K, C]) and, if there, `hard` (integers [n]) of an .npz file, in any byte order.

    Without `hard`, the class of an image is that of its largest mean logit. The file is streamed, compressed or not.

    Raises:
        UserError: no such file, or it does not hold what is expected.
    """

    def __init__(self, path: str | Path, store: Store) -> None:
        self.path, self.store = Path(path), store
        self.views = b""
        if not self.path.exists():
            raise UserError(f"--npz {path}: there is no such file.")
        regular(self.path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                check_unpacked(self.path, self.path.stat().st_size, sum(info.file_size for info in archive.infolist()))
                with archive.open("logits.npy") as file:
                    shape, self._dtype = self._header(file)
                self._hard = self._classes(archive, shape)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # zipfile, zlib and the header's parser raise what comes
            raise UserError(f"--npz {path}: not an .npz file with an array 'logits' ({error}).") from None
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        self.sizes = shard_sizes(*self.shape)
        self.name = f"{self.path.name}, {self._dtype.name}"

    def parts(self) -> Iterator[SoftLabels]:
        """The shards, read one after the other."""
        n, k, c = self.shape
        with zipfile.ZipFile(self.path) as archive, archive.open("logits.npy") as file:
            self._header(file)
            for indices in shards(n, k, c):
                wanted = len(indices) * k * c * self._dtype.itemsize
                buffer = bytearray(file.read(wanted))
                if len(buffer) < wanted:
                    raise UserError(f"--npz {self.path}: the array 'logits' is cut short.")
                values = np.frombuffer(buffer, self._dtype).astype(self._dtype.newbyteorder("="), copy=False)
                logits = torch.from_numpy(values.reshape(len(indices), k, c))
                hard = logits.float().mean(dim=1).argmax(dim=1) if self._hard is None else self._hard[indices]
                yield SoftLabels(logits, hard, images=indices)

    def _header(self, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype; leaves the file at the first value."""
        shape, fortran, dtype = read_npy_header(file)
        wanted = dtype.newbyteorder("=") in (np.float16, np.float32)
        if len(shape) != 3 or min(shape) < 1 or not wanted or fortran:
            raise UserError(
                f"--npz {self.path}: 'logits' must be float16 or float32 [images, views, classes] in C order; it is "
                f"{dtype.name} {list(shape)}{' in Fortran order' if fortran else ''}."
            )
        return shape, dtype

    def _classes(self, archive: zipfile.ZipFile, shape: tuple[int, ...]) -> torch.Tensor | None:
        if "hard.npy" not in archive.namelist():
            return None
        with archive.open("hard.npy") as file:
            hard = read_npy(file, archive.getinfo("hard.npy").file_size)
        fits = hard.shape == shape[:1] and np.issubdtype(hard.dtype, np.integer)
        if not fits or hard.min() < 0 or hard.max() >= shape[2]:
            raise UserError(
                f"--npz {self.path}: 'hard' must be integers [{shape[0]}] within 0..{shape[2] - 1}, the classes of the "
                f"images; it is {hard.dtype.name} {list(hard.shape)}."
            )
        return torch.from_numpy(hard.astype(np.int64))


class NetworkLabels(_Bare):
    """What a network says of stored views of some images; each shard is made when it is asked for.

    Args:
        name: one line; it also seeds what compressors draw.
        member: the network and its normalisation, on the device that it is to run on.
        images: uint8 [n, channels, size, size].
        hard: int64 [n].
        views: of these images.
        classes: C.
        store: lends scratch folders, and keeps shards.
        made_from: what decides the logits beside the views; with it they are kept in the store, and the time that they
            took with them. None: they are made and dropped.
    """

    def __init__(
        self, name: str, member: Member, images: torch.Tensor, hard: torch.Tensor, views: Views, classes: int,
        store: Store, made_from: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.name, self.store = name, store
        self._member, self._images, self._hard, self._views = member, images, hard, views
        self._made_from = made_from
        self.device = next(member.model.parameters()).device.type
        self.shape = (len(images), len(views), classes)
        self.sizes = shard_sizes(*self.shape)
        self.views = views.to_bytes()
        self.label_seconds = 0.0

    def parts(self) -> Iterator[SoftLabels]:
        """The shards."""
        for indices in shards(*self.shape):
            logits, seconds = self._make(indices) if self._made_from is None else self._kept(indices)
            self.label_seconds = (self.label_seconds or 0.0) + seconds
            yield SoftLabels(logits, self._hard[indices], self._views, indices)

    def teacher_bytes(self) -> int | None:
        """Of the network."""
        return fp16_bytes(self._member.model)

    @property
    def survey(self) -> Survey | None:
        """Made anew, or read again where shards are kept."""
        return self._some_views if len(self.sizes) > 1 else None

    def _some_views(self, views: Sequence[int]) -> Iterator[SoftLabels]:
        shown = [self._views[k] for k in views]
        for indices in shards(*self.shape):
            if self._made_from is None:
                logits = label(self._member, self._images, shown, indices)
            else:
                logits = self._kept(indices)[0][:, list(views)]
            yield SoftLabels(logits, self._hard[indices], shown, indices)

    def _make(self, indices: np.ndarray) -> tuple[torch.Tensor, float]:
        clock = time.process_time if self.device == "cpu" else time.perf_counter
        started = clock()
        logits = label(self._member, self._images, self._views, indices)
        return logits, clock() - started

    def _kept(self, indices: np.ndarray) -> tuple[torch.Tensor, float]:
        def make() -> tuple[dict[str, Any], dict[str, Any]]:
            logits, seconds = self._make(indices)
            return {"logits": logits.numpy()}, {"seconds": seconds}

        views, span = self.views.decode(), [int(indices[0]), len(indices)]
        kept = self.store.get("network-labels", {**(self._made_from or {}), "views": views, "images": span}, make)
        return torch.from_numpy(np.array(kept.arrays["logits"])), float(kept.meta["seconds"])


@torch.no_grad()
def label(member: Member, images: torch.Tensor, views: Sequence[View], indices: np.ndarray) -> torch.Tensor:
    """float16 [len(indices), K, C] on the CPU: the network's logits, in batches of whole or part views.

    A label depends on its image and view alone, so small sets share a batch among several views.
    """
    device = next(member.model.parameters()).device
    shown, batch = images.to(device), _BATCH[device.type]
    out: torch.Tensor | None = None
    for piece in np.array_split(indices, -(-len(indices) // batch)):
        at = np.searchsorted(indices, piece)
        step = max(1, batch // len(piece))
        for first in range(0, len(views), step):
            some = range(first, min(first + step, len(views)))
            x = torch.cat([render(shown, views[k], piece, mean=member.mean, std=member.std) for k in some])
            said = member.model(x).to(torch.float16).cpu().unflatten(0, (len(some), len(piece)))
            if out is None:
                out = torch.empty(len(indices), len(views), said.shape[-1], dtype=torch.float16)
            out[at[0] : at[-1] + 1, some.start : some.stop] = said.transpose(0, 1)
    assert out is not None
    return out
