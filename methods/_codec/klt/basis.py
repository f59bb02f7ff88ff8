"""What all images share: the mean label, a KLT basis in integers, the scales of its coefficients.

A vector of the basis is a row of integers times 2^-p. With coefficients that are integers too, every partial sum of
their product is an integer below 2^53, and float64 holds it without rounding: decoding gives the same bits with any
BLAS, on any number of threads, whichever rows are asked for. Components are multiplied in blocks so chosen that their
sums stay below 2^24 where that is possible: float32 does those in half the time, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from methods._codec.container import CorruptBlobError, pack, unpack
from methods._codec.klt import setmeans
from methods._codec.klt.bands import split
from methods._codec.klt.setmeans import SetMeans
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import DIGEST, LOWEST, STEP, UNITS

CODEC = "klt-basis"
KNOTS = 17
_WEIGHT_ONE = 1 << 10
_EXACT_SINGLE = 2.0**24 * (1 - 2.0**-20)  # float32 counts so far, less what the norms, themselves rounded, may be off


@dataclass(frozen=True, eq=False)
class Basis:
    """D vectors in C dimensions. Values are relative to 2^exponent."""

    exponent: int
    mean: np.ndarray  # float64 [C], multiples of a power of two
    vectors: np.ndarray | None  # float64 integers [D, C]; None: the identity
    precision: int  # p: a vector is its integers times 2^-p
    rows: np.ndarray  # int32 [D]: log2 of the standard deviation of a row's coefficients, units
    means: np.ndarray  # int32 [D]: the same of images' means, or of what `everyone` leaves of them
    weights: np.ndarray  # float64 [KNOTS]: share of an image's mean that a view with lambda = 0, 1/16, ..., 1 shows
    views: bytes = b""  # as bench.augment.Views.to_bytes, where the label set came with such views
    everyone: SetMeans | None = None  # the means of the whole set, where it is coded in several shards

    @property
    def classes(self) -> int:
        """C."""
        return len(self.mean)

    @property
    def size(self) -> int:
        """D."""
        return len(self.rows)

    def rescaled(self, exponent: int) -> Basis:
        """The same in another unit, 2^exponent."""
        shift = self.exponent - exponent
        other = replace(
            self,
            exponent=exponent,
            mean=np.ldexp(self.mean, shift),
            rows=self.rows + UNITS * shift,
            means=self.means + UNITS * shift,
        )
        if self.vectors is not None:
            for name in ("projection", "_single", "_squares"):
                other.__dict__[name] = getattr(self, name)
        return other

    @property
    def means_of(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Images of the set, int64 [m] -> float32 [m, D], in this unit; None where nothing is known of them."""
        table = self.everyone
        return None if table is None else lambda images: table.of(images, self.exponent)

    @cached_property
    def projection(self) -> np.ndarray:
        """float32 [C, D]: logits to the coefficients of their least-squares approximation."""
        assert self.vectors is not None
        exact = self.vectors * 2.0**-self.precision
        return np.linalg.solve(exact @ exact.T, exact).T.astype(np.float32)

    def project(self, values: np.ndarray) -> np.ndarray:
        """float32 [m, D]: coefficients of float32 [m, C]; its very values, where nothing is shared."""
        return values if self.vectors is None else values @ self.projection

    def expand(self, coefficients: np.ndarray) -> np.ndarray:
        """float64 [m, C]: integers, in units of 2^-precision of the coefficients' unit. Exact for integer input."""
        if self.vectors is None:
            return coefficients
        found = np.zeros((len(coefficients), self.classes))
        coefficients = coefficients[:, : int(np.flatnonzero(coefficients.any(0)).max(initial=-1)) + 1]
        for block, single in self._blocks(coefficients):
            if single:
                found += coefficients[:, block].astype(np.float32) @ self._single[block]
            else:
                found += coefficients[:, block] @ self.vectors[block]
        return found

    def _blocks(self, coefficients: np.ndarray) -> Iterator[tuple[slice, bool]]:
        """Components that are multiplied together, and whether float32 is exact for them: no sum of some of the
        products of a row and a column is larger than the product of their norms."""
        bands = split(coefficients.shape[1])
        if not bands:
            return
        energy = np.add.reduceat(np.square(coefficients), [band.start for band in bands], axis=1).T
        start, row, column = 0, np.zeros(len(coefficients)), np.zeros(self.classes)
        for band, mine, squares in zip(bands, energy, self._squares, strict=False):
            if _exact(row + mine, column + squares):
                row, column = row + mine, column + squares
                continue
            if start < band.start:
                yield slice(start, band.start), True
            start, row, column = band.start, mine, squares
            if not _exact(row, column):
                yield band, False
                start, row, column = band.stop, np.zeros_like(mine), np.zeros_like(squares)
        if start < bands[-1].stop:
            yield slice(start, bands[-1].stop), True

    @cached_property
    def _single(self) -> np.ndarray:
        assert self.vectors is not None
        return self.vectors.astype(np.float32)

    @cached_property
    def _squares(self) -> np.ndarray:
        """float64 [bands, C]: squared norms of the columns of the vectors within each band, all of it counted where
        only a part of the band is used."""
        assert self.vectors is not None
        return np.add.reduceat(np.square(self.vectors), [band.start for band in split(self.size)], axis=0)

    def shares(self, lam: np.ndarray) -> np.ndarray:
        """float64, as lam: how much of its image's mean a view shows. Piecewise linear; elementwise, hence exact."""
        place = np.minimum(np.maximum(lam.astype(np.float64), 0), 1) * (KNOTS - 1)
        knot = np.minimum(place.astype(np.int64), KNOTS - 2)
        rest = place - knot
        return (1 - rest) * self.weights[knot] + rest * self.weights[knot + 1]

    def to_bytes(self, views: bytes = b"") -> bytes:
        """The shared part as it is stored. `views`: bench.augment.Views.to_bytes, to go with it."""
        writer = Writer()
        if self.vectors is not None:
            writer.write(self._bucket(), self.vectors.ravel().astype(np.int32))
        sections = {
            "i": np.array([self.exponent, self.precision, self.vectors is not None], np.int16),
            "g": np.array([DIGEST], np.uint32),
            "m": self.mean.astype(np.float16),
            "r": self.rows.astype(np.int16),
            "u": self.means.astype(np.int16),
            "w": np.rint(self.weights * _WEIGHT_ONE).astype(np.int16),
            "V": writer.words(),
            "v": np.frombuffer(views or self.views, np.uint8),
        }
        if self.everyone is not None:
            assert self.everyone.exponent == self.exponent, "a basis is stored in the unit that it was fitted in"
            sections |= {
                "n": np.array([len(self.everyone.values), self.everyone.index], np.uint32),
                "s": self.everyone.scales.astype(np.int16),
                **self.everyone.sections,
            }
        return pack(CODEC, (1, self.size, self.classes), sections)

    def rounded(self) -> Basis:
        """This basis as the decoder will see it."""
        return from_bytes(self.to_bytes())

    def _bucket(self) -> np.ndarray:
        scale = round(UNITS * (self.precision - 0.5 * np.log2(self.classes)))
        return np.full(self.size * self.classes, max(0, (scale - LOWEST) // STEP), np.int16)


@lru_cache(maxsize=2)  # what is kept may have a table of all images
def from_bytes(shared: bytes) -> Basis:
    """The inverse of `Basis.to_bytes`. Raises CorruptBlobError."""
    container = unpack(shared, CODEC)
    check_digest(int(container.sections["g"][0]), DIGEST)
    _, size, classes = container.shape
    parts = container.sections
    exponent, precision, stored = (int(v) for v in parts["i"])
    basis = Basis(
        exponent,
        parts["m"].astype(np.float64),
        np.zeros((size, classes)) if stored else None,
        precision,
        parts["r"].astype(np.int32),
        parts["u"].astype(np.int32),
        parts["w"].astype(np.float64) / _WEIGHT_ONE,
        parts["v"].tobytes(),
    )
    if "t" in parts:
        count, index = (int(v) for v in parts["n"])
        everyone = setmeans.read(parts, count, parts["s"].astype(np.int32), index, exponent)
        basis = replace(basis, everyone=everyone)
    if not stored:
        return basis
    vectors = Reader(parts["V"]).read(basis._bucket())
    return replace(basis, vectors=vectors.reshape(size, classes).astype(np.float64))


def _exact(rows: np.ndarray, columns: np.ndarray) -> bool:
    """Whether float32 holds every sum of products of vectors with these squared norms."""
    return float(np.sqrt(rows.max(initial=0) * columns.max(initial=0))) < _EXACT_SINGLE


def identity(classes: int, exponent: int) -> Basis:
    """Without anything shared: the classes themselves, all of the same scale."""
    flat = np.full(classes, -3 * UNITS, np.int32)
    return Basis(exponent, np.zeros(classes), None, 0, flat, flat, np.arange(KNOTS) / (KNOTS - 1))


def check_digest(found: int, ours: int) -> None:
    """Raise CorruptBlobError if the entropy model of the encoder was another one."""
    if found != ours:
        raise CorruptBlobError(
            f"label blob was coded with entropy model {found:08x}, this program has {ours:08x}: read it with the "
            f"release that wrote it"
        )
