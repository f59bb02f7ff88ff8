"""RandAugment: every operation is torchvision's to the bit, for groups of images, and drawn evenly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import RandAugment as OldRandAugment
from torchvision.transforms.autoaugment import _apply_op
from torchvision.transforms.v2 import RandAugment

from bench.protocol.recipe import Augment
from bench.views.parameters import draw
from bench.views.randaugment import BINS, OPERATIONS, SIGNED, operate, randaugment, strength
from bench.views.render import render
from tests.worlds.randaugment import torchvisions

CODES = [2 * place + sign for place in range(len(OPERATIONS)) for sign in range(1 + SIGNED[place])]
ROUNDED = ("Color", "Sharpness", "AutoContrast")  # torchvision's two forms of these differ by a grey level


def pictures(channels: int, size: int) -> torch.Tensor:
    """Noise, dark noise, a ramp, and an image of one colour."""
    images = torch.randint(
        0, 256, (4, channels, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    images[1] //= 3
    images[2] = (torch.arange(size) * 255 // size).to(torch.uint8)
    images[3] = 77
    return images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28])
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_every_operation_is_torchvisions_to_the_bit(channels: int, size: int, magnitude: int):
    images = pictures(channels, size)
    for code in CODES:
        ours = randaugment(images, np.full((4, 1), code, np.uint8), magnitude)
        theirs = torch.stack([torchvisions(image, code, magnitude) for image in images])
        assert torch.equal(ours, theirs), OPERATIONS[code // 2]


def test_what_torchvision_draws_is_among_what_is_drawn_here():
    """Its public transform, 300 times: every result is that of one code, and every code is met."""
    image, met = pictures(3, 16)[0], set()
    table = {
        randaugment(image[None], np.array([[code]], np.uint8), 12).numpy().tobytes(): OPERATIONS[code // 2]
        for code in CODES
    }
    assert len(table) == len(CODES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(300):
            met.add(table[RandAugment(num_ops=1, magnitude=12)(image).numpy().tobytes()])
    assert met == set(OPERATIONS)


@pytest.mark.parametrize("size", [8, 32, 224])
def test_strengths_are_those_of_torchvisions_first_release(size: int):
    space = OldRandAugment()._augmentation_space(BINS, (size, size))
    assert tuple(space) == OPERATIONS
    assert [signed for _, signed in space.values()] == SIGNED.tolist()
    for name, (values, _) in space.items():
        for magnitude in range(BINS):
            assert strength(name, magnitude, size) == (float(values[magnitude]) if values.ndim else 0)


@pytest.mark.parametrize("name", OPERATIONS[1:])
def test_the_older_transform_differs_by_a_grey_level_at_most(name: str):
    images, most = pictures(3, 16), 0
    for sign in (1, -1) if SIGNED[OPERATIONS.index(name)] else (1,):
        value = sign * strength(name, 9, 16)
        old = _apply_op(images, name, value, interpolation=InterpolationMode.NEAREST, fill=None)
        most = max(most, int((operate(images, name, value).int() - old.int()).abs().max()))
    assert most <= (1 if name in ROUNDED else 0)


def test_operations_act_in_their_order_and_the_images_stay_as_they_are():
    images = pictures(3, 16)
    kept = images.clone()
    codes = np.array([[10, 22], [22, 10], [0, 26], [24, 3]], np.uint8)
    shown = randaugment(images, codes, 20)
    for image, row, result in zip(images, codes, shown, strict=True):
        first, second = (int(code) for code in row)
        assert torch.equal(result, torchvisions(torchvisions(image, first, 20), second, 20))
    assert torch.equal(images, kept)
    assert not torch.equal(randaugment(images, codes[:, ::-1], 20), shown)


def test_operations_and_signs_are_drawn_evenly():
    view = draw(Augment(randaugment_ops=2), 7000, 8, mirror=False, batch=10, seed=1)
    assert view.operations.shape == (7000, 2)
    counts = np.bincount(view.operations.reshape(-1), minlength=28)
    expected = np.array([500 if SIGNED[code // 2] else 1000 * (1 - code % 2) for code in range(28)])
    assert (abs(counts - expected) <= 4.5 * np.sqrt(expected)).all()
    same = (view.operations[:, 0] // 2 == view.operations[:, 1] // 2).mean()
    assert same == pytest.approx(1 / 14, abs=0.012)  # the second does not depend on the first


def test_a_name_that_it_has_not_is_refused():
    with pytest.raises(ValueError, match="no operation 'Blur'"):
        operate(pictures(1, 8), "Blur", 0.0)


def test_normalised_images_are_refused():
    view = draw(Augment(randaugment_ops=1), 4, 8, mirror=False, batch=2, seed=1)
    with pytest.raises(ValueError, match="raw images"):
        render(pictures(1, 8).float(), view, np.arange(4), mean=[0.5], std=[0.5])
