"""Mean rows of images, coded: in each band how loud a mean is, then its levels along the trellis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from methods._codec.klt import bands
from methods._codec.klt.steps import step_of, step_units
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import EVEN
from methods._codec.klt.trellis import CODER, PathReader, Paths


@dataclass(frozen=True)
class MeanRows:
    """Of n images."""

    gains: np.ndarray  # int32 [n, bands], 1/4 octave
    whole: np.ndarray  # float64 integers [n, D]: means in 1/FRACTION steps
    paths: Paths | None = None  # [n, D], where they were quantised here

    def bits(self) -> float:
        """Estimate of what they take."""
        levels = 0.0 if self.paths is None else float(self.paths.bits.sum())
        return bands.plain_bits(EVEN, bands.differences(self.gains)) + levels

    @property
    def growth(self) -> float:
        """By how many bits that grows for each octave that the step gets finer."""
        return 0.0 if self.paths is None else self.paths.growth

    def write_gains(self, writer: Writer) -> None:
        """Code all but levels."""
        writer.write(np.full(self.gains.size, EVEN, np.int16), bands.differences(self.gains))


def code(means: np.ndarray, scales: np.ndarray, index: int) -> MeanRows:
    """`means` (float32 [n, D]) at the step of this index.

    `scales`: int32 [D], log2 of what means deviate by, units.
    """
    base = scales - step_units(index)
    gains = np.stack([bands.gains_of(squares, scales, base) for squares in np.square(means)])
    paths = CODER.rows(means / np.float32(step_of(index)), bands.louder(base, gains))
    return MeanRows(gains, CODER.restored(paths), paths)


def read(reader: Reader, paths: PathReader, n: int, scales: np.ndarray, index: int) -> MeanRows:
    """What `code` gave, from gains and levels."""
    base = scales - step_units(index)
    count = len(bands.split(len(base)))
    gains = np.cumsum(reader.read(np.full(n * count, EVEN, np.int16)).reshape(n, count), axis=1, dtype=np.int32)
    whole = np.zeros((n, len(base)))
    paths.rows(bands.louder(base, gains), np.arange(n), whole)
    return MeanRows(gains, whole)
