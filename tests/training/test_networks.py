"""Networks by name: shapes, features, the small-image stem, seeds, and errors a user can act on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.errors import UserError
from protocols import networks


def build(name: str, channels: int = 3, size: int = 32, num_classes: int = 10, seed: int = 0, **params) -> nn.Module:
    return networks.build(name, channels=channels, size=size, num_classes=num_classes, seed=seed, **params)


def random_images(n: int, channels: int, size: int) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["convnet", "dc_convnet", "resnet", "vgg"])
@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_own_networks_take_every_embedded_size(name: str, size: int, channels: int) -> None:
    network = build(name, channels, size, num_classes=7, width=8)
    images = random_images(3, channels, size)
    logits, features = network(images), network.features(images)
    assert logits.shape == (3, 7)
    assert features.shape == (3, network.classifier.in_features)
    logits.sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "convnet",
        "dc_convnet",
        "resnet",
        "vgg",
        "timm:resnet18",
        "timm:vit_tiny_patch16_224",
        "torchvision:squeezenet1_1",
    ],
)
def test_the_last_layer_on_the_features_gives_the_logits(name: str) -> None:
    network = build(name).eval()
    images = random_images(2, 3, 32)
    with torch.no_grad():
        logits, features = network(images), network.features(images)
    assert features.ndim == 2
    assert logits.shape == (2, 10)
    last = [m for m in network.modules() if isinstance(m, nn.Linear)]
    if last:
        torch.testing.assert_close(last[-1](features), logits)


def test_the_convnet_is_the_one_of_the_literature() -> None:
    network = build("convnet", depth=3, width=128, norm="instance")
    layers = [type(layer).__name__ for layer in network.blocks]
    assert layers == ["Conv2d", "GroupNorm", "ReLU", "AvgPool2d"] * 3
    norm = network.blocks[1]
    assert norm.num_groups == norm.num_channels == 128
    assert norm.affine
    assert network.classifier.in_features == 128 * 4 * 4


def test_images_of_28_pixels_are_pooled_to_14_7_3() -> None:
    assert build("convnet", 1, 28, width=8).classifier.in_features == 8 * 3 * 3


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_every_norm_trains_at_the_greatest_depth(norm: str) -> None:
    assert build("convnet", 1, 8, depth=3, width=4, norm=norm)(random_images(2, 1, 8)).shape == (2, 10)


@pytest.mark.parametrize("name", ["convnet", "dc_convnet", "resnet", "vgg", "torchvision:resnet18"])
def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_state_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = build(name, seed=5), build(name, seed=5), build(name, seed=6)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    moved = build(name, seed=5)
    torch.set_rng_state(before)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
        assert torch.equal(value, moved.state_dict()[key])
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in first.state_dict().items())


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_resnet_gets_the_small_stem_up_to_64_pixels_only(library: str) -> None:
    for size in (32, 64):
        model = build(f"{library}:resnet18", 1, size).model
        assert (model.conv1.kernel_size, model.conv1.stride, model.conv1.bias) == ((3, 3), (1, 1), None)
        assert model.conv1.in_channels == 1
        assert isinstance(model.maxpool, nn.Identity)
    model = build(f"{library}:resnet18", 3, 96).model
    assert (model.conv1.kernel_size, model.conv1.stride) == ((7, 7), (2, 2))
    assert isinstance(model.maxpool, nn.MaxPool2d)


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v2", "timm:mobilenetv3_small_050"])
def test_other_classifiers_keep_their_stem_and_take_one_channel(name: str) -> None:
    network = build(name, 1, 32).eval()
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    assert (first.in_channels, first.stride) == (1, (2, 2))
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 10)


def test_the_teacher_fits_a_megabyte_in_half_precision() -> None:
    parameters = sum(p.numel() for p in build("resnet", num_classes=100).parameters())
    assert 2 * parameters < 1_000_000
    assert any(isinstance(m, nn.BatchNorm2d) for m in build("resnet").modules())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("convnett", {}, "did you mean convnet"),
        ("foo", {}, "cifar_shufflenet_v2_x0_5, convnet, dc_convnet, resnet, vgg, timm:NAME, torchvision:NAME"),
        ("timm:resnet81", {}, "did you mean timm:resnet18"),
        ("torchvision:resnet19", {}, "did you mean torchvision:resnet1"),
        ("convnet", {"depth": 4, "size": 8}, "allowed: 1 to 3"),
        ("convnet", {"depth": 0}, "allowed: 1 to 5"),
        ("convnet", {"norm": "layer"}, "allowed: batch, instance, none"),
        ("convnet", {"wdith": 8}, "allowed: depth, width, norm"),
        ("dc_convnet", {"depth": 6}, "allowed: 1 to 5"),
        ("dc_convnet", {"depth": 5, "channels": 1, "size": 8}, "does not fit maps of 12 px"),
        ("dc_convnet", {"width": 0}, "allowed: 1 or more"),
        ("resnet", {"blocks": 0}, "allowed: 1 or more"),
        ("resnet", {"pool": 3, "size": 8}, "allowed: 1 to 2"),
        ("torchvision:inception_v3", {}, "cannot take 3x32x32 images"),
    ],
)
def test_a_mistake_is_answered_with_what_is_allowed(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, **arguments)


def test_names_lists_what_can_be_built() -> None:
    stems = ["cifar_alexnet", "cifar_efficientnet_b0", "cifar_mobilenet_v2", "cifar_shufflenet_v2_x0_5"]
    assert networks.names() == [*stems, "convnet", "dc_convnet", "resnet", "vgg", "timm:NAME", "torchvision:NAME"]


STEMS = {"cifar_mobilenet_v2": 16, "cifar_efficientnet_b0": 16, "cifar_shufflenet_v2_x0_5": 8}


@pytest.mark.parametrize(("name", "stride"), STEMS.items())
def test_the_stem_for_32_pixels_is_the_published_one(name: str, stride: int) -> None:
    """The last map shows the total stride; everything behind the stem is torchvision's."""
    network = build(name, 3, 32, num_classes=7).eval()
    usual = build(f"torchvision:{name.removeprefix('cifar_')}", 3, 32, num_classes=7).eval()
    maps = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    seen: list[torch.Size] = []
    maps[-1].register_forward_hook(lambda _layer, _inputs, output: seen.append(output.shape))
    last = maps[-1] if name != "cifar_efficientnet_b0" else network.model.features[-1]
    last.register_forward_hook(lambda _layer, _inputs, output: seen.append(output.shape))
    assert network(random_images(2, 3, 32)).shape == (2, 7)
    assert seen[-1][-1] == 32 // stride
    assert (maps[0].kernel_size, maps[0].stride, maps[0].bias) == ((3, 3), (1, 1), None)
    own = {key: value.shape for key, value in network.state_dict().items() if "conv1.0" not in key}
    theirs = usual.state_dict()
    behind = {key: shape for key, shape in own.items() if key in theirs and key != "model.conv1.weight"}
    assert all(theirs[key].shape == shape for key, shape in behind.items())
    assert len(behind) >= len(theirs) - 7
    assert build(name, 1, 32).eval()(random_images(2, 1, 32)).shape == (2, 10)


def test_the_alexnet_for_32_pixels_is_that_of_the_condensation_literature() -> None:
    network = build("cifar_alexnet", 3, 32)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [128, 192, 256, 192, 192]
    assert [layer.kernel_size[0] for layer in convolutions] == [5, 5, 3, 3, 3]
    assert network.classifier.in_features == 192 * 4 * 4
    assert build("cifar_alexnet", 1, 28).classifier.in_features == 192 * 4 * 4  # as MNIST, padded to 32
    for size in (8, 28, 32):
        assert build("cifar_alexnet", 1, size)(random_images(2, 1, size)).shape == (2, 10)
    with pytest.raises(UserError, match="too small"):
        build("cifar_alexnet", 1, 7)
