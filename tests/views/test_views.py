"""Views are drawn exactly, replayed from a hundred bytes, and rendered as torchvision and plain loops would."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as TF

from bench.errors import UserError
from bench.protocol.recipe import Augment
from bench.views import render as render_module
from bench.views.parameters import AUGMENT_VERSION, View, Views, batch_bounds, batch_sizes, draw, permutation
from bench.views.render import normalise, pieces, render
from tests.worlds.randaugment import slow_randaugment

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
OPTIONS = {
    "crop": Augment(crop_scale=(0.1, 1.0)),
    "tall crop": Augment(crop_scale=(0.9, 1.0), crop_ratio=(0.2, 0.3)),
    "flip only": Augment(),
    "extract": Augment(patches="extract", patch_grid=2),
    "extract, crop": Augment(patches="extract", patch_grid=4, crop_scale=(0.3, 1.0)),
    "shuffle, crop": Augment(patches="shuffle", patch_grid=4, crop_scale=(0.5, 1.0)),
    "cutmix, cutout": Augment(crop_scale=(0.3, 1.0), mix="cutmix", mix_probability=0.7, cutout=0.5),
    "cutmix per batch": Augment(mix="cutmix", mix_unit="batch"),
    "mixup": Augment(mix="mixup", mix_alpha=0.8),
    "mixup per batch": Augment(mix="mixup", mix_unit="batch"),
    "pad": Augment(pad=0.125),
    "pad, crop, cutmix": Augment(pad=0.25, crop_scale=(0.3, 1.0), mix="cutmix"),
    "shuffle, pad": Augment(patches="shuffle", patch_grid=2, pad=0.3),
    "randaugment": Augment(randaugment_ops=2),
    "randaugment, shuffle, pad, crop, mixup, cutout": Augment(
        randaugment_ops=3,
        randaugment_magnitude=25,
        patches="shuffle",
        patch_grid=2,
        pad=0.125,
        crop_scale=(0.5, 1.0),
        mix="mixup",
        cutout=0.25,
    ),
}


def pictures(n: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def box(row: np.ndarray) -> tuple[int, int, int, int]:
    top, left, height, width = (int(value) for value in row)
    return top, left, height, width


def slow_pixels(image: torch.Tensor, view: View, i: int) -> torch.Tensor:
    """What happens to whole pixels of a raw image: RandAugment, strips, the crop of the padded image."""
    if view.operations is not None:
        image = slow_randaugment(image, view.operations[i], view.magnitude)
    if view.strips is not None:
        image = shuffled(image, view.strips[i, 0].tolist())
        image = shuffled(image.permute(0, 2, 1), view.strips[i, 1].tolist()).permute(0, 2, 1)
    if view.shift is not None:
        margin = max(1, int(abs(view.shift).max()))
        top, left = (int(each) + margin for each in view.shift[i])
        image = TF.crop(TF.pad(image, [margin] * 4, fill=0), top, left, view.size, view.size)
    return image


def shuffled(image: torch.Tensor, order: list[int]) -> torch.Tensor:
    """RDED's shuffle_weight, given the order in which its shuffle left the vertical strips."""
    factor, width = len(order), image.shape[-1] // len(order)
    patches = [
        image[..., i * width : (i + 1) * width] if i != factor - 1 else image[..., i * width :] for i in range(factor)
    ]
    return torch.cat([patches[i] for i in order], -1)


def slow_geometry(image: torch.Tensor, view: View, i: int, antialias: bool) -> torch.Tensor:
    width = view.size // view.grid
    if view.tile is not None:
        row, column = divmod(int(view.tile[i]), view.grid)
        image = image[:, row * width : (row + 1) * width, column * width : (column + 1) * width]
    crop = box(view.box[i]) if view.box is not None else (0, 0, image.shape[1], image.shape[2])
    if crop != (0, 0, view.size, view.size):
        image = TF.resized_crop(image, *crop, [view.size, view.size], antialias=antialias)
    return image.flip(-1) if view.flip is not None and view.flip[i] else image


