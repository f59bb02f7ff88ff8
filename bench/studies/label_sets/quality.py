"""How well compressors keep a label set, without training a student: divergence, agreement, true bytes, times.

A set passes by once, shard by shard (bench.studies.label_sets.label_sources); every compressor encodes, decodes and is
measured on a shard before the next one is made. Bytes are counted as in a trial: one label file, its budget shared
among the shards.

Where the images stand for a larger set, what a compressor makes of the set's labels as a whole (a basis, codebooks) is
as large as the larger set can pay, and would learn these few by heart. It is fitted on some of them then and measured
on the others, in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from bench import varint
from bench.api import SoftLabels, Survey
from bench.driver.outcome import ignore
from bench.errors import InfeasibleError, PluginError, UserError
from bench.labels.adapter import encode, fit, invalid, takes_shared
from bench.labels.label_file import MAGIC, blob_allowance, smallest_total
from bench.plugins.spec import Spec
from bench.studies.label_sets.label_sources import LabelSet, PartOfSet
from bench.studies.label_sets.spectrum import Spectrum
from bench.studies.storage.teacher_line import OUTSIDE
from bench.trials.budget import Budget, reference_bytes

COLD, WARM = 1.0, 20.0  # temperatures: the teacher's own, and that of the literature's protocols
_EXACT_EXP = 500.0  # exponents up to here stay finite in float64
_FOLDS = 3  # parts of the first shard, each measured with what was fitted on the others
_BLOCK_VALUES = 1 << 22  # logits compared at once: 32 MiB in float64


def divergence(reference: torch.Tensor, decoded: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 KL(softmax(z / T) || softmax(z' / T)), float64 [...], of logits z and z' [..., C]; never negative.

    With d = (z' - z) / T and p = softmax(z / T) it is log sum p exp(d - m) where m = sum p d; written as
    log1p(sum p expm1(d - m)) the small divergences of a good code are not lost to cancellation.
    """
    scaled = reference.to(torch.float64) / temperature
    p = torch.softmax(scaled, dim=-1)
    d = decoded.to(torch.float64) / temperature - scaled
    d -= (p * d).sum(dim=-1, keepdim=True)
    far = d.amax(dim=-1) > _EXACT_EXP
    divergences = torch.log1p((p * torch.expm1(d)).sum(dim=-1))
    if far.any():
        divergences[far] = torch.logsumexp(torch.log_softmax(scaled[far], dim=-1) + d[far], dim=-1)
    return temperature**2 * divergences.clamp_(min=0)


