"""Training throughput: the loop of bench.training.loop beside a bare step and beside the published pipelines.

One thread, one run, interleaved; CPU time, so that neighbours on the machine matter little. The student is that of
the small protocols (ConvNet-3 of width 16); 100 views of labels are stored by the compressor `svd` at 10x and decoded
inside the measured time.

A run has several epochs, as a training has hundreds: what begins it counts, and weighs little.

- bare: forward, backward and optimiser step on one resident batch in the faster layout (channels last); no data, no
  labels.
- RDED's pipeline: PIL images in memory, torchvision transforms per image, DataLoader, CutMix per batch, and labels from
  a teacher that is asked online (of the student's architecture). Its second forward pass for logging is left out.
- FKD's / SRe2L's pipeline: one JPEG file per image, PIL transforms that replay stored crops, DataLoader, one label file
  per batch and epoch.

The two pipelines keep torch's default layout (channels first), as their authors run them.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as T
from torchvision.transforms.v2 import functional as TF

from bench.api import SoftLabels
from bench.labels.label_file import LabelFile
from bench.labels.reader import EncodedLabels
from bench.machine import keep_freed_memory
from bench.protocol.recipe import Augment, Loss, Optimizer, Recipe
from bench.training.loop import make_optimizer, train
from bench.trials.budget import reference_bytes
from bench.views.parameters import View, Views, batch_bounds
from methods.compressors import svd
from protocols.networks import build
from speed.row import NO_CONTEXT, Row

WIDTH = 16  # of the student
VIEWS = 100  # stored for each image
PEERS_EPOCHS = 2  # at most, of the reference pipelines
_TEMPERATURE = 4.0
_AUGMENT = Augment(crop_scale=(0.4, 1.0), mix="cutmix")
_BATCHWISE = Augment(crop_scale=(0.4, 1.0), mix="cutmix", mix_unit="batch")
_OPTIMIZER = Optimizer(lr=1e-3)


@dataclass(frozen=True)
class Case:
    """A size at which all contenders train."""

    size: int
    channels: int
    classes: int
    batch: int
    n: int  # images
    bar: float  # share of the bare speed that the loop has to reach
    bars: bool  # whether the reference pipelines have a bar at this size
    epochs: int  # of the loop and of the bare step; see also `PEERS_EPOCHS`
    network: str = "convnet"  # of width `WIDTH`
    peers: bool = True  # whether the reference pipelines are measured at all

    @property
    def name(self) -> str:
        """As it stands in the table."""
        network = "" if self.peers else f"{self.network.rpartition(':')[2]}, "
        return f"{network}{self.size} px x {self.channels}, batch {self.batch}, {self.n} images"


def _compressed(case: Case) -> EncodedLabels:
    """A label set of VIEWS stored views, really encoded by truncated SVD at a tenth of the reference's bytes."""
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(case.n, VIEWS, 8)), rng.normal(size=(case.n, 8, case.classes))
    logits = torch.from_numpy((left @ right + rng.normal(size=(case.n, VIEWS, case.classes))).astype(np.float16))
    views = Views(_AUGMENT, case.n, case.size, mirror=True, batch=case.batch, seed=1, count=VIEWS)
    budget = reference_bytes(case.n, VIEWS, case.classes) // 10
    blob = svd.encode(SoftLabels(logits, torch.arange(case.n) % case.classes), budget, NO_CONTEXT)
    return EncodedLabels(LabelFile(views.to_bytes(), b"", (blob,)), svd, case.n, "svd")


def _student(case: Case) -> nn.Module:
    more = {"width": WIDTH} if case.network == "convnet" else {}
    return build(case.network, channels=case.channels, size=case.size, num_classes=case.classes, seed=0, **more)


def _mean(case: Case) -> list[float]:
    return [0.5] * case.channels