def slow_render(images: torch.Tensor, view: View, antialias: bool) -> torch.Tensor:
    plain = normalise(torch.stack([slow_pixels(image, view, i) for i, image in enumerate(images)]), MEAN, STD)
    shown = [slow_geometry(image, view, i, antialias) for i, image in enumerate(plain)]
    out = [image.clone() for image in shown]
    for i in range(len(images)):
        if view.partner is not None:
            other = shown[view.partner[i]]
            if view.mix_box is None:
                out[i] = float(view.lam[i]) * shown[i] + (1 - float(view.lam[i])) * other
            else:
                top, left, height, width = box(view.mix_box[i])
                out[i][:, top : top + height, left : left + width] = other[:, top : top + height, left : left + width]
        if view.cutout is not None:
            top, left, height, width = box(view.cutout[i])
            out[i][:, top : top + height, left : left + width] = 0
    return torch.stack(out)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_rendered_view_is_what_torchvision_and_loops_make(name: str, antialias: bool):
    images = pictures(30, 16)
    view = draw(OPTIONS[name], 30, 16, mirror=True, batch=7, seed=3)
    fast = render(images, view, np.arange(30), mean=MEAN, std=STD)
    assert torch.allclose(fast, slow_render(images, view, antialias), atol=1e-4)
    assert not torch.allclose(fast, normalise(images, MEAN, STD), atol=1e-2)


def test_a_padded_crop_starts_anywhere_within_the_margin_as_torchvisions():
    """RandomCrop(32, padding=4): 81 equally likely places, black around the image."""
    view = draw(Augment(pad=0.125), 8100, 32, mirror=False, batch=10, seed=5)
    assert (view.shift.min(), view.shift.max()) == (-4, 4)
    counts = np.bincount((view.shift[:, 0] + 4) * 9 + view.shift[:, 1] + 4, minlength=81)
    assert (abs(counts - 100) < 45).all()
    white = torch.full((8100, 3, 32, 32), 255, dtype=torch.uint8)
    shown = render(white[:9], view, np.arange(9), mean=MEAN, std=STD)
    black = normalise(torch.zeros(1, 3, 32, 32), MEAN, STD)
    for i, (top, left) in enumerate(view.shift[:9].astype(int)):
        outside = torch.ones(32, 32, dtype=torch.bool)
        outside[max(0, -top) : 32 - max(0, top), max(0, -left) : 32 - max(0, left)] = False
        assert outside.sum() == 32 * 32 - (32 - abs(top)) * (32 - abs(left))
        assert torch.equal(shown[i][:, outside], black[0][:, outside])


def test_a_tile_has_no_black_margin():
    with pytest.raises(ValueError, match="pad and patches = 'extract'"):
        Augment(pad=0.1, patches="extract", patch_grid=2)


