"""What a shared part must know of the whole label set, of which `fit` sees the first shard alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.api import SoftLabels


def images_of(labels: SoftLabels) -> int:
    """Images of the set that the stored views were drawn for; those at hand where the views do not tell."""
    at_hand = labels.shape[0]
    if not len(labels.views):
        return at_hand
    first = labels.views[0]
    return max(at_hand, *(len(part) for part in (first.box, first.flip, first.partner) if part is not None), 0)
