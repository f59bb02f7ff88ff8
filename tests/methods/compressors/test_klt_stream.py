"""What `klt` writes number by number: streams that are range-coded; and how its product is cut into blocks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from methods._codec.klt.basis import Basis
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import TOP

LAW = settings(max_examples=60, deadline=None, derandomize=True)
FARTHEST = 2**30


def some(rng: np.random.Generator, count: int, highest: int, loud: float) -> tuple[np.ndarray, np.ndarray]:
    """Buckets from -1 to `highest`, and levels, zero where certainly so."""
    buckets = rng.integers(-1, highest + 1, count).astype(np.int16)
    levels = np.clip(np.rint(rng.standard_cauchy(count) * loud), -FARTHEST, FARTHEST).astype(np.int32)
    return buckets, np.where(buckets < 0, 0, levels)


@LAW
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 300),
    highest=st.sampled_from([-1, 0, TOP, TOP + 1, TOP + 7, TOP + 120]),
    loud=st.sampled_from([0.1, 3.0, 1000.0, 1e6]),
)
def test_blocks_of_levels_read_back_whatever_their_buckets(seed, count, highest, loud):
    rng = np.random.default_rng(seed)
    blocks = [some(rng, count, highest, loud) for _ in range(3)]
    writer = Writer()
    for buckets, levels in blocks:
        writer.write(buckets, levels)
    reader = Reader(writer.words())
    for buckets, levels in blocks:
        assert reader.read(buckets).tolist() == levels.tolist()


def test_a_product_is_made_in_as_few_blocks_as_single_precision_holds():
    """Quiet components in one; a loud band by itself in double precision, what is before and after it in single."""
    vectors = np.full((20, 3), 100.0)
    basis = Basis(0, np.zeros(3), vectors, 7, np.zeros(20, np.int32), np.zeros(20, np.int32), np.zeros(17))
    quiet = np.full((4, 20), 50.0)
    assert list(basis._blocks(quiet)) == [(slice(0, 20), True)]
    loud = quiet.copy()
    loud[2, 5] = 1e6  # of the band 4..7
    assert list(basis._blocks(loud)) == [(slice(0, 4), True), (slice(4, 8), False), (slice(8, 20), True)]
    blocks = list(basis._blocks(np.full((4, 20), 20_000.0)))  # one band at once is short enough, two are not all
    assert [single for _, single in blocks] == [True] * len(blocks)
    assert len(blocks) > 1
    assert [block.stop for block, _ in blocks[:-1]] == [block.start for block, _ in blocks[1:]]
