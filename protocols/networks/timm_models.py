"""Any classifier of timm, untrained, as `timm:NAME`; ResNets get a 3x3 stem without max pooling at 64 px or less."""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.errors import UserError
from protocols.networks import unknown_name
from protocols.networks._external import SMALL, small_stem, wrap

NAME = "timm"
NAMED = True  # the spec goes on with the model: timm:resnet18
CITATION = "R. Wightman: PyTorch Image Models. 2019, doi:10.5281/zenodo.4414861."


def build(channels: int, size: int, num_classes: int, model: str) -> nn.Module:
    """`model` of timm for images of `size` px.

    Raises:
        UserError: no such classifier, or one that cannot take images of this size.
    """
    import timm

    if not timm.is_model(model):
        raise UserError(unknown_name("network", f"timm:{model}", [f"timm:{m}" for m in timm.list_models()]))

    def create() -> nn.Module:
        options: dict[str, Any] = {"pretrained": False, "num_classes": num_classes, "in_chans": channels}
        try:
            network = timm.create_model(model, img_size=size, **options)  # transformers fix their positions when built
        except TypeError:
            network = timm.create_model(model, **options)  # convolutional networks have no such argument
        if size <= SMALL and isinstance(network, timm.models.resnet.ResNet):
            small_stem(network, channels)
        return network

    return wrap(f"timm:{model}", create, channels, size, num_classes)
