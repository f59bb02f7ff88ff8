"""Conformance of methods: exactly ipc images per class on awkward data, and the same images under other class names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from bench.api import Condensed
from bench.artifacts.opened import TrainSplit
from bench.checks.plugins.conduct import conduct
from bench.checks.plugins.kit import Call, NotApplicable, Subject, error_text, is_clear, survives_json
from bench.checks.plugins.workshop import Renamed
from bench.checks.plugins.worlds import RELABELLED, SIZES
from bench.fingerprint import canonical
from bench.stages.method_call import build_condensed

IPC = 2
LARGE = min(SIZES)  # all images of the smallest class
# Two runs of a network on other batches differ in the last bits, which rounding to whole levels may show.
ROUNDING = 0.02  # share of pixels that may differ by a level
LABEL_ROUNDING = 1e-2  # of the largest label: systems of equations are solved in another order


class MethodSubject(Subject):
    """A method under check."""

    @contextmanager
    def call(self, replicate: int = 0) -> Iterator[Call]:
        """On the plain world."""
        data = self.shop.data("plain")
        train, source = data.train, data.dataset.train()
        with self.shop.context(data, self.plugin.name, replicate) as ctx:

            def lent() -> Mapping[str, str]:
                teacher = ctx.teacher
                hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in teacher.modules()]
                modes = [m.training for m in teacher.modules()] + [p.requires_grad for p in teacher.parameters()]
                weights = b"".join(v.numpy().tobytes() for v in teacher.state_dict().values())
                return {
                    "the training images": source.digest(),
                    "the training labels": _digest(train.labels.tobytes()),
                    "the read-only flag of the training labels": str(train.labels.flags.writeable),
                    "the teacher's weights or statistics": _digest(weights),
                    "the teacher's mode or hooks": f"{modes} {hooks}",
                }

            def run() -> str:
                return _fingerprint(self.built(train, IPC, ctx))

            yield Call(ctx, {"ctx": ctx, "train": train}, run, lent)

    def condense(self, world: str, ipc: int) -> Condensed:
        """What the method makes of a world, held to the harness's own checks."""
        data = self.shop.data(world)
        with self.shop.context(data, self.plugin.name, 0) as ctx:
            return self.built(data.train, ipc, ctx)

    def renamed(self, names: tuple[int, ...], *, streams: bool) -> tuple[Condensed, Renamed]:
        """What the method makes of the plain world when class c is called names[c]."""
        data, plain = (
            self.shop.data("plain" if names == tuple(sorted(names)) else "relabelled"),
            self.shop.data("plain"),
        )
        with self.shop.context(plain, self.plugin.name, 0) as base:
            ctx = Renamed(base, names, streams=streams)
            return self.built(data.train, IPC, ctx), ctx

    def built(self, train: TrainSplit, ipc: int, ctx: Any) -> Condensed:
        """What the method makes, held to the balance of classes that it says it keeps."""
        return build_condensed(self.spec, train, ipc, ctx, balanced=not self.plugin.unbalanced)


def keeps_the_contract(subject: MethodSubject) -> Iterator[str]:
    """Types, shapes and ranges of what is handed in, grey and in colour; the provenance survives JSON."""
    for world in ("plain", "colour"):
        condensed = subject.condense(world, 1)
        if (wrong := survives_json(dict(condensed.provenance))) is not None:
            yield f"on a {world} data set, its provenance does not survive JSON: {wrong}"


def exact_images_per_class(subject: MethodSubject) -> Iterator[str]:
    """At one image per class, at a few, and at all of the smallest class; with UNBALANCED so many in all."""
    for ipc in (1, IPC, LARGE):
        yield from _counted(subject, "plain", ipc)


def one_class_is_enough(subject: MethodSubject) -> Iterator[str]:
    """A data set of a single class is served."""
    for ipc in (1, 3):
        yield from _counted(subject, "one-class", ipc)


def duplicates_are_served(subject: MethodSubject) -> Iterator[str]:
    """A data set in which every image stands twice."""
    for ipc in (IPC, LARGE):
        yield from _counted(subject, "duplicates", ipc)


def equal_images_are_served(subject: MethodSubject) -> Iterator[str]:
    """A data set whose images, and so all features and logits, are the same."""
    for ipc in (1, LARGE):
        yield from _counted(subject, "equal", ipc)


def too_many_per_class_are_refused(subject: MethodSubject) -> Iterator[str]:
    """More images than a class has: made in full (synthesis), or refused by name; never short, never repeated."""
    ipc = max(SIZES) + 1
    yield from _served_or_refused(subject, "plain", ipc, f"ipc {ipc} of classes of {SIZES} images", ipc)


def a_class_without_images_is_refused(subject: MethodSubject) -> Iterator[str]:
    """Refused by name, or (synthesis) made from the teacher alone."""
    yield from _served_or_refused(subject, "gap", IPC, "a data set whose class 1 has no images", 1)


