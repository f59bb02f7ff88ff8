"""Views: the replayable parameters of one augmentation of every image of a set.

A `View` says, for each of N images, what happens to it in one epoch: patches, crop, flip, partner, erased square;
`bench.views.render` applies it. All draws are exact (bench/views/words.py), so a seed and a few options are all that
has to be
stored: `Views.to_bytes` is what the harness counts as the augmentation parameters of a stored label set.

Sources: random resized crop as torchvision's `RandomResizedCrop.get_params`; CutMix boxes as SRe2L's `rand_bbox`
(side floor(size sqrt(1 - lambda)), centre uniform, then clipped); strips as RDED's `ShufflePatches`; tiles as the PCA
method's patch extraction; Cutout as DeVries and Taylor (2017); padding as torchvision's `RandomCrop`; RandAugment as
torchvision's (bench/views/randaugment.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from pydantic import ValidationError

from bench.errors import UserError
from bench.protocol.recipe import Augment
from bench.seeds import seed as make_seed
from bench.views.randaugment import OPERATIONS, SIGNED
from bench.views.words import Words, beta, log_uniform

AUGMENT_VERSION = 1  # raise it whenever the same seed and options would give another view
_KEPT = 32 * 2**20  # bytes of drawn views that `Views` keeps; an image takes about 64 bytes a view
_TRIES = 10  # torchvision's number of attempts at a crop that fits


@dataclass(frozen=True, eq=False)
class View:
    """What happens to each of N images in one view; None where an option is off.

    Boxes are (top, left, height, width) in whole pixels. `box` lies in the image, or in the tile where there is one.
    """

    size: int  # pixels, of the images and of the result
    grid: int = 1  # patches per side
    strips: np.ndarray | None = None  # uint8 [N, 2, grid]: source strip at each place, of columns and then of rows
    tile: np.ndarray | None = None  # uint16 [N]: row * grid + column of the tile that is kept
    shift: np.ndarray | None = None  # int16 [N, 2]: first row and column of the crop of the padded image
    box: np.ndarray | None = None  # uint16 [N, 4]: the crop
    flip: np.ndarray | None = None  # bool [N]: mirrored left to right
    partner: np.ndarray | None = None  # int64 [N]: the image that is mixed in, as this same view shows it
    mix_box: np.ndarray | None = None  # uint16 [N, 4]: where CutMix pastes the partner; None under Mixup
    lam: np.ndarray | None = None  # float32 [N]: share of the image itself (CutMix: exact, from the clipped box)
    cutout: np.ndarray | None = None  # uint16 [N, 4]: erased
    order: np.ndarray | None = None  # int64 [N]: the order of visit, where a view is one of whole batches
    operations: np.ndarray | None = None  # uint8 [N, count]: codes of RandAugment, before all else
    magnitude: int = 0  # of RandAugment


def batch_bounds(n: int, batch: int) -> list[tuple[int, int]]:
    """(start, stop) of each batch of an epoch over `n` images.

    The last batch may be short, but a single left-over image joins the batch before it: batch normalisation has no
    statistics of one value.
    """
    starts = list(range(0, n, batch))
    if len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], n], strict=True))


def batch_sizes(n: int, batch: int) -> dict[int, int]:
    """Size -> how many batches of `batch_bounds` have it, for any `n` at once."""
    before = -(-n // batch) - 1  # batches before the last one
    last = n - before * batch
    if before and last == 1:
        before, last = before - 1, batch + 1
    return {batch: before + 1} if last == batch else {batch: before, last: 1} if before else {last: 1}


def permutation(seed: int, n: int) -> np.ndarray:
    """int64 [n]: a permutation that depends on `seed` alone, on every platform and numpy release."""
    return Words(seed).permutation(n)


def draw(augment: Augment, n: int, size: int, *, mirror: bool, batch: int, seed: int) -> View:
    """One view of a set.

    Args:
        augment: the options.
        n: images in the set.
        size: pixels per side; divisible by the patch grid.
        mirror: whether a mirrored image keeps its class; False switches the flip off.
        batch: images per batch; read only where `augment.mix_unit` is "batch".
        seed: 63-bit, from `bench.seeds.seed`; equal arguments give equal views.

    Raises:
        UserError: the patch grid does not divide `size`.
    """
    if not 1 <= size < 2**16:
        raise ValueError(f"size must lie in 1..65535, not {size}")
    grid = augment.patch_grid if augment.patches != "none" else 1
    if size % grid or grid > 255:
        raise UserError(f"patch_grid = {grid} cannot cut images of {size} px: it must divide the side (at most 255)")
    words = Words(seed)
    fields: dict[str, np.ndarray | None] = {}
    if augment.patches == "shuffle" and grid > 1:
        keys = words.raw(n * 2 * grid).reshape(n, 2, grid)
        fields["strips"] = np.argsort(keys, axis=2, kind="stable").astype(np.uint8)
    elif augment.patches == "extract" and grid > 1:
        fields["tile"] = words.below(grid * grid, n).astype(np.uint16)
    if tuple(augment.crop_scale) != (1.0, 1.0):
        side = size // grid if augment.patches == "extract" else size
        fields["box"] = _crops(words, n, side, augment.crop_scale, augment.crop_ratio)
    if mirror and augment.flip > 0:
        fields["flip"] = words.unit(n) < augment.flip
    if augment.mix != "none":
        fields |= _mixing(words, augment, n, size, batch)
    if augment.cutout > 0:
        sides = np.rint(np.where(words.unit(n) < augment.cutout_probability, augment.cutout * size, 0))
        fields["cutout"] = _squares(words, sides.astype(np.int64), size)
    # Drawn last: the options above keep their draws whether these are on or off.
    if augment.mix == "none" and augment.mix_unit == "batch":
        fields["order"] = words.permutation(n)
    if margin := round(augment.pad * size):
        fields["shift"] = (words.below(2 * margin + 1, 2 * n) - margin).reshape(n, 2).astype(np.int16)
    if count := augment.randaugment_ops:
        fields["operations"] = _operations(words, n, count)
    return View(size=size, grid=grid, magnitude=augment.randaugment_magnitude if count else 0, **fields)


def _operations(words: Words, n: int, count: int) -> np.ndarray:
    """uint8 [n, count]: uniform operations, with a uniform sign where they have one."""
    places = words.below(len(OPERATIONS), n * count)
    negative = (words.unit(n * count) < 0.5) & SIGNED[places]
    # As in words.py.
    return (2 * places + negative).astype(np.uint8).reshape(n, count)  # type: ignore[no-any-return]


def _crops(words: Words, n: int, side: int, scale: tuple[float, float], ratio: tuple[float, float]) -> np.ndarray:
    """uint16 [n, 4]: torchvision's rule, all ten attempts of all images at once."""
    shape = (_TRIES, n)
    area = side * side * (scale[0] + words.unit(_TRIES * n).reshape(shape) * (scale[1] - scale[0]))
    aspect = log_uniform(words.raw(_TRIES * n).reshape(shape), *ratio)
    width, height = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (width > 0) & (width <= side) & (height > 0) & (height <= side)
    first, every = fits.argmax(axis=0), np.arange(n)
    found = fits[first, every]
    # Where no attempt fits: the largest centred box whose ratio is allowed (a square image has ratio 1).
    spare_h, spare_w = side, side
    if ratio[0] > 1:
        spare_h = round(side / ratio[0])
    elif ratio[1] < 1:
        spare_w = round(side * ratio[1])
    h = np.where(found, height[first, every], spare_h).astype(np.int64)
    w = np.where(found, width[first, every], spare_w).astype(np.int64)
    top = np.where(found, words.below(side - h + 1, n), (side - spare_h) // 2)
    left = np.where(found, words.below(side - w + 1, n), (side - spare_w) // 2)
    return np.stack([top, left, h, w], axis=1).astype(np.uint16)


def _mixing(words: Words, augment: Augment, n: int, size: int, batch: int) -> dict[str, np.ndarray | None]:
    """Partner, box and lambda of every image, and the order of visit where one draw serves a batch."""
    order = None
    if augment.mix_unit == "image":
        partner, group, groups = words.permutation(n), np.arange(n), n
    else:
        bounds = batch_bounds(n, batch)
        order, groups = words.permutation(n), len(bounds)
        at = np.repeat(np.arange(groups), [stop - start for start, stop in bounds])
        group, partner = np.empty(n, np.int64), np.empty(n, np.int64)
        group[order] = at
        partner[order] = order[np.lexsort((words.raw(n), at))]
    own = beta(words, augment.mix_alpha, groups)
    own = np.where(words.unit(groups) < augment.mix_probability, own, 1.0)
    if augment.mix == "mixup":
        return {"partner": partner, "lam": own.astype(np.float32)[group], "order": order}
    boxes = _squares(words, np.floor(size * np.sqrt(1 - own)).astype(np.int64), size)
    share = 1 - boxes[:, 2].astype(np.float64) * boxes[:, 3] / (size * size)
    return {"partner": partner, "mix_box": boxes[group], "lam": share.astype(np.float32)[group], "order": order}


def _squares(words: Words, side: np.ndarray, size: int) -> np.ndarray:
    """uint16 [n, 4]: squares with a uniform centre pixel, clipped at the border; an odd side loses one pixel."""
    n, half = len(side), side // 2
    y, x = words.below(size, n), words.below(size, n)
    top, left = np.maximum(y - half, 0), np.maximum(x - half, 0)
    height, width = np.minimum(y + half, size) - top, np.minimum(x + half, size) - left
    return np.stack([top, left, height, width], axis=1).astype(np.uint16)


class Views(Sequence[View]):
    """K views of a set, drawn when asked for: view k depends on the options, the base seed and k alone.

    Args:
        augment, n, size, mirror, batch: as in `draw`.
        seed: base seed, 63-bit.
        count: K.
    """

    def __init__(self, augment: Augment, n: int, size: int, *, mirror: bool, batch: int, seed: int, count: int) -> None:
        self.augment, self.n, self.size, self.mirror, self.batch = augment, n, size, mirror, batch
        self.seed, self.k = seed, count
        self._keep, self._drawn = max(4, _KEPT // (64 * n + 1)), dict[int, View]()

    def __len__(self) -> int:
        return self.k

    @overload
    def __getitem__(self, index: int) -> View: ...
    @overload
    def __getitem__(self, index: slice) -> list[View]: ...

    def __getitem__(self, index: int | slice) -> View | list[View]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(self.k))]
        k = int(index) + (self.k if index < 0 else 0)
        if not 0 <= k < self.k:
            raise IndexError(f"view {index} of {self.k}")
        if k not in self._drawn:
            while len(self._drawn) >= self._keep:
                self._drawn.pop(next(iter(self._drawn)))
            self._drawn[k] = draw(
                self.augment,
                self.n,
                self.size,
                mirror=self.mirror,
                batch=self.batch,
                seed=make_seed("view", self.seed, k),
            )
        return self._drawn[k]

    def to_bytes(self) -> bytes:
        """All that `from_bytes` needs to draw the same views: compact JSON, about 100 bytes whatever n and K are."""
        spec = {
            "version": AUGMENT_VERSION,
            "n": self.n,
            "size": self.size,
            "mirror": int(self.mirror),
            "batch": self.batch,
            "seed": self.seed,
            "count": self.k,
            "augment": self.augment.model_dump(mode="json", exclude_defaults=True),
        }
        return json.dumps(spec, separators=(",", ":"), sort_keys=True).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Views:
        """The views that `to_bytes` wrote down.

        Raises:
            UserError: the bytes are damaged, or come from a version of this module that draws other views.
        """
        try:
            spec = json.loads(data)
            version = spec.pop("version")
            if version != AUGMENT_VERSION:
                raise UserError(
                    f"stored augmentation parameters have version {version}, this program draws version "
                    f"{AUGMENT_VERSION}: make the label set again, or read it with the release that wrote it"
                )
            augment = Augment(**spec.pop("augment"))
            n, size, mirror = int(spec.pop("n")), int(spec.pop("size")), bool(spec.pop("mirror"))
            return cls(augment, n, size, mirror=mirror, **{key: int(value) for key, value in spec.items()})
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            raise UserError(
                f"stored augmentation parameters cannot be read ({error}): make the label set again"
            ) from error
