"""What a shared part must know of the whole label set, of which `fit` sees the first shard alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.api import SoftLabels


def images_of(labels: SoftLabels) -> int:
    """Images of the whole set: as many as the labels say that they are a part of
    (bench.studies.label_sets.label_sources.PartOfSet), else as the stored views were drawn for; those at hand where
    neither tells."""
    at_hand = labels.shape[0]
    if told := getattr(labels, "set_images", 0):
        return max(at_hand, told)
    if not len(labels.views):
        return at_hand
    first = labels.views[0]
    return max(at_hand, *(len(part) for part in (first.box, first.flip, first.partner) if part is not None), 0)
