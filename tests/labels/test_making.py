"""Soft labels: what the teacher says of each view, shard by shard."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.labels import label_file
from bench.labels.making import label_views
from bench.views.parameters import Views
from bench.views.render import render
from tests.worlds.fakes import trained_teacher
from tests.worlds.stored_labels import CLASSES, MEAN, STD, VIEWS, recipe, say, views_of


@pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
def test_logits_are_those_of_each_image_in_each_view(images: torch.Tensor, mix: str) -> None:
    views = views_of(len(images), mix=mix)
    chosen = np.array([0, 3, 251, 269])
    found = say(images, views, chosen)
    assert found.shape == (4, VIEWS, CLASSES)
    assert found.dtype == torch.float16
    for row, index in enumerate(chosen):
        for column, view in enumerate(views):
            shown = render(images, view, np.array([index]), mean=MEAN, std=STD)
            with torch.no_grad():
                alone = trained_teacher()(shown)[0]
            torch.testing.assert_close(found[row, column].float(), alone, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("limit", [1, 40, 270])
def test_shards_together_are_the_whole(
    images: torch.Tensor, logits: torch.Tensor, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = min(len(images), 20 * limit)
    per_image = VIEWS * CLASSES * 2
    sizes = label_file.shard_sizes
    monkeypatch.setattr(label_file, "shard_sizes", lambda n, k, c: sizes(n, k, c, limit * per_image))
    parts = list(label_file.shards(some, VIEWS, CLASSES))
    assert np.array_equal(np.concatenate(parts), np.arange(some))
    assert max(map(len, parts)) <= limit
    joined = torch.cat([say(images, views_of(len(images)), part) for part in parts])
    # A batch of another length may take another kernel: the last bit of a float16 at most. (Which shards there are
    # depends on the cell alone, so the labels of a cell are the same bits in every run.)
    torch.testing.assert_close(joined, logits[:some], rtol=2**-10, atol=2**-10)
    again = torch.cat([say(images, views_of(len(images)), part) for part in parts])
    assert torch.equal(joined, again)


def test_views_depend_on_protocol_data_set_and_size_and_not_on_the_method() -> None:
    def drawn(images: int = 20, **changed: str) -> bytes:
        named = {"protocol": "p", "dataset": "digits", **changed}
        return label_views(recipe(), images, size=8, mirror=True, **named).to_bytes()

    assert drawn() == drawn()
    assert len({drawn(), drawn(protocol="q"), drawn(dataset="mnist5k"), drawn(images=21)}) == 4


def test_views_read_back_from_their_bytes_give_the_same_labels(images: torch.Tensor, logits: torch.Tensor) -> None:
    views = views_of(len(images))
    again = Views.from_bytes(views.to_bytes())
    assert torch.equal(say(images, again, np.arange(30)), say(images, views, np.arange(30)))