def test_new_options_leave_the_draws_of_the_old_ones():
    old = Augment(patches="shuffle", patch_grid=2, crop_scale=(0.2, 1.0), cutout=0.25)
    new = old.model_copy(update={"pad": 0.1, "randaugment_ops": 2, "mix_unit": "batch"})
    before, after = (draw(each, 40, 32, mirror=True, batch=8, seed=11) for each in (old, new))
    for name in ("strips", "box", "flip", "cutout"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert (before.order, before.shift, before.operations) == (None, None, None)
    assert sorted(after.order) == list(range(40))


@pytest.mark.parametrize("name", OPTIONS)
def test_some_rows_are_rendered_as_they_are_within_the_whole(name: str):
    images, rows = pictures(30, 16), np.array([29, 4, 4, 11])
    view = draw(OPTIONS[name], 30, 16, mirror=True, batch=7, seed=3)
    whole = render(images, view, np.arange(30), mean=MEAN, std=STD)
    assert torch.allclose(render(images, view, rows, mean=MEAN, std=STD), whole[torch.from_numpy(rows)], atol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_large_set_is_rendered_piece_by_piece_with_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images, rows = pictures(9, 32), np.array([8, 0, 3, 3, 1, 7, 2, 5])
    view = Views(OPTIONS[name], 9, 32, mirror=True, batch=9, seed=4, count=1)[0]
    whole = render(images, view, rows, mean=MEAN, std=STD)
    for together in (1, 2, 3):  # images
        monkeypatch.setattr(render_module, "_TOGETHER", together * 4 * 3 * 32 * 32)
        assert max(map(len, pieces(images, rows))) == together
        assert torch.equal(render(images, view, rows, mean=MEAN, std=STD), whole)
    assert render(images, view, rows[:0], mean=MEAN, std=STD).shape == (0, 3, 32, 32)


def test_a_view_without_options_gives_exactly_the_normalised_image():
    images = pictures(20, 8)
    plain = normalise(images, MEAN, STD)
    nothing = draw(Augment(), 20, 8, mirror=False, batch=5, seed=1)
    assert torch.equal(render(images, nothing, np.arange(20), mean=MEAN, std=STD), plain)
    whole = View(size=8, box=np.tile(np.array([0, 0, 8, 8], np.uint16), (20, 1)))
    assert torch.equal(render(images, whole, np.arange(20), mean=MEAN, std=STD), plain)
    assert torch.allclose(plain, (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))


def test_images_of_another_size_are_refused():
    view = draw(Augment(), 4, 8, mirror=True, batch=2, seed=0)
    with pytest.raises(ValueError, match="8 px"):
        render(pictures(4, 16), view, np.arange(4), mean=MEAN, std=STD)


def test_a_patch_grid_must_divide_the_image():
    with pytest.raises(UserError, match="patch_grid = 3"):
        draw(Augment(patches="extract", patch_grid=3), 4, 8, mirror=True, batch=2, seed=0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**63 - 1),
    size=st.sampled_from([1, 2, 8, 28, 224]),
    low=st.sampled_from([0.0, 0.08, 0.5, 1.0]),
    unit=st.sampled_from(["image", "batch"]),
    mix=st.sampled_from(["cutmix", "mixup"]),
    alpha=st.sampled_from([0.2, 1.0]),
    n=st.integers(1, 40),
)
def test_every_drawn_value_is_in_range(seed: int, size: int, low: float, unit: str, mix: str, alpha: float, n: int):
    augment = Augment(crop_scale=(low, 1.0), mix=mix, mix_unit=unit, mix_alpha=alpha, cutout=0.5)
    view = draw(augment, n, size, mirror=True, batch=4, seed=seed)
    for boxes in (view.box, view.mix_box, view.cutout):
        if boxes is not None:
            assert boxes.dtype == np.uint16
            assert boxes.shape == (n, 4)
            assert (boxes[:, :2].astype(int) + boxes[:, 2:] <= size).all()
    assert view.box is None or view.box[:, 2:].min() >= 1
    assert ((view.lam >= 0) & (view.lam <= 1)).all()
    assert sorted(view.partner) == list(range(n))
    if mix == "cutmix":
        pasted = view.mix_box[:, 2].astype(float) * view.mix_box[:, 3]
        assert np.allclose(view.lam, 1 - pasted / size**2, atol=1e-7)
    if unit == "batch":
        assert sorted(view.order) == list(range(n))
        for start, stop in batch_bounds(n, 4):
            members = view.order[start:stop]
            assert set(view.partner[members]) == set(members)
            assert len(np.unique(view.lam[members])) == 1


def test_crops_follow_torchvisions_distribution():
    from torchvision.transforms.v2 import RandomResizedCrop

    view = draw(Augment(crop_scale=(0.2, 1.0)), 4000, 32, mirror=True, batch=10, seed=5)
    picture, theirs = torch.zeros(3, 32, 32), []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(4000):
            chosen = RandomResizedCrop(32, scale=(0.2, 1.0)).make_params([picture])
            theirs.append([chosen["top"], chosen["left"], chosen["height"], chosen["width"]])
    ours, others = view.box.astype(float), np.array(theirs, float)
    assert np.allclose(ours.mean(0), others.mean(0), atol=0.45)  # standard error of a difference: below 0.16 px
    assert np.allclose(ours.std(0), others.std(0), atol=0.45)
    assert 0.45 < view.flip.mean() < 0.55


def test_lambda_follows_its_beta_distribution():
    for alpha, variance in ((1.0, 1 / 12), (0.2, 1 / (4 * 1.4))):
        lam = draw(Augment(mix="mixup", mix_alpha=alpha), 4000, 8, mirror=True, batch=10, seed=5).lam
        assert abs(lam.mean() - 0.5) < 0.03
        assert abs(lam.var() - variance) < 0.01


def test_a_seed_draws_the_same_view_for_ever():
    """The digest pins the drawn bits: if it changes, raise AUGMENT_VERSION, stored label sets lose their views."""
    augment = Augment(
        patches="shuffle", patch_grid=2, crop_scale=(0.08, 1), mix="cutmix", mix_unit="batch", cutout=0.25
    )
    view = draw(augment, 50, 32, mirror=True, batch=8, seed=11)
    parts = [view.strips, view.box, view.flip, view.partner, view.mix_box, view.lam, view.cutout, view.order]
    digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]
    assert (AUGMENT_VERSION, digest) == (1, "ebe3999639ff70df")
    later = draw(Augment(pad=0.125, randaugment_ops=2, mix_unit="batch"), 50, 32, mirror=True, batch=8, seed=11)
    parts = [later.flip, later.order, later.shift, later.operations]
    assert hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16] == "98cb86e184737c4e"


