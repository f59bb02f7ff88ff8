"""Any classifier of torchvision, untrained, as `torchvision:NAME`; ResNets get a 3x3 stem at 64 px or less.

All others keep their stem, and most of them a total stride of 32: at 32 px their last map has one pixel. Those of the
papers with a stem for 32 px are cifar_alexnet, cifar_mobilenet_v2, cifar_shufflenet_v2_x0_5 and cifar_efficientnet_b0.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from bench.errors import UserError
from protocols.networks import unknown_name
from protocols.networks._external import SMALL, small_stem, wrap

NAME = "torchvision"
NAMED = True  # the spec goes on with the model: torchvision:resnet18
CITATION = "TorchVision maintainers and contributors: TorchVision: PyTorch's Computer Vision library. 2016."


def build(channels: int, size: int, num_classes: int, model: str) -> nn.Module:
    """`model` of torchvision for images of `size` px.

    Raises:
        UserError: no such classifier, or one that cannot take images of this size.
    """
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if model not in known:
        raise UserError(unknown_name("network", f"torchvision:{model}", [f"torchvision:{m}" for m in known]))

    def create() -> nn.Module:
        options: dict[str, Any] = {"weights": None, "num_classes": num_classes}
        if model.startswith("vit_"):
            options["image_size"] = size
        if model in ("googlenet", "inception_v3"):
            options |= {"aux_logits": False, "init_weights": True}  # one output; the published initialisation
        network = torchvision.models.get_model_builder(model)(**options)
        if size <= SMALL and isinstance(network, torchvision.models.ResNet):
            small_stem(network, channels)
        elif channels != 3:
            _first_convolution(network, channels)
        return network

    return wrap(f"torchvision:{model}", create, channels, size, num_classes)


def _first_convolution(network: nn.Module, channels: int) -> None:
    """Replaces the first convolution by one that takes `channels` instead of RGB: the library has no option for it."""
    name, layer = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    kept = {k: getattr(layer, k) for k in inspect.signature(nn.Conv2d).parameters if hasattr(layer, k)}
    network.set_submodule(name, nn.Conv2d(**(kept | {"in_channels": channels, "bias": layer.bias is not None})))
