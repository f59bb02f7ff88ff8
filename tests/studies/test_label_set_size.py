"""Labels that stand for a larger set: their share of its bytes, and what is shared fitted on others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.api import SoftLabels
from bench.errors import UserError
from bench.labels.label_file import blob_allowance
from bench.plugins.registry import Registry, discover
from bench.studies.label_sets.label_sources import LabelSet, PartOfSet
from bench.studies.label_sets.quality import agreement, divergence, file_bytes, qualities
from bench.studies.label_sets.quality_table import labels_report, projection
from bench.trials.budget import Budget, reference_bytes
from tests.worlds.label_arrays import ArrayLabels, asked, drawn
from tests.worlds.plugins import write


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


def test_a_part_of_a_larger_set_gets_its_share_and_pays_its_share(registry: Registry) -> None:
    labels = ArrayLabels(drawn(6, 30, 20))
    alone, part = (qualities(labels, asked(registry, "pq@4x"), set_size=size).qualities[0] for size in (None, 600))
    assert 0 < part.bytes["shared"] / 600 < alone.bytes["shared"] / 6
    assert part.bytes["total"] <= reference_bytes(600, 30, 20) / 4
    assert part.bytes["payload"] > 100 * alone.bytes["payload"]
    with pytest.raises(UserError, match="--set-size 3: the label set has 6 images"):
        qualities(labels, asked(registry, "none"), set_size=3)


def test_images_of_a_larger_set_are_measured_with_what_was_fitted_on_others(registry: Registry) -> None:
    """Beside the same by hand: of nine images in two shards, the five of the first in three turns, the rest with
    what the last turn had. Codebooks as large as 600 images pay know few images by heart, which tells nothing."""
    logits = drawn(9, 30, 20)
    labels = ArrayLabels(logits, limit=5 * 30 * 20 * 2)
    assert list(labels.sizes) == [5, 4]
    spec, budget = asked(registry, "pq@4x")[0]
    pq = spec.plugin.module
    [found] = qualities(labels, [(spec, budget)], set_size=600).qualities
    total = Budget.parse(budget).total_bytes(600, 30, 20)
    decoded, longest = torch.zeros(9, 30, 20), 0
    for turn in range(3):
        others = [image for image in range(5) if image % 3 != turn]
        with labels.context(spec) as ctx:
            known = PartOfSet(logits[others], torch.zeros(len(others), dtype=torch.int64), set_images=600)
            shared = pq.fit(known, total - len(labels.views), ctx)
            room = blob_allowance(total, views=len(labels.views), shared=len(shared), shard_sizes=[5, 4, 591])
            blob = pq.encode(SoftLabels(logits[:5], torch.zeros(5)), room[0], ctx, shared=shared)
        longest = max(longest, len(blob))
        decoded[:5][turn::3] = pq.decode(blob, shared=shared)[turn::3]
    last = pq.encode(SoftLabels(logits[5:], torch.zeros(4)), room[1], ctx, shared=shared)
    decoded[5:] = pq.decode(last, shared=shared)
    assert found.unseen is True
    assert found.kl20 == pytest.approx(float(divergence(logits, decoded, 20).mean()), rel=1e-9)
    assert found.kl1 == pytest.approx(float(divergence(logits, decoded, 1).mean()), rel=1e-9)
    assert found.top1 == pytest.approx(float(agreement(logits, decoded).float().mean()))
    assert found.bytes == file_bytes(labels.views, shared, [longest, len(last)], part=9 / 600)
    learnt = pq.fit(PartOfSet(logits[:5], torch.zeros(5), set_images=600), total, ctx)
    heart = pq.decode(pq.encode(SoftLabels(logits[:5], torch.zeros(5)), room[0], ctx, shared=learnt), shared=learnt)
    assert found.kl20 > 5 * float(divergence(logits[:5], heart, 20).mean())


def test_who_shares_nothing_or_stands_for_itself_is_measured_in_one_turn(registry: Registry) -> None:
    labels = ArrayLabels(drawn(6, 30, 20))
    nothing, itself = (
        qualities(labels, asked(registry, name), set_size=size).qualities[0]
        for name, size in (("svd@4x", 600), ("pq@4x", None))
    )
    assert (nothing.unseen, itself.unseen) == (None, None)
    assert nothing.kl20 == qualities(labels, asked(registry, "svd@4x")).qualities[0].kl20
    alone = ArrayLabels(drawn(1, 30, 20))
    [one] = qualities(alone, asked(registry, "pq@4x"), set_size=600).qualities
    assert one.unseen is False

    def told(labels: LabelSet, set_size: int | None) -> str:
        what = {"compressors": ["pq", "svd"], "budgets": ["4x"], "project": None, "format": "md"}
        return " ".join(labels_report(registry, labels, set_size=set_size, **what)[0].split())

    assert "pq: what all images share was fitted on the one image that is measured" in told(alone, 600)
    assert "pq: what all images share was fitted on some of the images and measured on the others" in told(labels, 600)
    assert "what all images share was fitted" not in told(labels, None)


def test_what_is_invalid_is_counted_once_however_many_turns(registry: Registry) -> None:
    labels = ArrayLabels(drawn(7, 30, 20))
    [found] = qualities(labels, asked(registry, "pq:domain=probabilities@8x"), set_size=600).qualities
    assert 0 < found.invalid_values <= 7 * 30 * 20
    assert 0 <= found.invalid_rows <= 7 * 30


def test_the_size_of_the_set_reaches_what_is_shared(registry: Registry, tmp_path: Path) -> None:
    """A shared part that pays for a large set and not for a small one is fitted for the large one."""
    told = discover([write(tmp_path / "teller.py", TELLER)])
    labels = ArrayLabels(drawn(6, 10, 12), limit=2 * 10 * 12 * 2)
    for size, images in ((None, 6), (500, 500)):
        [found] = qualities(labels, asked(told, "teller"), set_size=size).qualities
        assert found.bytes["shared"] == images
    few, many = (qualities(labels, asked(registry, "pq@8x"), set_size=size).qualities[0] for size in (None, 5000))
    assert few.bytes["shared"] < many.bytes["shared"]


TELLER = '''
"""Its shared part has a byte for each image of the set."""

import torch

from methods._codec.wholeset import images_of

TAKES_BUDGET = False


def fit(labels, budget_bytes, ctx):
    return bytes(images_of(labels))


def encode(labels, budget_bytes, ctx, *, shared=b""):
    return bytes(labels.shape)


def decode(blob, rows=None, *, shared=b""):
    return torch.zeros(blob[0], len(rows), blob[2])
'''


SURVEYOR = TELLER.replace("budget_bytes, ctx):", "budget_bytes, ctx, *, survey):", 1).replace(
    "bytes(images_of(labels))", "bytes(0 if survey is None else sum(len(part.logits) for part in survey([0])))"
)


SILENT = TELLER.replace("budget_bytes, ctx):", "budget_bytes, ctx, *, survey):", 1)


def test_a_part_of_a_set_is_not_surveyed_and_what_was_grows_with_the_set(tmp_path: Path) -> None:
    """What a compressor learnt of every image cannot be shared by images that nobody was asked about."""
    told = discover([write(tmp_path / "teller.py", SURVEYOR)])
    labels = Surveyed(drawn(6, 10, 12), limit=2 * 10 * 12 * 2)
    [whole] = qualities(labels, asked(told, "teller")).qualities
    [part] = qualities(labels, asked(told, "teller"), set_size=500).qualities
    assert (whole.surveyed, whole.bytes["shared"]) == (True, 6)
    assert (part.surveyed, part.bytes["shared"]) == (False, 0)
    [silent] = qualities(labels, asked(discover([write(tmp_path / "silent.py", SILENT)]), "silent")).qualities
    assert not silent.surveyed  # it could have asked
    views = whole.bytes["views"]
    assert projection(whole, 600, 6)["bytes"] == 100 * (whole.bytes["total"] - views) + views
    assert projection(whole, 600, 6)["encode_seconds_16"] >= 100 * whole.fit_seconds


class Surveyed(ArrayLabels):
    """Whose images can be asked for again."""

    @property
    def survey(self) -> Any:
        return lambda views: (replace(part, logits=part.logits[:, views]) for part in self.parts())