def test_views_come_back_from_their_bytes():
    augment = Augment(crop_scale=(0.4, 1.0), mix="cutmix")
    views = Views(augment, 100, 28, mirror=True, batch=10, seed=2**62, count=100)
    stored = views.to_bytes()
    assert len(stored) < 160
    again = Views.from_bytes(stored)
    assert len(again) == 100
    assert again.to_bytes() == stored
    for k in (0, 57, -1):
        for name in ("box", "flip", "partner", "mix_box", "lam"):
            assert np.array_equal(getattr(views[k], name), getattr(again[k], name))
    assert not np.array_equal(views[0].box, views[1].box)
    with pytest.raises(IndexError):
        views[100]


def test_views_of_another_version_or_damaged_ones_say_so():
    stored = Views(Augment(), 10, 8, mirror=True, batch=5, seed=1, count=3).to_bytes()
    with pytest.raises(UserError, match="version 99"):
        Views.from_bytes(stored.replace(b'"version":1', b'"version":99'))
    for broken in (b"", b"[1]", stored[:-5], stored.replace(b'"n"', b'"m"'), b"\xff"):
        with pytest.raises(UserError, match="cannot be read"):
            Views.from_bytes(broken)


def test_options_left_at_their_default_are_not_stored_so_no_default_may_change():
    assert Augment().model_dump(mode="json") == {
        "randaugment_ops": 0,
        "randaugment_magnitude": 9,
        "patches": "none",
        "patch_grid": 1,
        "pad": 0.0,
        "crop_scale": [1.0, 1.0],
        "crop_ratio": [3 / 4, 4 / 3],
        "flip": 0.5,
        "mix": "none",
        "mix_alpha": 1.0,
        "mix_probability": 1.0,
        "mix_unit": "image",
        "cutout": 0.0,
        "cutout_probability": 1.0,
    }, "raise AUGMENT_VERSION and pin the new defaults"


def test_a_left_over_image_joins_the_batch_before():
    assert batch_bounds(11, 5) == [(0, 5), (5, 11)]
    assert batch_bounds(12, 5) == [(0, 5), (5, 10), (10, 12)]
    assert batch_bounds(1, 5) == [(0, 1)]
    assert batch_bounds(3, 1) == [(0, 1), (1, 3)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 300), st.integers(1, 40))
def test_sizes_of_batches_are_those_of_their_bounds(n: int, batch: int) -> None:
    assert batch_sizes(n, batch) == Counter(stop - start for start, stop in batch_bounds(n, batch))


def test_sizes_of_any_number_of_images_are_told_at_once() -> None:
    assert sum(batch_sizes(10**18, 128).values()) == 10**18 // 128
    assert sorted(permutation(3, 20)) == list(range(20))


@pytest.mark.gpu
def test_a_gpu_renders_the_same_view():
    images = pictures(30, 16)
    for augment in OPTIONS.values():
        view = draw(augment, 30, 16, mirror=True, batch=7, seed=3)
        here = render(images, view, np.arange(30), mean=MEAN, std=STD)
        there = render(images.cuda(), view, np.arange(30), mean=MEAN, std=STD)
        agree = torch.isclose(here, there.cpu(), atol=1e-4).float().mean()
        assert agree > 0.95 if augment.randaugment_ops else agree == 1  # a grey level may round otherwise there