def _images(case: Case) -> torch.Tensor:
    """Smooth uint8 images, so that JPEG has as much to do as on photographs and no more."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(case.n, case.channels, case.size // 4, case.size // 4, generator=generator)
    return (F.interpolate(coarse, size=case.size, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def _bare(case: Case, epochs: int) -> Callable[[], int]:
    student = _student(case).train().to(memory_format=torch.channels_last)
    optimizer = make_optimizer(student, _OPTIMIZER)
    x = torch.randn(case.batch, case.channels, case.size, case.size).to(memory_format=torch.channels_last)
    target = torch.softmax(torch.randn(case.batch, case.classes), 1)
    steps = epochs * len(batch_bounds(case.n, case.batch))

    def run() -> int:
        for _ in range(steps):
            F.cross_entropy(student(x) / _TEMPERATURE, target).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return steps * case.batch

    return run


def _ours(case: Case, epochs: int) -> Callable[[], int]:
    images, labels = _images(case), torch.arange(case.n) % case.classes
    reader, student, half = _compressed(case), _student(case), _mean(case)
    recipe = Recipe(
        labels="stored",
        views=VIEWS,
        epochs=epochs,
        batch=case.batch,
        augment=_AUGMENT,
        optimizer=_OPTIMIZER,
        loss=Loss(name="kl", temperature=_TEMPERATURE),
    )

    def run() -> int:
        log = train(
            student, images, labels, recipe, coordinates=("speed", 0), mean=half, std=half, mirror=True, reader=reader
        )
        return log.images_seen

    return run


def _pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.squeeze(0).numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())


class _InMemory(Dataset):
    def __init__(self, case: Case) -> None:
        self.images = [_pil(image) for image in _images(case)]
        self.transform = T.Compose(
            [
                T.PILToTensor(),
                T.ToDtype(torch.float32, scale=True),
                T.RandomResizedCrop(case.size, scale=_AUGMENT.crop_scale, antialias=True),
                T.RandomHorizontalFlip(),
                T.Normalize(_mean(case), _mean(case)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(self.images[index])


def _paste(x: torch.Tensor, partner: torch.Tensor, box: tuple[int, int, int, int]) -> None:
    """One box for the whole batch, in place, as SRe2L and RDED mix."""
    top, left, height, width = box
    rows, columns = slice(top, top + height), slice(left, left + width)
    x[:, :, rows, columns] = x[partner, :, rows, columns]


def _step(student: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, logits: torch.Tensor) -> None:
    logs = F.log_softmax(student(x) / _TEMPERATURE, dim=1)
    F.kl_div(logs, F.softmax(logits / _TEMPERATURE, dim=1), reduction="batchmean").backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _rded(case: Case, epochs: int, *, online: bool) -> Callable[[], int]:
    data = _InMemory(case)
    loader = DataLoader(data, batch_size=case.batch, shuffle=True, generator=torch.Generator().manual_seed(0))
    student, teacher = _student(case).train(), _student(case).eval()
    optimizer = make_optimizer(student, _OPTIMIZER)
    labels = torch.randn(case.batch, case.classes)
    rng = random.Random(0)

    def run() -> int:
        seen = 0
        for _ in range(epochs):
            for x in loader:
                side = int(case.size * (1 - rng.random()) ** 0.5)
                top, left = rng.randrange(case.size), rng.randrange(case.size)
                _paste(x, torch.randperm(len(x)), (top, left, side, side))
                if online:
                    with torch.no_grad():
                        logits = teacher(x)
                else:
                    logits = labels[: len(x)]
                _step(student, optimizer, x, logits)
                seen += len(x)
        return seen

    return run


class _Files(Dataset):
    """One JPEG per image, one label file per batch: FKD's layout as SRe2L writes it."""

    def __init__(self, case: Case, epochs: int, folder: Path) -> None:
        self.case, self.folder, self.order = case, folder, torch.arange(case.n)
        self.to_tensor = T.Compose(
            [T.PILToTensor(), T.ToDtype(torch.float32, scale=True), T.Normalize(_mean(case), _mean(case))]
        )
        for index, image in enumerate(_images(case)):
            _pil(image).save(folder / f"{index}.jpg", quality=90)
        views = Views(_BATCHWISE, case.n, case.size, mirror=True, batch=case.batch, seed=1, count=epochs)
        for epoch in range(epochs):
            for number, (start, stop) in enumerate(batch_bounds(case.n, case.batch)):
                torch.save(self._record(views[epoch], start, stop), folder / f"{epoch}_{number}.tar")

    def _record(self, view: View, start: int, stop: int) -> list:
        assert view.box is not None
        assert view.flip is not None
        assert view.mix_box is not None
        assert view.lam is not None
        coords = torch.from_numpy(view.box[start:stop].astype(np.float32) / self.case.size)
        box, lam = view.mix_box[start].tolist(), float(view.lam[start])
        logits = torch.randn(stop - start, self.case.classes).half()
        return [coords, torch.from_numpy(view.flip[start:stop]), torch.randperm(stop - start), lam, box, logits]

    def __getitem__(self, entry: tuple[int, torch.Tensor, bool]) -> torch.Tensor:
        index, coords, flip = entry
        size = self.case.size
        with open(self.folder / f"{index}.jpg", "rb") as file:
            image = Image.open(file).convert("L" if self.case.channels == 1 else "RGB")
        top, left, height, width = (coords * size).round().int().tolist()
        image = TF.resized_crop(image, top, left, height, width, [size, size])
        return self.to_tensor(TF.horizontal_flip(image) if flip else image)


