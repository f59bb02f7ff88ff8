"""RDED: crops as torchvision cuts them, scored in a border of zeros, ranked and stitched as the paper's code does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from methods._mosaic import centre_pad, mosaics, resized_crops, square_boxes
from methods._pixels import through_jpeg
from methods._typical_crops import crop_losses, rank_crops
from methods.synthesis import rded
from tests.worlds.fakes import FakeContext, FakeTrain, digits, digits_context, trained_teacher


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Brightness(nn.Module):
    """Two classes; the logit of class 1 is the sum of the image, so that class 1 wants bright crops."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        total = images.sum(dim=(1, 2, 3)) / 100
        return torch.stack([torch.zeros_like(total), total], dim=1)


def test_boxes_are_squares_inside_the_image_and_cover_8_to_100_percent():
    top, left, side = square_boxes(5000, 64, (0.08, 1.0), generator()).unbind(1)
    assert int(top.min()) >= 0
    assert int((top + side).max()) <= 64
    assert int(left.min()) >= 0
    assert int((left + side).max()) <= 64
    assert int(side.min()) == round(64 * 0.08**0.5)
    assert int(side.max()) == 64
    share = (side.double() / 64) ** 2
    assert float(share.mean()) == pytest.approx(0.54, abs=0.01)  # uniform in [.08, 1]


@pytest.mark.parametrize(("size", "out"), [(64, 16), (8, 4), (28, 14), (9, 9), (16, 1)])
def test_batched_crops_equal_torchvision_one_by_one(size, out):
    images = torch.randint(0, 256, (3, 2, size, size), generator=generator(), dtype=torch.uint8)
    boxes = square_boxes(12, size, (0.08, 1.0), generator(1)).reshape(3, 4, 3)
    crops = resized_crops(images, boxes, out)
    for image in range(3):
        for crop in range(4):
            top, left, side = boxes[image, crop].tolist()
            cut = images[image, :, top : top + side, left : left + side].float()
            expected = TF.resize(cut, [out, out], antialias=True)
            assert torch.allclose(crops[image, crop], expected, atol=1e-3)


def test_zeros_surround_the_crop():
    padded = centre_pad(torch.ones(1, 1, 3, 3), 8)
    assert padded.shape == (1, 1, 8, 8)
    assert torch.equal(padded[0, 0, 2:5, 2:5], torch.ones(3, 3))
    assert float(padded.sum()) == 9


def test_crops_are_scored_inside_zeros_that_are_set_after_normalisation():
    context = digits_context()
    crops = torch.rand(5, 1, 4, 4, generator=generator()) * 255
    canvas = torch.zeros(5, 1, 8, 8)
    canvas[:, :, 2:6, 2:6] = context.normalise(crops)
    expected = F.cross_entropy(context.teacher(canvas), torch.full((5,), 3), reduction="none")
    assert torch.allclose(crop_losses(crops, 3, 8, context), expected, atol=1e-5)


def test_crops_may_be_ranked_by_other_networks_and_by_the_entropy_of_what_they_say():
    context = digits_context()
    crops = torch.rand(5, 1, 4, 4, generator=generator()) * 255
    canvas = torch.zeros(5, 1, 8, 8)
    canvas[:, :, 2:6, 2:6] = context.normalise(crops)
    others = [trained_teacher(8, epochs=1), trained_teacher(8, epochs=2)]
    losses = [F.cross_entropy(each(canvas), torch.full((5,), 3), reduction="none") for each in others]
    assert torch.allclose(crop_losses(crops, 3, 8, context, others), (losses[0] + losses[1]) / 2, atol=1e-5)
    share = context.teacher(canvas).softmax(dim=1)
    entropy = torch.tensor([float(-sum(p * p.log() for p in row)) for row in share])
    for label in (3, 4):
        assert torch.allclose(crop_losses(crops, label, 8, context, criterion="entropy"), entropy, atol=1e-5)


def test_the_observer_and_the_criterion_choose_other_crops():
    plain, other, unsure = (
        rded.synthesize(digits(4), 2, digits_context(4), candidates=30, **choice)
        for choice in ({}, {"observer": "2"}, {"criterion": "entropy"})
    )
    assert not torch.equal(plain.images, other.images)
    assert not torch.equal(plain.images, unsure.images)
    assert unsure.provenance["mean_loss_of_kept_crops"] < 0.1  # the crops about which the teacher is surest


def test_one_crop_of_each_image_and_the_lowest_of_them_first():
    losses = np.array([[5.0, 2.0, 9.0], [1.0, 0.5, 0.9], [4.0, 4.0, 3.0], [0.1, 7.0, 8.0]])
    assert rank_crops(losses, 3).tolist() == [[3, 0], [1, 1], [0, 1]]


def test_second_best_crops_follow_where_images_run_out():
    losses = np.array([[5.0, 2.0], [1.0, 0.5]])
    assert rank_crops(losses, 3).tolist() == [[1, 1], [0, 1], [1, 0]]


