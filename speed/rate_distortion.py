"""Rate and distortion of `klt` on teacher logits of ImageNet size: `python -m speed.rate_distortion FOLDER`.

FOLDER holds labels-1000c-dev.npz (photos to encode), labels-1000c-pool.npz (other photos, to fit the basis on) and
labels-1000c-photo-means.npz (means of all photos that are mixed in, from a few views each). Every image is coded for
itself, within the budget less its share of the basis and of the table of means, and decoded from bytes.

`--turns N`: a part of the photos is coded with a basis that is fitted as a set's is, on all views of the other photos
and some views of those in the pool, N times; none is ever fitted on.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from bench.api import SoftLabels
from bench.views.parameters import View
from methods._codec.container import unpack
from methods._codec.klt import basis as bases
from methods._codec.klt import blob as blobs
from methods._codec.klt import fit as fitting
from methods._codec.klt import side as sides
from methods._codec.klt.codec import Coded, Source
from methods._codec.klt.search import finest
from methods._codec.klt.side import Side
from methods._codec.klt.spectrum import Moment
from methods._codec.klt.survey import LeastSquares, with_means
from methods.compressors import rpca, svd
from speed.row import NO_CONTEXT

EXPONENT = 7
BUDGETS = (120000, 40000, 20250, 12000, 6075, 6000)
LAMBDAS = (1.0, 1.5, 2.0, 3.0, 4.0)  # times the usual weight, for rpca: the best is in between


@dataclass(frozen=True)
class Photos:
    """Logits [n, K, C], what was mixed into their views, and which of the thousand photos they are."""

    logits: np.ndarray
    views: list[View]
    numbers: np.ndarray  # int64 [n]

    @property
    def values(self) -> np.ndarray:
        """float32, relative to 2^EXPONENT."""
        return np.ldexp(self.logits.astype(np.float32), -EXPONENT)

    def some(self, at: np.ndarray) -> Photos:
        """Those at these places, int64."""
        return Photos(self.logits[at], self.views, self.numbers[at])


def load(folder: Path, name: str, photos: int) -> Photos:
    """One file. Of views nothing but lambda and the partner, one of so many photos, is kept: more is not read."""
    with np.load(folder / f"labels-1000c-{name}.npz") as file:
        logits, meta, numbers = file["logits"], file["meta"], file["photo"]
    views = []
    for row in meta.transpose(1, 0, 2):
        mixed = row[:, 0] >= 0
        lam, partner = np.ones(photos, np.float32), np.full(photos, -1)
        lam[numbers], partner[numbers] = np.where(mixed, row[:, 1], 1), np.where(mixed, row[:, 0], -1)
        views.append(View(size=224, partner=partner, lam=lam))
    return Photos(logits, views, numbers)


def load_all(folder: Path, name: str) -> tuple[Photos, Photos, np.ndarray]:
    """Photos to encode, others to fit on, and the means [m, C] of all that are mixed in."""
    with np.load(folder / "labels-1000c-photo-means.npz") as file:
        means = file["means"]
    return load(folder, name, len(means)), load(folder, "pool", len(means)), means


def divergence(true: np.ndarray, found: np.ndarray, temperature: float) -> float:
    """T^2 KL(softmax(true / T) || softmax(found / T)), mean over rows, in float64."""
    p, q = (torch.log_softmax(torch.from_numpy(x.astype(np.float64)) / temperature, -1) for x in (true, found))
    return float((p.exp() * (p - q)).sum(-1).mean()) * temperature**2


def quality(true: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """KL20, KL1 and top-1 agreement."""
    same = float((true.argmax(-1) == found.argmax(-1)).mean())
    return divergence(true, found, 20), divergence(true, found, 1), same


class Shared:
    """What all images of a set share, and how `klt` codes one image with it."""

    def __init__(
        self,
        photos: Photos,
        pool: Photos,
        means: np.ndarray,
        budget: int,
        images: int,
        free: bool,
        others: np.ndarray | None = None,
    ) -> None:
        """
        Args:
            photos: to encode.
            pool: to fit on.
            means: [m, C], of all photos.
            budget: bytes per image.
            images: of the set.
            free: partners' means are given, not paid for.
            others: int64, places in `photos` of some to fit on with all their views; then the pool is a survey.
        """
        sample = pool if others is None else photos.some(others)
        values = sample.values
        centre = fitting.centre_of(values)
        surveyed = np.ldexp(means.astype(np.float32), -EXPONENT) - centre
        k = photos.logits.shape[1]
        side = sides.from_views(sample.views, sample.numbers, surveyed.__getitem__)
        residuals = None if others is None else _residuals(pool, surveyed, centre)
        stored = fitting.fit(values.copy(), side, EXPONENT, budget * images, images * k, residuals).to_bytes()
        basis = bases.from_bytes(stored)
        self.share = -(-len(stored) // images)  # bytes an image
        if not free:
            tried = photos if others is None else sample
            room = round((budget - len(stored) / images) * len(means)) + len(stored)
            basis = with_means(basis, basis, surveyed, tried.values.copy(), tried.views, tried.numbers, room)
        if basis.everyone is not None:
            self.share += -(-sum(part.nbytes for part in basis.everyone.sections.values()) // len(means))
        self.basis, self._photos, self._budget, self._free = basis, photos, budget, free
        self._known = basis.project(surveyed)

    def side(self, image: int) -> sides.Side:
        """What is known of the views of an image."""
        photos = self._photos
        means = self._known.__getitem__ if self._free else self.basis.means_of
        mine = sides.from_views(photos.views, photos.numbers[image : image + 1], means)
        return replace(mine, known=None) if self._free else mine

    def encode(self, image: int) -> tuple[bytes, Coded]:
        """A blob within what is left of the budget, and the levels in it."""
        logits = self._photos.logits[image].astype(np.float32)
        values, room = np.ldexp(logits, -EXPONENT)[None], self._budget - self.share
        source = Source(values, self.side(image), self.basis, blobs.views_per_stream(room, values.shape))
        made: dict[bytes, Coded] = {}

        def blob(coded: Coded) -> bytes:
            data = blobs.to_bytes(coded, source, {})
            made[data] = coded
            return data

        data = finest(source, blob, room, blobs.overhead(source, {}))
        return data, made[data]


def _residuals(photos: Photos, surveyed: np.ndarray, centre: np.ndarray) -> Moment:
    collected = LeastSquares(*surveyed.shape)
    side = Side(*sides.mixtures(photos.views, photos.numbers))
    collected.add(fitting.centred(photos.values.copy(), centre), side, photos.numbers)
    return collected.residuals(surveyed)


def klt_rows(photos: Photos, shared: Shared, budget: int, chosen: np.ndarray) -> list[list[float]]:
    """Bytes, KL20, KL1, top-1, ms to encode and to decode of `klt`, for each of the chosen photos."""
    views, rows = np.arange(photos.logits.shape[1]), []
    for image in chosen:
        mine = shared.side(image)
        start = time.process_time()
        data = shared.encode(image)[0]
        encoded = time.process_time()
        found = blobs.read(unpack(data, blobs.CODEC), lambda _: shared.basis, lambda at, _: mine.at(at), views)  # noqa: B023
        decoded = time.process_time()
        size = len(data) + shared.share
        assert size <= budget
        told = quality(photos.logits[image].astype(np.float32), found[0])
        rows.append([size, *told, 1e3 * (encoded - start), 1e3 * (decoded - encoded)])
    return rows


def rpca_row(photos: Photos, budget: int, chosen: np.ndarray) -> list[float]:
    """The same of `rpca`, its weight chosen for each image by the true KL20 among `LAMBDAS`."""
    rows = []
    for image in chosen:
        logits = photos.logits[image]
        labels = SoftLabels(torch.from_numpy(logits[None]), torch.zeros(1, dtype=torch.int64))
        tried = []
        for weight in LAMBDAS:
            start = time.process_time()
            blob = rpca.encode(labels, budget, NO_CONTEXT, lambda_=weight * max(logits.shape) ** -0.5)
            encoded = time.process_time()
            found = rpca.decode(blob)[0].numpy()
            decoded = time.process_time()
            times = [1e3 * (encoded - start), 1e3 * (decoded - encoded)]
            tried.append([len(blob), *quality(logits.astype(np.float32), found), *times])
        rows.append(min(tried, key=lambda row: row[1]))
    return list(np.mean(rows, 0))


def svd_row(photos: Photos, budget: int, chosen: np.ndarray) -> list[float]:
    """The same of `svd` with int8 factors."""
    rows = []
    for image in chosen:
        logits = photos.logits[image]
        labels = SoftLabels(torch.from_numpy(logits[None]), torch.zeros(1, dtype=torch.int64))
        start = time.process_time()
        blob = svd.encode(labels, budget, NO_CONTEXT, factor="int8")
        encoded = time.process_time()
        found = svd.decode(blob)[0].numpy()
        decoded = time.process_time()
        times = [1e3 * (encoded - start), 1e3 * (decoded - encoded)]
        rows.append([len(blob), *quality(logits.astype(np.float32), found), *times])
    return list(np.mean(rows, 0))


def main() -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(prog="python -m speed.rate_distortion", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--file", default="dev", help="labels-1000c-FILE.npz is encoded (default: dev)")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="bytes per image")
    parser.add_argument("--photos", type=int, default=24, help="how many of the file (default: all 24)")
    parser.add_argument("--images", type=int, default=10000, help="of the set that shares the basis (default: 10,000)")
    parser.add_argument("--free", action="store_true", help="partners' means are given, not paid for")
    parser.add_argument("--turns", type=int, default=0, help="fit on the other photos too, in so many turns")
    parser.add_argument("--against", nargs="*", choices=("rpca", "svd"), default=(), help="other compressors")
    options = parser.parse_args()
    photos, pool, means = load_all(options.folder, options.file)
    n = len(photos.logits)
    if options.turns and not 2 <= options.turns <= min(n, options.photos):
        parser.error(f"--turns {options.turns}: must be 2 to {min(n, options.photos)}, the photos that are encoded")
    chosen = np.unique(np.linspace(0, n - 1, min(n, options.photos)).astype(int))
    rows = []
    for budget in options.budgets:
        coded = []
        for turn in range(max(options.turns, 1)):
            mine = chosen[turn :: options.turns] if options.turns else chosen
            others = np.setdiff1d(np.arange(n), mine) if options.turns else None
            shared = Shared(photos, pool, means, budget, options.images, options.free, others)
            coded += klt_rows(photos, shared, budget, mine)
        rows.append(["klt", budget, *np.mean(coded, 0)])
        if "rpca" in options.against:
            rows.append(["rpca", budget, *rpca_row(photos, budget, chosen)])
        if "svd" in options.against:
            rows.append(["svd int8", budget, *svd_row(photos, budget, chosen)])
        print(tabulate(rows[-1:], tablefmt="plain", floatfmt=".4f"), flush=True)
    heads = ["compressor", "budget", "bytes", "KL20", "KL1", "top-1", "encode ms", "decode ms"]
    print(tabulate(rows, heads, tablefmt="github", floatfmt=("", ".0f", ".0f", ".4f", ".4f", ".3f", ".0f", ".0f")))


if __name__ == "__main__":
    main()
