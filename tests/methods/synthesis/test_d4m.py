"""D4M: centres of mini-batch k-means by a plain loop, autoencoders that give images back, and those of a user."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.decomposition import PCA

from bench.errors import UserError
from bench.foreign.named_files import name_content
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages.method_call import build_condensed
from methods._autoencoders import Convolutional, Linear
from methods._latents import condense_latents
from methods.synthesis import d4m
from tests.worlds import ROOT
from tests.worlds.fakes import FakeContext, FakeTrain, SmallNet, digits, digits_context


class Pixels:
    """Latents are the pixels; notes what it is asked."""

    def __init__(self) -> None:
        self.encoded: list[int] = []  # the class of each image
        self.decoded: list[int] = []  # the class of each latent

    def encode(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8
        self.encoded += labels.tolist()
        return images.float()

    def decode(self, latents: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.decoded += labels.tolist()
        return latents


def world(images: np.ndarray, labels: np.ndarray) -> tuple[FakeTrain, FakeContext]:
    train = FakeTrain(images, labels)
    return train, FakeContext(train, SmallNet(images.shape[1], train.num_classes))


def blobs(per_class: int = 40) -> tuple[FakeTrain, FakeContext]:
    """Two classes of two clusters each, at four grey levels."""
    rng = np.random.default_rng(0)
    levels = np.array([20, 90, 160, 230]).repeat(per_class // 2)
    images = np.clip(levels[:, None, None, None] + rng.normal(0, 3, (len(levels), 1, 4, 4)), 0, 255).astype(np.uint8)
    return world(images, np.arange(2).repeat(per_class))


# The clustering


def test_the_centres_of_each_class_are_those_of_its_clusters():
    train, ctx = blobs()
    made = condense_latents(train, 2, ctx, Pixels(), expand=4)
    levels = made.images.double().mean(dim=(1, 2, 3)).numpy()
    assert np.sort(levels[:2]) == pytest.approx([20, 90], abs=3)
    assert np.sort(levels[2:]) == pytest.approx([160, 230], abs=3)
    assert made.labels.tolist() == [0, 0, 1, 1]
    assert made.images.dtype == torch.uint8


def test_one_prototype_is_the_mean_of_all_latents_of_its_class():
    train, ctx = blobs()
    made = condense_latents(train, 1, ctx, Pixels(), expand=7)  # 7 does not divide 40: the rest counts too
    for label in range(2):
        mean = train.images(train.class_indices(label)).double().mean(dim=0)
        assert float((made.images[label].double() - mean).abs().max()) <= 1.01  # cut to whole levels


def test_centres_move_as_in_a_plain_loop_over_mini_batches():
    """Sculley's algorithm 1: each latent moves its nearest centre by one over the latents that it has had."""
    train, ctx = blobs()
    made = condense_latents(train, 2, ctx, Pixels(), expand=5)
    rows = train.images(ctx.numpy("order", 0).permutation(train.class_indices(0))).flatten(1).double().numpy()
    dark = rows[:10].mean(axis=1) < 55
    centres, counts = np.stack([rows[:10][dark][0], rows[:10][~dark][0]]), np.zeros(2)
    for start in range(0, len(rows), 10):
        batch = rows[start : start + 10]
        nearest = ((batch[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        for row, centre in zip(batch, nearest, strict=True):
            counts[centre] += 1
            centres[centre] += (row - centres[centre]) / counts[centre]
    found = made.images[:2].flatten(1).double().numpy()
    found = found[np.argsort(found.mean(axis=1))]
    assert np.abs(found - centres).max() <= 1.01


def test_passes_show_every_image_so_often_and_the_classes_are_told():
    train, ctx = blobs()
    pixels = Pixels()
    condense_latents(train, 2, ctx, pixels, passes=3)
    assert pixels.encoded == [0] * 120 + [1] * 120
    assert pixels.decoded == [0, 0, 1, 1]


def test_all_images_of_a_class_are_their_own_prototypes():
    train, ctx = blobs(6)
    made = condense_latents(train, 6, ctx, Pixels())
    for label in range(2):
        expected = train.images(train.class_indices(label)).flatten(1).tolist()
        assert sorted(made.images[6 * label :][:6].flatten(1).tolist()) == sorted(expected)


# Autoencoders of a user


def test_sources_may_be_read_and_decoded_images_of_another_size_are_resized():
    rng = np.random.default_rng(0)
    train = FakeTrain(rng.integers(0, 256, (12, 1, 8, 8), np.uint8), np.arange(12) % 2, size=4)
    ctx = FakeContext(train, SmallNet(1, 2))
    made = condense_latents(train, 1, ctx, Pixels(), read=train.sources)
    assert made.images.shape == (2, 1, 4, 4)
    assert made.provenance["latent_shape"] == [1, 8, 8]
    mean = train.sources(train.class_indices(0)).float().mean(dim=0, keepdim=True)
    expected = torch.nn.functional.interpolate(mean, size=(4, 4), mode="bicubic", antialias=True)
    assert float((made.images[:1].float() - expected).abs().max()) <= 1.01


@pytest.mark.parametrize(
    ("half", "answer", "message"),
    [
        ("encode", lambda x: x[:1].float(), r"encode gave torch\.float32 \[1, 1, 4, 4\] for 2 images of class 0"),
        ("encode", lambda x: x, r"encode gave torch\.uint8"),
        ("encode", lambda x: x.float() * float("nan"), "latents must be finite floats"),
        ("decode", lambda x: x.expand(-1, 3, -1, -1), r"decode gave \[2, 3, 4, 4\] for 2 latents of class 0"),
        ("decode", lambda x: x.flatten(1), r"\[2, 16\]"),
        ("decode", lambda x: x / 0, "in grey levels"),
    ],
)
def test_what_an_autoencoder_may_not_answer_is_told(half, answer, message):
    train, ctx = blobs()
    pixels = Pixels()
    setattr(pixels, half, lambda each, _labels: answer(each))
    with pytest.raises(ValueError, match=message):
        condense_latents(train, 2, ctx, pixels)


# Those of the project


def test_the_linear_autoencoder_is_principal_component_analysis():
    train = digits()
    images = train.images(np.arange(len(train)))
    ours = Linear(train, 20)
    back = ours.decode(ours.encode(images, torch.zeros(0)).float(), torch.zeros(0)).flatten(1).numpy()
    rows = images.flatten(1).double().numpy()
    exact = PCA(20).fit(rows)
    best = ((rows - exact.inverse_transform(exact.transform(rows))) ** 2).mean()
    assert best <= ((rows - back) ** 2).mean() < 1.05 * best


@pytest.mark.parametrize("size", [8, 4])
def test_the_convolutional_autoencoder_gives_images_back_and_touches_no_global_generator(size):
    before = torch.random.get_rng_state()
    train, ctx = digits(size), digits_context(size)
    network = Convolutional(train, ctx, latents=8, width=16, epochs=5)
    images = train.images(np.arange(200))
    latents = network.encode(images, torch.zeros(200)).detach()
    assert latents.shape == (200, 8, size // 4, size // 4)
    back = network.decode(latents.cpu(), torch.zeros(200)).detach()
    assert float((back - images).square().mean() / images.float().var()) < 0.4
    assert 0 < network.last_loss < 0.5
    assert torch.equal(before, torch.random.get_rng_state())


def test_sides_that_four_does_not_divide_are_served():
    train, ctx = world(np.random.default_rng(0).integers(0, 256, (20, 3, 7, 7), np.uint8), np.arange(20) % 2)
    for kind in ("convolutional", "linear"):
        assert d4m.synthesize(train, 2, ctx, autoencoder=kind, epochs=1, width=4).images.shape == (4, 3, 7, 7)


# The whole method


@pytest.mark.parametrize("kind", ["convolutional", "linear"])
def test_the_same_replicate_gives_the_same_bits_and_another_one_other_images(kind):
    options = {"autoencoder": kind, "epochs": 1, "width": 4}
    first, again, other = (d4m.synthesize(digits(), 3, digits_context(replicate=r), **options) for r in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_prototypes_look_like_their_class():
    context = digits_context()
    made = d4m.synthesize(digits(), 2, context, autoencoder="linear")
    assert float((context.predict(made.images).argmax(dim=1) == made.labels).float().mean()) > 0.8


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"autoencoder": "vae"}, "autoencoder"),
        ({"latents": 0}, "latents is 0; it must be at least 1"),
        ({"width": 0}, "width is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"expand": 0}, "expand is 0"),
        ({"passes": 0}, "passes is 0"),
    ],
)
def test_arguments_out_of_range_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        d4m.synthesize(digits(), 1, digits_context(), **argument)


def test_a_class_with_too_few_images_is_named():
    train, ctx = blobs(6)
    with pytest.raises(ValueError, match="class 0 has 6 images, too few for ipc 7"):
        condense_latents(train, 7, ctx, Pixels())


# The page docs/own-autoencoder.md


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's first Python block in a file, and beside it weights that lose nothing."""
    text = (ROOT / "docs/own-autoencoder.md").read_text(encoding="utf-8")
    path = tmp_path_factory.mktemp("own") / "own_d4m.py"
    path.write_text(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0], encoding="utf-8")
    kernels = torch.eye(4).view(4, 1, 2, 2)  # a channel for each of four pixels
    save_file({"down": kernels, "up": kernels.clone()}, path.parent / "autoencoder.safetensors")
    return path


def test_the_method_of_the_page_clusters_in_the_latents_of_its_autoencoder(example):
    registry = discover([example])
    name = name_content(str(example.parent / "autoencoder.safetensors"))
    assert re.fullmatch(r"autoencoder@[0-9a-f]{12}", name)  # what a trial holds of the file
    train, ctx = blobs()
    made = build_condensed(parse(registry, "method", f"own_d4m:weights={name}"), train, 2, ctx)
    plain = condense_latents(train, 2, ctx, Pixels())
    assert float((made.images.double() - plain.images.double()).abs().max()) <= 1
    assert made.provenance["latent_shape"] == [4, 2, 2]


def test_the_method_of_the_page_says_where_weights_are_missing(example):
    registry = discover([example])
    with pytest.raises(UserError, match="nowhere"):
        build_condensed(parse(registry, "method", "own_d4m:weights=nowhere.safetensors"), *blobs()[:1], 1, blobs()[1])