def other_seeds_give_other_images(subject: MethodSubject) -> Iterator[str]:
    """Replicates of a method that asks for randomness are not copies of each other."""
    watched = conduct(subject)
    if (
        watched.first.result
        and watched.first.asked_for_randomness
        and all(each.result == watched.first.result for each in watched.replicates)
    ):
        yield "it asks the context for a generator, and yet all replicates are the same. Ask for none, or use it."


def class_numbers_do_not_matter(subject: MethodSubject) -> Iterator[str]:
    """The same images are chosen of every class when the classes carry other numbers, for data and teacher alike."""
    wrong = ""
    for streams in (True, False):  # numbers in a generator's name may be classes, or anything else
        same = tuple(range(len(RELABELLED)))
        plain, ctx = subject.renamed(same, streams=streams)
        if ctx.generator_names and not ctx.streams_of_every_class():
            raise NotApplicable("it draws for all classes from one stream, so it is the same in distribution only")
        other, _ = subject.renamed(RELABELLED, streams=streams)
        difference = next((text for c in same if (text := _difference(plain, other, c, RELABELLED[c]))), "")
        if not difference:
            return
        wrong = wrong or difference
    yield wrong


def _difference(plain: Condensed, other: Condensed, old: int, new: int) -> str:
    ours, theirs = (np.flatnonzero(c.labels.numpy() == label) for c, label in ((plain, old), (other, new)))
    if wrong := _difference_of_labels(plain, other, ours, theirs):
        return f"of the class called {old}, called {new} in another numbering, {wrong}"
    if plain.indices is not None and other.indices is not None:
        a, b = np.sort(plain.indices[ours]), np.sort(other.indices[theirs])
        if (a == b).all():
            return ""
        return f"of the class called {old} it picks {a.tolist()}; called {new}, {b.tolist()} of the same images."
    gap = np.abs(np.subtract(plain.images.numpy()[ours], other.images.numpy()[theirs], dtype=np.float64))
    if gap.max() <= 1 and (gap > 0).mean() <= ROUNDING:
        return ""
    amount = f"{100 * (gap > 0).mean():.0f} % of pixels, by {gap.max():g}"
    return f"the images of the class called {old} differ when it is called {new}: {amount}."


def _difference_of_labels(plain: Condensed, other: Condensed, ours: np.ndarray, theirs: np.ndarray) -> str:
    """What differs between the labels that a method hands in and those under other class names, columns renamed."""
    if plain.soft_labels is None or other.soft_labels is None:
        return "" if plain.soft_labels is other.soft_labels else "soft_labels are handed in under one of them only."
    if plain.indices is not None and other.indices is not None:
        ours, theirs = ours[np.argsort(plain.indices[ours])], theirs[np.argsort(other.indices[theirs])]
    before = plain.soft_labels.double().numpy()[ours]
    after = other.soft_labels.double().numpy()[theirs][:, list(RELABELLED)]
    gap = float(np.abs(before - after).max(initial=0.0))
    return f"soft_labels differ by {gap:.3g}." if gap > LABEL_ROUNDING * max(1.0, float(np.abs(before).max())) else ""


def _counted(subject: MethodSubject, world: str, ipc: int) -> Iterator[str]:
    try:
        condensed = subject.condense(world, ipc)
    except Exception as error:
        yield f"ipc {ipc} on the world '{world}' ends with {error_text(error, subject.plugin)}"
        return
    yield from _wrong_counts(subject, condensed, world, ipc)


def _wrong_counts(subject: MethodSubject, condensed: Condensed, world: str, ipc: int) -> Iterator[str]:
    counts = np.bincount(condensed.labels.numpy(), minlength=1 if world == "one-class" else len(SIZES))
    if counts.sum() != ipc * len(counts) or ((counts != ipc).any() and not subject.plugin.unbalanced):
        yield f"ipc {ipc} on the world '{world}' gives {counts.tolist()} images per class."


def _served_or_refused(subject: MethodSubject, world: str, ipc: int, what: str, named: int) -> Iterator[str]:
    try:
        condensed = subject.condense(world, ipc)
    except Exception as error:
        if not is_clear(error, named):
            ended = error_text(error, subject.plugin)
            yield f"{what}: it ends with {ended}. Raise ValueError or UserError that names the class and the ipc."
        return
    yield from _wrong_counts(subject, condensed, world, ipc)
    images = condensed.images.flatten(1).numpy()
    if len(np.unique(images, axis=0)) < len(images):
        yield f"{what}: it hands in the same image more than once, in silence."


def _fingerprint(condensed: Condensed) -> str:
    parts: list[Any] = [condensed.images.numpy(), condensed.labels.numpy()]
    if condensed.indices is not None:
        parts.append(np.asarray(condensed.indices, dtype=np.int64))
    if condensed.soft_labels is not None:
        parts.append(condensed.soft_labels.numpy())
    return _digest(*(part.tobytes() for part in parts), canonical(dict(condensed.provenance)).encode())


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()