def test_ties_go_to_the_lowest_image_and_crop():
    assert rank_crops(np.ones((4, 3)), 2).tolist() == [[0, 0], [1, 0]]


def test_tiles_are_placed_in_the_published_order():
    tiles = torch.arange(8.0)[:, None, None, None].expand(8, 1, 2, 2)  # tile r has the colour r
    first, second = mosaics(tiles, 4, 2)[:, 0, ::2, ::2]
    assert first.tolist() == [[0, 2], [4, 6]]
    assert second.tolist() == [[1, 3], [5, 7]]


def test_a_size_that_the_factor_does_not_divide_gives_the_first_slots_the_spare_pixels():
    mosaic = mosaics(torch.arange(9.0)[:, None, None, None].expand(9, 1, 3, 3), 10, 3)
    assert mosaic.shape == (1, 1, 10, 10)
    assert mosaic[0, 0, 0].tolist() == [0] * 4 + [1] * 3 + [2] * 3
    assert mosaic[0, 0, :, 0].tolist() == [0] * 4 + [3] * 3 + [6] * 3


def test_constant_images_come_out_as_mosaics_of_their_colours_best_first():
    """Each image has one colour; the teacher's class 1 wants bright ones, class 0 dark ones."""
    colours = np.array([200, 10, 100, 60, 30, 250, 90, 20, 40, 70, 220, 130], dtype=np.uint8)
    train = FakeTrain(np.broadcast_to(colours[:, None, None, None], (12, 1, 8, 8)), np.arange(12) % 2, size=4)
    made = rded.synthesize(train, 1, FakeContext(train, Brightness()))
    assert made.images.shape == (2, 1, 4, 4)
    assert made.images[0, 0, ::2, ::2].tolist() == [[30, 40], [90, 100]]
    assert made.images[1, 0, ::2, ::2].tolist() == [[250, 130], [70, 60]]
    assert made.labels.tolist() == [0, 1]
    assert made.provenance["factor"] == 2


def test_the_factor_follows_the_resolution_of_the_sources():
    assert rded.synthesize(digits(4), 1, digits_context(4), candidates=20).provenance["factor"] == 2
    assert rded.synthesize(digits(8), 1, digits_context(8), candidates=20).provenance["factor"] == 1
    assert rded.synthesize(digits(8), 1, digits_context(8), candidates=20, factor=2).provenance["crop_size"] == 4


def test_digits_mosaics_have_the_quota_and_crops_that_the_teacher_likes():
    made = rded.synthesize(digits(8), 3, digits_context(8))
    assert made.images.dtype == torch.uint8
    assert made.images.shape == (30, 1, 8, 8)
    assert made.labels.dtype == torch.int64
    assert made.labels.bincount().tolist() == [3] * 10
    top1 = digits_context(8).predict(made.images).argmax(1)
    assert float((top1 == made.labels).float().mean()) >= 0.95


def test_the_same_replicate_repeats_bit_for_bit_and_another_one_differs():
    first, again, other = (
        rded.synthesize(digits(4), 2, digits_context(4, replicate), candidates=30).images for replicate in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_jpeg_loses_a_little():
    plain, lossy = (rded.synthesize(digits(8), 1, digits_context(8), candidates=20, jpeg=q).images for q in (0, 75))
    assert lossy.shape == plain.shape
    assert not torch.equal(lossy, plain)
    assert float((lossy.float() - plain.float()).abs().mean()) < 10
    colour = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=generator())
    assert through_jpeg(colour, 75).shape == colour.shape


def test_few_images_are_cropped_again_and_this_is_said():
    sources = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)
    train = FakeTrain(sources, np.arange(12) % 2, size=4)
    context = FakeContext(train, trained_teacher(4))
    made = rded.synthesize(train, 6, context)  # 24 slots, 6 images of 5 crops
    assert made.images.shape == (12, 1, 4, 4)
    assert made.provenance["classes_with_several_crops_of_an_image"] == 2
    with pytest.raises(ValueError, match="too few for ipc 6 x factor 2"):
        rded.synthesize(train, 6, context, num_crops=3)
    with pytest.raises(ValueError, match="class 0 has 6 images, too few for ipc 7"):
        rded.synthesize(train, 7, context)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"num_crops": 0}, "num_crops is 0; it must be at least 1"),
        ({"candidates": 0}, "candidates is 0; it must be at least 1"),
        ({"factor": 9}, "factor is 9; it must be 0 .automatic. or 1 to 8"),
        ({"factor": -1}, "factor is -1"),
        ({"criterion": "loss"}, "criterion is 'loss'; it must be"),
        ({"jpeg": 101}, "jpeg is 101; it must be 0 .lossless. or a quality from 1 to 95"),
    ],
)
def test_arguments_out_of_range_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        rded.synthesize(digits(8), 1, digits_context(8), **argument)
