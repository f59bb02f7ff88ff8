"""What is stored once for each image: its mean, how loud it is, its low-rank part, how likely classes are refined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from methods._codec.klt import bands, meanrows, rank, refine
from methods._codec.klt.basis import Basis
from methods._codec.klt.meanrows import MeanRows
from methods._codec.klt.rank import Ranked
from methods._codec.klt.side import Side
from methods._codec.klt.steps import MEAN_OCTAVES, PER_OCTAVE, step_of, step_units
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import EVEN, FRACTION
from methods._codec.klt.trellis import CODER


@dataclass
class Head:
    """Of n images."""

    means: MeanRows
    gains: np.ndarray  # int32 [n, bands]: how loud rows are, 1/4 octave
    along: np.ndarray  # int32 [n]: log2 of numbers along partners' means in steps, 1/4 octave + 40; 0: none are told
    ranked: list[Ranked]
    refined: np.ndarray | None = None  # int32 [n, NUMBERS], see refine.look; None: nothing is refined
    least: int = refine.NOTHING  # the least grade of likely classes that is refined

    def own_bits(self, images: np.ndarray) -> float:
        """Estimate of what all but means and numbers of likely classes takes, of these images, int64."""
        total = rank.bits([self.ranked[image] for image in images])
        for numbers in (self.gains[images], self.along[None, images]):
            total += bands.plain_bits(EVEN, bands.differences(numbers))
        return total

    def words(self) -> tuple[np.ndarray, np.ndarray]:
        """uint32: all of it but levels of means and right factors, and these."""
        writer = Writer()
        self.means.write_gains(writer)
        for numbers in (self.gains, self.along[None]):
            writer.write(np.full(numbers.size, EVEN, np.int16), bands.differences(numbers))
        rank.write_numbers(self.ranked, writer)
        if self.refined is not None:
            refine.write_numbers(self.refined, self.least, writer)
        paths = [self.means.paths, *(one.paths for one in self.ranked)]
        return writer.words(), CODER.write([one.some(slice(None)) for one in paths if one is not None])


def read(words: np.ndarray, levels: np.ndarray, n: int, index: int, basis: Basis, least: int) -> Head:
    """The inverse of `Head.words`."""
    reader, paths = Reader(words), CODER.reader(levels)
    count = len(bands.split(basis.size))

    def numbers(rows: int, columns: int) -> np.ndarray:
        found = reader.read(np.full(rows * columns, EVEN, np.int16)).reshape(rows, columns)
        return np.cumsum(found, axis=1, dtype=np.int32)

    means = meanrows.read(reader, paths, n, basis.means, mean_index(index))
    gains, along = numbers(n, count), numbers(1, n)[0]
    ranked = rank.read(reader, paths, scales(gains, basis, index), basis, step_units(index))
    refined = refine.read_numbers(n, least, reader) if least < refine.NOTHING else None
    return Head(means, gains, along, ranked, refined, least)


def scales(gains: np.ndarray, basis: Basis, index: int) -> np.ndarray:
    """int32 [n, D]: log-scales of images' coefficients, before the gains of rows, from gains of bands [n, bands]."""
    return bands.louder(basis.rows - step_units(index), gains)


def mean_index(index: int) -> int:
    """Of the step of means, where that of rows has this index."""
    return index + MEAN_OCTAVES * PER_OCTAVE


def table(means: MeanRows, side: Side, index: int) -> np.ndarray:
    """float64 integers [n + m, D]: decoded means in 1/FRACTION of their step, what was known of them included, then
    those from outside, rounded as if coded too."""
    parts = [means.whole.copy()]
    if side.known is not None:
        parts[0] += _counted(side.known, index)
    if side.outside is not None:
        parts.append(_counted(side.outside, index))
    return np.concatenate(parts)


def _counted(values: np.ndarray, index: int) -> np.ndarray:
    return np.rint(values / step_of(mean_index(index))) * FRACTION