def agreement(reference: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """bool [...]: the largest decoded logit of [..., C] stands where the reference has its largest, or one equal to
    it (float16 has ties)."""
    chosen = decoded.argmax(dim=-1, keepdim=True)
    return (reference.gather(-1, chosen) == reference.amax(dim=-1, keepdim=True)).squeeze(-1)


@dataclass
class Quality:
    """One compressor at one budget on one label set. Divergences and agreement are means over the labels that are
    stored, times over images."""

    compressor: str
    budget: str | None  # None: its size does not depend on one
    status: Literal["ok", "infeasible", "failed", "outside"] = "ok"  # outside: the reference of bench.teacher_line
    smallest_bytes: int | None = None  # of the whole file, where infeasible
    message: str = ""
    bytes: dict[str, int] = field(default_factory=dict)  # total, payload, shared, views, container
    ratio: float | None = None  # the reference (bench.trials.budget) over `bytes["total"]`
    stored_views: float | None = None  # an image, of K, on average
    # Of approximated probabilities: values that were none and were raised, rows whose sum was not one. None: the
    # compressor has nothing to count.
    invalid_values: int | None = None
    invalid_rows: int | None = None
    kl1: float | None = None
    kl20: float | None = None  # 400 KL at T = 20
    top1: float | None = None
    fit_seconds: float = 0.0  # once a set, core time; a survey's labels included
    surveyed: bool = False  # what is shared was fitted on all images and may grow with them
    # Of a part of a set: whether the images that were measured are others than those that what is shared was fitted on.
    # None: nothing is shared, or the images are the set.
    unseen: bool | None = None
    encode_ms: float | None = None  # an image, core time
    decode_ms: float | None = None  # an image, all its views, core time


@dataclass(frozen=True)
class Report:
    """What was measured on a label set."""

    qualities: list[Quality]
    spectrum: Spectrum


def qualities(
    labels: LabelSet,
    compressors: Sequence[tuple[Spec, str | None]],
    *,
    set_size: int | None = None,
    on_step: Callable[[], Any] = ignore,
) -> Report:
    """Encode, decode and compare.

    Args:
        labels: read once.
        compressors: with a budget each (bench.trials.budget); None where the size does not depend on one.
        set_size: count bytes as for a set of so many images, of which these are a part; they get their share of its
            budget. None: these images are the set.
        on_step: called after each compressor and shard.

    Raises:
        UserError: the set is larger than `set_size`, or a logit is not finite.
    """
    n = labels.shape[0]
    if set_size is not None and set_size < n:
        raise UserError(f"--set-size {set_size}: the label set has {n} images, and it is to be a part of the other.")
    running = [_Running(labels, spec, budget, set_size or n) for spec, budget in compressors]
    spectrum = Spectrum()
    for shard, part in enumerate(labels.parts()):
        _check_finite(part, sum(labels.sizes[:shard]))
        with threadpool_limits(limits=1):
            spectrum.add(part.logits)
            for each in running:
                each.take(part, shard)
                on_step()
    return Report([each.result() for each in running], spectrum)


class _Running:
    """One compressor at one budget, on the way through the shards."""

    def __init__(self, labels: LabelSet, spec: Spec, budget: str | None, images: int) -> None:
        self._labels, self._spec, self._images = labels, spec, images
        self._module = spec.plugin.module
        n, k, c = labels.shape
        self._reference = reference_bytes(images, k, c)
        self._total = self._reference if budget is None else Budget.parse(budget).total_bytes(images, k, c)
        # Images of the set that are not here stand in one more shard: lengths in the header are all that it adds.
        self._sizes = [*labels.sizes, *([images - n] if images > n else [])]
        self._quality = Quality(str(spec), budget)
        self._shared, self._blobs = b"", list[int]()
        self._sums = torch.zeros(3, k, dtype=torch.float64)  # KL at T = 1, at T = 20, agreement: by view, over images
        self._counts = torch.zeros(k, dtype=torch.int64)  # labels behind them
        self._stored = np.zeros(k, bool)  # views that are read
        self._seconds = {"encode": 0.0, "decode": 0.0}

    def take(self, part: SoftLabels, shard: int) -> None:
        """Encode, decode and compare one shard. Once one was infeasible, the others only tell what they would need."""
        if self._quality.status == "failed":
            return
        try:
            turns = self._turns(part, shard)
            image = np.arange(len(part.logits))
            blobs = [self._turn(part, shard, image % turns == turn, turns) for turn in range(turns)]
            if self._quality.status == "ok":
                self._blobs.append(max(len(blob) for blob in blobs))
                self._count(blobs[-1])
        except InfeasibleError as error:
            views, shared = len(self._labels.views), len(self._shared)
            needed = smallest_total(error.smallest_bytes, shard, views=views, shared=shared, shard_sizes=self._sizes)
            self._quality.status, self._quality.message = "infeasible", error.why
            self._quality.smallest_bytes = max(needed, self._quality.smallest_bytes or 0)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of this compressor, sys.exit too: the others are still measured
            self._quality.status, self._quality.message = "failed", f"{type(error).__name__}: {error}"

    def _turns(self, part: SoftLabels, shard: int) -> int:
        """How many parts of a shard are measured one by one."""
        if shard or self._images == self._labels.shape[0] or not takes_shared(self._module):
            return 1
        turns = min(_FOLDS, len(part.logits))
        self._quality.unseen = turns > 1
        return turns

    def _turn(self, part: SoftLabels, shard: int, measured: np.ndarray, turns: int) -> bytes:
        """The blob of a shard, of which some images, bool [n], are measured; of several turns, with what was fitted on
        the others."""
        if shard == 0 and takes_shared(self._module):
            self._fit(part, ~measured if turns > 1 else measured, turns)
        views = len(self._labels.views)
        with self._labels.context(self._spec) as ctx:
            allowance = blob_allowance(self._total, views=views, shared=len(self._shared), shard_sizes=self._sizes)
            started = time.process_time()
            blob = encode(self._module, part, allowance[shard], ctx, self._shared, **self._spec.parameters)
            self._seconds["encode"] += (time.process_time() - started) / turns
        if self._quality.status == "ok":
            self._decode(part, blob, measured, turns)
        return blob

    def _fit(self, part: SoftLabels, chosen: np.ndarray, turns: int) -> None:
        """Fit what is shared on some images, bool [n]."""
        known = PartOfSet(part.logits, part.hard, part.views, part.images, set_images=self._images)
        if not chosen.all():
            at = np.flatnonzero(chosen)
            rows = torch.from_numpy(at)
            images = at if part.images is None else part.images[at]
            known = replace(known, logits=part.logits[rows], hard=part.hard[rows], images=images)
        with self._labels.context(self._spec) as ctx:
            started = time.process_time()
            room = self._total - len(self._labels.views)
            self._shared = fit(self._module, known, room, ctx, self._survey(), **self._spec.parameters)
            self._quality.fit_seconds += (time.process_time() - started) / turns

    def _survey(self) -> Survey | None:
        """That of the set; of a part of a set nobody can be asked for the other images."""
        survey = self._labels.survey
        if survey is None or self._images != self._labels.shape[0]:
            return None

        def noted(views: Sequence[int]) -> Iterator[SoftLabels]:
            self._quality.surveyed = True
            return survey(views)

        return noted

    def _decode(self, part: SoftLabels, blob: bytes, measured: np.ndarray, turns: int) -> None:
        """Read a shard's blob and compare some of its images, bool [n]."""
        rows = np.arange(part.shape[1])
        pool = self._module.batches(blob) if hasattr(self._module, "batches") else None
        if pool is not None:
            rows = np.unique(pool[:, 0])
        elif hasattr(self._module, "rows"):
            rows = np.asarray(self._module.rows(blob), dtype=np.int64)
        extra = {"shared": self._shared} if takes_shared(self._module) else {}
        started = time.process_time()
        decoded = self._module.decode(blob, rows=rows, **extra)
        self._seconds["decode"] += (time.process_time() - started) / turns
        first = not self._counts.any()
        self._compare(part.logits, decoded, rows, np.flatnonzero(measured), partly=pool is not None)
        stored = np.zeros(len(self._stored), bool)
        stored[rows] = True
        # A view is read only where all images have it; a batch is read by itself.
        self._stored = stored if first else self._stored | stored if pool is not None else self._stored & stored

    def _count(self, blob: bytes) -> None:
        if (counted := invalid(self._module, blob)) is not None:
            self._quality.invalid_values = (self._quality.invalid_values or 0) + counted[0]
            self._quality.invalid_rows = (self._quality.invalid_rows or 0) + counted[1]

    def _compare(
        self, logits: torch.Tensor, decoded: torch.Tensor, rows: np.ndarray, images: np.ndarray, *, partly: bool
    ) -> None:
        """Add these images of a shard to the sums. `partly`: rows of which nothing is stored are NaN."""
        n, _, c = logits.shape
        shaped = tuple(decoded.shape) == (n, len(rows), c)
        there = ~decoded.isnan().all(dim=-1) if partly and shaped else torch.ones(n, len(rows), dtype=torch.bool)
        if not shaped or not bool(decoded[there].isfinite().all()):
            what = "a value that is not finite" if shaped else str(list(decoded.shape))
            raise PluginError(
                f"decode(blob, rows) must return finite [images, rows, classes] = {[n, len(rows), c]}, not {what}"
            )
        step = max(1, _BLOCK_VALUES // max(1, len(rows) * c))
        at = torch.from_numpy(rows)
        for start in range(0, len(images), step):
            some = torch.from_numpy(images[start : start + step])
            stored = there[some]
            reference = logits[some][:, at]
            ours = torch.where(stored[..., None], decoded[some], reference.to(decoded.dtype))
            measures = (
                divergence(reference, ours, COLD),
                divergence(reference, ours, WARM),
                agreement(reference, ours),
            )
            for total, values in zip(self._sums, measures, strict=True):
                total[at] += (values.to(torch.float64) * stored).sum(dim=0)
            self._counts[at] += stored.sum(dim=0)

    def result(self) -> Quality:
        """What it came to."""
        quality = self._quality
        if quality.status == "ok" and not self._stored.any():
            quality.status, quality.message = "failed", "the shards have no stored view in common"
        if quality.status == "ok":
            n = self._labels.shape[0]
            stored = torch.from_numpy(self._stored)
            count = int(self._counts[stored].sum())
            quality.kl1, quality.kl20, quality.top1 = (self._sums[:, stored].sum(dim=1) / count).tolist()
            quality.stored_views = count / n
            quality.bytes = file_bytes(self._labels.views, self._shared, self._blobs, part=n / self._images)
            quality.ratio = self._reference / quality.bytes["total"]
            quality.encode_ms, quality.decode_ms = (1e3 * self._seconds[name] / n for name in ("encode", "decode"))
        return quality


def teacher_quality(labels: LabelSet, images: int) -> Quality | None:
    """The reference outside the rules (bench.studies.storage.teacher_line): the bytes of the teachers in float16 and
    of the views' parameters. Its divergence was not measured: there is none but for the rounding of the weights, which
    for teachers that are kept in float16 is nothing. None where the teachers are not known.

    `images`: of the whole set, of which `labels` may be a part.
    """
    size = labels.teacher_bytes()
    if size is None:
        return None
    _, k, c = labels.shape
    quality = Quality("teacher in float16", None, "outside", message=OUTSIDE, stored_views=k)
    quality.bytes = file_bytes(labels.views, bytes(size), [])
    quality.ratio = reference_bytes(images, k, c) / quality.bytes["total"]
    return quality


def file_bytes(views: bytes, shared: bytes, blobs: Iterable[int], *, part: float = 1.0) -> dict[str, int]:
    """Bytes of a label file (bench.labels.label_file.LabelFile) whose blobs have these lengths: total, payload (the
    blobs), shared, views, container (magic and lengths).

    `part`: the blobs are this share of all; the rest is as large for its size, in one more blob.
    """
    lengths = list(blobs)
    payload = sum(lengths)
    if part < 1:
        lengths.append(round(payload / part) - payload)
        payload += lengths[-1]
    numbers = (len(lengths) + 2, len(views), len(shared), *lengths)
    container = len(MAGIC) + sum(len(varint.encode(number)) for number in numbers)
    return {
        "total": container + len(views) + len(shared) + payload,
        "payload": payload,
        "shared": len(shared),
        "views": len(views),
        "container": container,
    }


def _check_finite(part: SoftLabels, first: int) -> None:
    bad = ~part.logits.isfinite()
    if bool(bad.any()):
        image, row, column = (int(i) for i in bad.nonzero()[0])
        value = float(part.logits[image, row, column])
        raise UserError(
            f"The label set has {value} at image {first + image}, view {row}, class {column}; logits must be finite "
            f"(and within +-65504 where they are kept in float16)."
        )