class _Batches:
    """Batch sampler that reads the label file of each batch and hands its crops to the images."""

    def __init__(self, data: _Files) -> None:
        self.data, self.epoch = data, 0
        self.record: list = []

    def __iter__(self) -> Iterator[list]:
        for number, (start, stop) in enumerate(batch_bounds(self.data.case.n, self.data.case.batch)):
            self.record = torch.load(self.data.folder / f"{self.epoch}_{number}.tar", weights_only=True)
            yield [(start + i, self.record[0][i], bool(self.record[1][i])) for i in range(stop - start)]


def _fkd(case: Case, epochs: int, folder: Path) -> Callable[[], int]:
    batches = _Batches(_Files(case, epochs, folder))
    loader = DataLoader(batches.data, batch_sampler=batches)
    student = _student(case).train()
    optimizer = make_optimizer(student, _OPTIMIZER)

    def run() -> int:
        seen = 0
        for batches.epoch in range(epochs):
            for x in loader:
                _, _, partner, _, box, logits = batches.record
                _paste(x, partner, box)
                _step(student, optimizer, x, logits.float())
                seen += len(x)
        return seen

    return run


def measure(quick: bool = False) -> list[Row]:
    """Rows for every size and batch: our share of the bare speed, and how often we beat each pipeline."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as every worker does; the bare step and the pipelines have it too
    rounds = 3 if quick else 7
    cases = [
        Case(size, channels, classes, batch, 200 if quick and size > 8 else 500, bar, bars, epochs)
        for size, channels, classes, bar, bars, epochs in (
            (8, 1, 10, 0.9, True, 20),
            (28, 1, 10, 0.75, True, 4),
            (32, 3, 100, 0.75, True, 4),
            (64, 3, 100, 0.85, False, 2),
        )
        for batch in (10, 50)
    ]
    cases.append(Case(224, 3, 1000, 10, 20, 0.95, False, 1, "torchvision:resnet18", peers=False))
    return [row for case in cases for row in _rows(case, rounds)]


def _rows(case: Case, rounds: int) -> list[Row]:
    epochs = min(PEERS_EPOCHS, case.epochs)
    with tempfile.TemporaryDirectory() as folder:
        contenders = {"bare": _bare(case, case.epochs), "ours": _ours(case, case.epochs)}
        if case.peers:
            contenders |= {
                "rded": _rded(case, epochs, online=True),
                "rded, no teacher": _rded(case, epochs, online=False),
                "fkd": _fkd(case, epochs, Path(folder)),
            }
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(rounds * (3 if case.size <= 8 else 1) + 1):  # at 8 px a run takes half a second
            for name, run in contenders.items():
                began = time.process_time()
                seen = run()
                if turn:  # the first turn warms up
                    speeds[name].append(seen / (time.process_time() - began))
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    raw = ", ".join(f"{name} {value:,.0f}" for name, value in speed.items()) + " img/s"
    ours = speed["ours"]
    # Of runs that follow each other: a machine is not as fast all the time.
    shares = sorted(mine / bare for mine, bare in zip(speeds["ours"], speeds["bare"], strict=True))
    raw += f"; half of the turns from {shares[len(shares) // 4]:.2f} to {shares[-1 - len(shares) // 4]:.2f}"
    what = f"training loop, {case.name}: share of a bare step"
    share = Row(what, statistics.median(shares), "x", case.bar, True, raw)
    if not case.peers:
        return [share]
    alone = ours / speed["rded, no teacher"]
    return [
        share,
        Row(
            f"training loop, {case.name}: over RDED's pipeline",
            ours / speed["rded"],
            "x",
            2.0 if case.bars else None,
            True,
            f"its teacher asked online; {alone:.2f}x without a teacher",
        ),
        Row(
            f"training loop, {case.name}: over FKD's pipeline",
            ours / speed["fkd"],
            "x",
            3.0 if case.bars else None,
            True,
            "JPEG file per image, label file per batch",
        ),
    ]


if __name__ == "__main__":
    for row in measure():
        print(f"{row.value:7.2f} (bar {row.bar})  {row.what}  [{row.note}]")
