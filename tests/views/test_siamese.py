"""DSA's augmentation of a batch: every image as a plain loop over its pixels gives it, from the published formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench.protocol.recipe import Recipe
from bench.seeds import seed
from bench.training.feed import Feed
from bench.views.siamese import OPERATIONS, PARAMETERS, draw_operation, operate, without_flip

MEAN, STD = (0.3,), (0.4,)


def images_of(n: int, channels: int = 1, size: int = 28) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(3))


def values_of(n: int) -> torch.Tensor:
    return torch.rand(n, PARAMETERS, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


# --- one image at a time, from the formulas of the published code -----------------------------------------------------


def pixel(image: np.ndarray, row: int, column: int) -> np.ndarray:
    """The values [c] at a place; zeros outside."""
    inside = 0 <= row < image.shape[1] and 0 <= column < image.shape[2]
    return image[:, row, column] if inside else np.zeros(len(image))


def sampled(image: np.ndarray, matrix: tuple[tuple[float, float], tuple[float, float]]) -> np.ndarray:
    """Bilinear, at the places (x, y) = matrix (x, y) of a square from -1 to 1 (pixel centres, not corners)."""
    size = image.shape[1]
    out = np.zeros_like(image)
    for row in range(size):
        for column in range(size):
            x, y = (2 * column + 1) / size - 1, (2 * row + 1) / size - 1
            across = ((matrix[0][0] * x + matrix[0][1] * y + 1) * size - 1) / 2
            down = ((matrix[1][0] * x + matrix[1][1] * y + 1) * size - 1) / 2
            left, top = math.floor(across), math.floor(down)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = (1 - abs(down - top - i)) * (1 - abs(across - left - j))
                out[:, row, column] += weight * pixel(image, top + i, left + j)
    return out


def color(image: np.ndarray, u: list[float]) -> np.ndarray:
    image = image + (u[0] - 0.5) * 1
    image = (image - image.mean(axis=0)) * (u[1] * 2) + image.mean(axis=0)
    return (image - image.mean()) * (u[2] + 0.5) + image.mean()


def crop(image: np.ndarray, u: list[float]) -> np.ndarray:
    size = image.shape[1]
    shift = int(size * 0.125 + 0.5)
    down, right = (math.floor(each * (2 * shift + 1)) - shift for each in u[:2])
    places = [(row, column) for row in range(size) for column in range(size)]
    return np.stack([pixel(image, row + down, column + right) for row, column in places], axis=1).reshape(image.shape)


def cutout(image: np.ndarray, u: list[float]) -> np.ndarray:
    size, image = image.shape[1], image.copy()
    side = int(size * 0.5 + 0.5)
    row, column = (math.floor(each * (size + (1 - side % 2))) for each in u[:2])
    for i in range(side):
        for j in range(side):
            at = min(max(row + i - side // 2, 0), size - 1), min(max(column + j - side // 2, 0), size - 1)
            if at == (row + i - side // 2, column + j - side // 2):
                image[:, at[0], at[1]] = 0
    return image


def flip(image: np.ndarray, u: list[float]) -> np.ndarray:
    return image[:, :, ::-1] if u[0] < 0.5 else image


def scale(image: np.ndarray, u: list[float]) -> np.ndarray:
    across, down = (each * (1.2 - 1 / 1.2) + 1 / 1.2 for each in u[:2])
    return sampled(image, ((across, 0), (0, down)))


def rotate(image: np.ndarray, u: list[float]) -> np.ndarray:
    angle = (u[0] - 0.5) * 2 * 15 / 180 * math.pi
    return sampled(image, ((math.cos(angle), math.sin(-angle)), (math.sin(angle), math.cos(angle))))


REFERENCE = {"color": color, "crop": crop, "cutout": cutout, "flip": flip, "scale": scale, "rotate": rotate}


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 9)])
def test_each_image_is_changed_by_its_own_parameters(name: str, channels: int, size: int) -> None:
    images, values = images_of(4, channels, size), values_of(4)
    changed = operate(images, name, values)
    for image, u, result in zip(images.double().numpy(), values.tolist(), changed.numpy(), strict=True):
        np.testing.assert_allclose(result, REFERENCE[name](image, u), atol=3e-5)
    assert set(REFERENCE) == set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_flow_to_the_pixels_that_are_shown(name: str) -> None:
    images, values = images_of(3).requires_grad_(True), values_of(3)
    (gradient,) = torch.autograd.grad(operate(images, name, values).sum(), images)
    assert gradient.shape == images.shape
    assert gradient.abs().sum() > 0


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_every_operation_comes_equally_often_and_parameters_are_uniform() -> None:
    names = tuple(OPERATIONS)
    drawn = [draw_operation(number, names, 2) for number in range(1200)]
    counts = [sum(name == each for each, _ in drawn) for name in names]
    assert min(counts) > 150
    assert max(counts) < 250
    values = torch.stack([values for _, values in drawn])
    assert 0 <= float(values.min()) < float(values.max()) < 1
    torch.testing.assert_close(values.mean(dim=(0, 1)), torch.full((3,), 0.5, dtype=torch.float64), atol=0.03, rtol=0)
    assert not torch.equal(values[:, 0], values[:, 1])


def test_a_mirrored_character_is_another_one() -> None:
    assert without_flip(["crop", "flip"], mirror=True) == ("crop", "flip")
    assert without_flip(["crop", "flip"], mirror=False) == ("crop",)


# --- in the feed ------------------------------------------------------------------------------------------------------


def feed(siamese: tuple[str, ...], *, mirror: bool = True) -> Feed:
    pixels = torch.randint(0, 256, (11, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augment = {"flip": 0.0}
    recipe = Recipe(labels="hard", epochs=8, batch=4, augment=augment, siamese=siamese)
    labels = torch.arange(11) % 3
    return Feed(
        pixels, labels, recipe, coordinates=("test", 0), mean=MEAN, std=STD, mirror=mirror, device=torch.device("cpu"),
        reader=None, block_bytes=2**20,
    )  # fmt: skip


def test_each_batch_of_an_epoch_goes_through_an_operation_of_its_own() -> None:
    names, plain, changed = tuple(OPERATIONS), feed(()), feed(tuple(OPERATIONS))
    met = set()
    for epoch in range(8):
        pairs = zip(plain.epoch(epoch), changed.epoch(epoch), strict=True)
        for number, ((before, target), (after, same)) in enumerate(pairs):
            name, values = draw_operation(seed("siamese", "test", 0, epoch, number), names, len(before))
            assert torch.equal(after, operate(before, name, values))
            assert torch.equal(target.classes, same.classes)
            met.add(name)
    assert met == set(names)


def test_a_data_set_that_may_not_be_mirrored_never_meets_the_flip() -> None:
    plain, changed = feed((), mirror=False), feed(("flip",), mirror=False)
    for (before, _), (after, _) in zip(plain.epoch(0), changed.epoch(0), strict=True):
        assert torch.equal(before, after)


def test_stored_labels_have_views_of_their_own() -> None:
    stored = {"labels": "stored", "views": 2, "epochs": 2, "batch": 4, "loss": {"name": "kl"}}
    assert Recipe.model_validate(stored).siamese == ()
    with pytest.raises(ValueError, match="siamese is drawn for every batch anew"):
        Recipe.model_validate({**stored, "siamese": ("crop",)})
