"""PCA: the easiest images of a class, whole, four to an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from methods.synthesis import pca
from methods.synthesis.pca import tile_ranks
from tests.worlds.fakes import FakeContext, FakeTrain, digits, trained_teacher


def world(sizes: tuple[int, ...], side: int = 16) -> tuple[FakeTrain, FakeContext, np.ndarray]:
    """Noise images, sources twice the size, and dynamics whose EL2N is a random order of each class."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    train = FakeTrain(rng.integers(0, 256, (len(labels), 1, side, side), np.uint8), labels, size=side // 2)
    context = FakeContext(train, trained_teacher())
    error = rng.permutation(len(labels)) / len(labels)

    def dynamics(epochs: int) -> np.ndarray:
        share = np.full((len(labels), len(sizes)), 1.0)
        share *= (error / (len(sizes) - 1))[:, None]
        share[np.arange(len(labels)), labels] = 1 - error
        return np.repeat(share[None], epochs, axis=0)

    context.dynamics = dynamics  # type: ignore[method-assign]
    return train, context, error


def test_the_tiles_are_the_easiest_images_whole_and_in_rdeds_order():
    train, context, error = world((12, 9))
    made = pca.synthesize(train, 2, context)
    assert made.images.shape == (4, 1, 8, 8)
    assert made.labels.tolist() == [0, 0, 1, 1]
    for label in range(2):
        own = train.class_indices(label)
        ranked = own[np.argsort(error[own])][:8]
        shrunk = F.interpolate(train.sources(ranked).float(), size=(4, 4), mode="bilinear", antialias=True)
        for number in range(2):
            quarter = [made.images[2 * label + number, :, r : r + 4, c : c + 4] for r in (0, 4) for c in (0, 4)]
            for place, tile in enumerate(quarter):
                assert (tile.float() - shrunk[number + 2 * place]).abs().max() < 1.01  # truncation
    assert made.provenance == {"tile_size": 4, "classes_with_repeated_tiles": 0}


def test_a_small_class_shows_images_again_but_never_twice_in_a_mosaic():
    train, context, _ = world((5, 30))
    made = pca.synthesize(train, 5, context)
    assert made.provenance["classes_with_repeated_tiles"] == 1
    assert len(made.images.flatten(1).unique(dim=0)) == 10
    for members, ipc in ((5, 5), (7, 3), (6, 4), (9, 9), (4, 2), (15, 4)):
        tiles = tile_ranks(members, ipc, 2).reshape(4, ipc)
        assert all(len(set(column)) == 4 for column in tiles.T)
        assert set(tiles.ravel()) == set(range(members))


def test_enough_images_are_each_shown_once():
    assert tile_ranks(20, 5, 2).tolist() == list(range(20))
    assert tile_ranks(100, 3, 3).tolist() == list(range(27))


def test_one_tile_is_the_image_itself():
    train = digits()  # sources of the images' own size
    made = pca.synthesize(train, 2, FakeContext(train, trained_teacher()), factor=1)
    for label in range(10):
        known = {bytes(image.numpy().tobytes()) for image in train.images(train.class_indices(label))}
        assert all(image.numpy().tobytes() in known for image in made.images[2 * label : 2 * label + 2])


def test_it_is_deterministic_and_asks_for_no_randomness():
    train = digits()
    context = FakeContext(train, trained_teacher())
    assert torch.equal(pca.synthesize(train, 3, context).images, pca.synthesize(train, 3, context).images)
    assert not context.asked


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"factor": 0}, "factor is 0; it must be 1 to 8, the size of the images"),
        ({"factor": 9}, "factor is 9"),
        ({"jpeg": 96}, "jpeg is 96; it must be 0"),
    ],
)
def test_arguments_out_of_range_are_refused(argument, message):
    train, context, _ = world((6, 6))
    with pytest.raises(ValueError, match=message):
        pca.synthesize(train, 1, context, **argument)
    with pytest.raises(ValueError, match="too few for ipc 7"):
        pca.synthesize(train, 7, context)


@pytest.mark.parametrize("score", ["el2n", "aum", "forgetting", "random"])
def test_any_score_can_prune(score: str):
    """Table 24. With one tile and factor 1 the images are those that the selection method of the name takes first."""
    train, context, error = world((12, 9))
    made = pca.synthesize(train, 3, context, factor=1, score=score)
    shrunk = F.interpolate(train.sources(np.arange(21)).float(), size=(8, 8), mode="bilinear", antialias=True)
    gaps = (made.images[:, None].float() - shrunk[None]).abs().amax(dim=(2, 3, 4))
    shown = gaps.argmin(dim=1).numpy()
    assert (train.labels[shown] == made.labels.numpy()).all()
    easiest = [own[np.argsort(error[own])][:3] for own in (train.class_indices(c) for c in range(2))]
    assert (sorted(shown) == sorted(np.concatenate(easiest))) == (score in ("el2n", "aum"))
    if score == "forgetting":  # error above a half is wrong in every epoch: hardest, never shown while others are left
        assert (error[shown] < 0.5).all()
    again = pca.synthesize(train, 3, FakeContext(train, context.teacher, replicate=1), factor=1, score="random")
    assert not torch.equal(again.images, made.images)


def test_an_unknown_score_is_refused():
    train, context, _ = world((12, 9))
    with pytest.raises(ValueError, match="score is 'grand'"):
        pca.synthesize(train, 2, context, score="grand")
