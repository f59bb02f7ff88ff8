"""Mean rows of images, coded: in each band how loud a mean is, then its levels wave by wave."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from methods._codec.klt import bands
from methods._codec.klt.bands import Levels
from methods._codec.klt.steps import step_of, step_units
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import EVEN, STEP


class MeanRows(NamedTuple):
    """Of n images."""

    gains: np.ndarray  # int32 [n, bands], 1/4 octave
    levels: Levels  # [n, D]

    def bits(self) -> float:
        """Estimate of what `write` takes."""
        return bands.plain_bits(EVEN, bands.differences(self.gains)) + bands.bits(self.levels)

    def write(self, writer: Writer) -> None:
        """Code them."""
        writer.write(np.full(self.gains.size, EVEN, np.int16), bands.differences(self.gains))
        for wave in bands.waves(self.levels.values.shape[1]):
            writer.write(self.levels.buckets[:, wave].ravel(), self.levels.values[:, wave].ravel())


def code(means: np.ndarray, scales: np.ndarray, index: int) -> MeanRows:
    """Levels of `means` (float32 [n, D]) at the step of this index.

    `scales`: int32 [D], log2 of what means deviate by, units.
    """
    base = scales - step_units(index)
    scaled = means / np.float32(step_of(index))
    gains = np.stack([bands.gains_of(one[None], scales, base) for one in means])
    levels = bands.run(
        base + bands.widen(STEP * gains, len(base)), len(means), lambda wave, b: bands.quantise(scaled[:, wave], b)
    )
    return MeanRows(gains, levels)


def read(reader: Reader, n: int, scales: np.ndarray, index: int) -> MeanRows:
    """The inverse of `MeanRows.write` of `code`."""
    base = scales - step_units(index)
    count = len(bands.split(len(base)))
    gains = np.cumsum(reader.read(np.full(n * count, EVEN, np.int16)).reshape(n, count), axis=1, dtype=np.int32)
    levels = bands.run(
        base + bands.widen(STEP * gains, len(base)), n, lambda _, b: reader.read(b.ravel()).reshape(b.shape)
    )
    return MeanRows(gains, levels)
