"""What is stored once for each image: its mean, how loud it is, its low-rank part, how likely classes are refined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from methods._codec.klt import bands, rank, refine
from methods._codec.klt.bands import Levels
from methods._codec.klt.basis import Basis
from methods._codec.klt.rank import Ranked
from methods._codec.klt.side import Side
from methods._codec.klt.steps import MEAN_OCTAVES, PER_OCTAVE, step_of, step_units
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import EVEN, FRACTION, STEP


@dataclass
class Head:
    """Of n images."""

    mean_gains: np.ndarray  # int32 [n, bands]: how loud each mean is in each band, 1/4 octave
    means: Levels  # [n, D]
    gains: np.ndarray  # int32 [n, bands]: how loud rows are
    along: np.ndarray  # int32 [n]: log2 of numbers along partners' means in steps, 1/4 octave + 40; 0: none are told
    ranked: list[Ranked]
    refined: np.ndarray | None = None  # int32 [n, NUMBERS], see refine.look; None: nothing is refined
    least: int = refine.NOTHING  # the least grade of likely classes that is refined

    def mean_bits(self) -> float:
        """Estimate of what the means take."""
        return bands.plain_bits(EVEN, bands.differences(self.mean_gains)) + bands.bits(self.means)

    def own_bits(self, images: np.ndarray) -> float:
        """Estimate of what the rest takes of these images, int64, but for the numbers of their likely classes."""
        total = rank.bits([self.ranked[image] for image in images])
        for numbers in (self.gains[images], self.along[None, images]):
            total += bands.plain_bits(EVEN, bands.differences(numbers))
        return total

    def words(self) -> np.ndarray:
        """uint32: all of it."""
        writer = Writer()
        for numbers in (self.mean_gains, self.gains, self.along[None]):
            writer.write(np.full(numbers.size, EVEN, np.int16), bands.differences(numbers))
        for wave in bands.waves(self.means.values.shape[1]):
            writer.write(self.means.buckets[:, wave].ravel(), self.means.values[:, wave].ravel())
        rank.write(self.ranked, writer)
        if self.refined is not None:
            refine.write_numbers(self.refined, self.least, writer)
        return writer.words()


def read(words: np.ndarray, n: int, index: int, basis: Basis, least: int) -> Head:
    """The inverse of `Head.words`."""
    reader = Reader(words)
    count = len(bands.split(basis.size))

    def numbers(rows: int, columns: int) -> np.ndarray:
        found = reader.read(np.full(rows * columns, EVEN, np.int16)).reshape(rows, columns)
        return np.cumsum(found, axis=1, dtype=np.int32)

    mean_gains, gains, along = numbers(n, count), numbers(n, count), numbers(1, n)[0]
    base = mean_base(basis, index) + bands.widen(STEP * mean_gains, basis.size)
    means = bands.run(base, n, lambda _, b: reader.read(b.ravel()).reshape(b.shape))
    ranked = rank.read(reader, n, basis, step_units(index))
    refined = refine.read_numbers(n, least, reader) if least < refine.NOTHING else None
    return Head(mean_gains, means, gains, along, ranked, refined, least)


def mean_base(basis: Basis, index: int) -> np.ndarray:
    """int32 [D]: log-scales of means' levels before gains."""
    return basis.means - step_units(index + MEAN_OCTAVES * PER_OCTAVE)


def mean_step(index: int) -> float:
    """The step of means, divided by FRACTION: what `table` is in."""
    return float(np.ldexp(step_of(index), -MEAN_OCTAVES)) / FRACTION


def table(means: Levels, side: Side, index: int) -> np.ndarray:
    """float64 integers [n + m, D]: decoded means in `mean_step`, what was known of them included, then those from
    outside, rounded as if coded too."""
    parts = [bands.restore(means).astype(np.float64)]
    if side.known is not None:
        parts[0] += _counted(side.known, index)
    if side.outside is not None:
        parts.append(_counted(side.outside, index))
    return np.concatenate(parts)


def _counted(values: np.ndarray, index: int) -> np.ndarray:
    return np.rint(values / (mean_step(index) * FRACTION)) * FRACTION
