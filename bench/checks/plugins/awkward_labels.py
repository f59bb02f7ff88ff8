"""Conformance of compressors: awkward labels come back, broken labels are refused, and so are broken bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bench.checks.plugins import sample_labels
from bench.checks.plugins.codec import damaged, tried
from bench.checks.plugins.compressors import PLENTY, CompressorSubject, misfits
from bench.checks.plugins.kit import error_text, is_clear

LARGEST_GAP = 0.01  # error that degenerate labels may show, as a share of their largest magnitude


def degenerate_labels_come_back(subject: CompressorSubject) -> Iterator[str]:
    """Constant, one-hot, zero, a single view, class or image, the ends of float16: all are ordinary labels."""
    for name, logits in sample_labels.degenerate().items():
        with subject.codec() as codec:
            try:
                encoded = codec.encode(sample_labels.labels(logits), PLENTY)
                wrong = list(misfits(codec, encoded, logits.shape))
                gap = 0.0 if wrong else codec.largest_gap(encoded, logits)
            except Exception as error:
                yield f"{name}: it ends with {error_text(error, subject.plugin)}"
                continue
        yield from (f"{name}: {text}" for text in wrong)
        if gap > LARGEST_GAP:
            yield f"{name}: what comes back is off by {100 * gap:.2g} % of the largest value; 1 % is allowed."


def labels_that_are_not_finite_are_refused(subject: CompressorSubject) -> Iterator[str]:
    """NaN and infinities, by an error that names image, view and class."""
    place = (7, 13, 22)
    for value in (np.nan, np.inf, -np.inf):
        logits = sample_labels.ordinary().copy()
        logits[place] = value
        with subject.codec() as codec:
            ended = tried(codec.encode, sample_labels.labels(logits), PLENTY)
        if not isinstance(ended, Exception):
            yield f"{value} among the labels is encoded in silence."
        elif not all(is_clear(ended, number) for number in place):
            yield f"{value} at image 7, view 13, class 22 ends with {error_text(ended)}. Name the place."


def damaged_blobs_are_errors(subject: CompressorSubject) -> Iterator[str]:
    """Flipped bits and a cut end: an error, or the right labels, but never wrong ones."""
    given = sample_labels.ordinary()
    with subject.codec() as codec:
        encoded = codec.encode_near(sample_labels.labels(given), given.nbytes // 2)
        right = codec.decode(encoded)
        silent: list[str] = []
        for what, broken in damaged(encoded):
            decoded = tried(codec.decode, broken)
            if isinstance(decoded, MemoryError):
                yield f"{what}: decode asks for more memory than there is. Check the header before trusting it."
            elif not isinstance(decoded, Exception) and not torch.equal(decoded, right):
                silent.append(what)
    if silent:
        yield f"decoded to wrong labels without an error: {silent[0]} (and {len(silent) - 1} more). Add a checksum."
