"""A condensed set as its authors publish it: folders by class, tar, zip, parquet, .pt, npz, safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bench.api import Condensed, Context, Train
from bench.errors import UserError
from bench.strangers import located
from methods import _stored_labels
from methods._class_order import Order, class_order
from methods._published.class_folders import open_class_folders
from methods._published.parquet import open_parquet
from methods._published.published_set import PublishedSet
from methods._published.tensor_files import constants, open_tensors

CITATION = "None of its own: the source of the images is to be cited."
CHECK_EXCEPTIONS = {
    "keeps-the-contract": "without a path there is no set; test_folder.py checks this rule on sets",
    "exact-images-per-class": "without a path there is no set; test_folder.py checks this rule on sets",
    "one-class-is-enough": "without a path there is no set; test_folder.py checks this rule on sets",
    "mistyped-words-are-refused": "without a path there is no set; test_folder.py checks this rule on sets",
    "duplicates-are-served": "the training images are not looked at",
    "equal-images-are-served": "the training images are not looked at",
    "too-many-per-class-are-refused": "the size of the training classes does not matter",
    "a-class-without-images-is-refused": "the training images are not looked at",
    "gives-the-same-twice": "without a path there is no set; test_folder.py checks this rule on sets",
    "class-numbers-do-not-matter": "a set belongs to one numbering of the classes; another one is an error",
}

LAYOUTS = ("auto", "tree", "archive", "parquet", "pt", "npz", "safetensors")
ORDERS = ("check", "trust")
SOFT = ("logits", "probabilities", "values")
PLACES = {"path": "digest", "classes": "", "labels": ""}  # a trial holds the name and the content's digest of each
_SMALLEST = 1e-30  # a probability below it counts as this one, whose logarithm is finite
_SUFFIXES = {".parquet": "parquet", ".pt": "pt", ".pth": "pt", ".npz": "npz", ".safetensors": "safetensors"}


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    path: str = "",
    digest: str = "",
    layout: str = "auto",
    classes: str = "",
    labels: str = "",
    order: str = "check",
    undo: str = "",
    experiment: int = 0,
    soft: str = "logits",
) -> Condensed:
    """Read the set. It must have exactly `ipc` images of every class.

    What a trial is called by is the set's name and the digest of its content, `folder:path=rded@3f2a9c81d0e4`: the
    harness makes that of the path. So a result never stands for a folder that has changed since.

    Students are trained on labels of the protocol, as for every other method: class labels, the logits of the
    protocol's teacher, or labels that methods hand in. Learnt labels of a file of tensors (MTT, TESLA, DATM) are handed
    in. Stored labels that come with a set are not used. They are opened to see that they
    belong to as many classes, and the provenance tells their number, size and type.

    Args:
        train: gives the number of classes and the shape; its images are not looked at.
        ipc: images per class.
        ctx: gives the teacher's predictions.
        path: of the set, or its name and digest; relative to the current folder. A spec cannot spell a comma.
        digest: what the content must have, the first 12 to 64 hexadecimal digits; "": whatever it has.
        layout: "tree" (a folder with a folder for each class), "archive" (the same as tar, tar.gz or zip), "parquet"
            (Hugging Face: one file, or a folder of them), "pt" (DC, DSA, DM, MTT, IDC), "npz" and "safetensors"
            (`images` [M, c, h, w] and `labels` [M]), or "auto": by what the path is.
        classes: a file with a class's name a line, the first is class 0; "": names in sorted order.
        labels: a folder of stored labels (SRe2L, LPLD: one file a batch); "": none.
        order: "check": an order of the classes that the teacher clearly contradicts is an error; "trust": it is
            reported only.
        undo: of float images: what undoes their normalisation, by the data set's name (mnist, fashion-mnist, svhn,
            cifar10, imagenet), unit (pixels in 0..1), levels (0..255), or means and standard deviations of the channels
            (0.49+0.48+0.45/0.20+0.20+0.20). They stay floats: neither rounded nor clipped.
        experiment: which set of a file that holds several (DC, DSA, DM), from 0.
        soft: what learnt labels are: "logits" (rows that are probabilities are an error then), "probabilities" (handed
            in as their logarithms), or "values" (handed in as they are, for protocols of squared error).

    Returns:
        Condensed with uint8 or float32 images [num_classes * ipc, channels, size, size], class after class; the
        provenance tells the whole digest and what the teacher makes of the classes.

    Raises:
        UserError: anything of this is not so; the message says what was seen, and what to type.
    """
    _check_words(layout=layout, order=order, soft=soft)
    constants(undo)
    if not path:
        raise UserError("folder: say where the set lies, for instance folder:path=sets/rded")
    place, whole = located(path, digest)
    listed = located(classes)[0] if classes else None
    published = _opened(place, layout, listed, train.num_classes, undo, experiment)
    _check_counts(published, ipc, train.num_classes, path)
    images = torch.from_numpy(published.read(train.channels, train.size))
    seen = class_order(published.labels, ctx.predict(images).argmax(dim=1).cpu().numpy(), train.num_classes)
    if seen.permuted and order == "check":
        raise UserError(_permuted(seen, published, path))
    provenance = {
        "digest": whole,
        "teacher_top1": seen.agreement,
        "teacher_top1_under_the_best_order_of_classes": seen.best_agreement,
        "classes_out_of_order": seen.moved if seen.permuted else [],
    }
    if labels:
        provenance["stored_labels_not_used"] = _stored_labels.describe(located(labels)[0], train.num_classes)
    learnt = None if published.soft is None else torch.from_numpy(_logits(published.soft, soft, path))
    return Condensed(images, torch.from_numpy(published.labels), provenance=provenance, soft_labels=learnt)


def _logits(learnt: np.ndarray, soft: str, path: str) -> np.ndarray:
    """Learnt labels float32 [M, C] as they are handed in. Raises UserError where they are not what `soft` says."""
    distributions = bool((learnt >= 0).all()) and np.allclose(learnt.sum(axis=1), 1, atol=1e-3)
    if soft == "logits" and distributions:
        raise UserError(
            f"folder: the learnt labels of {path} are probabilities: type soft=probabilities, and their logarithms are "
            f"handed in; or soft=values, for a protocol that takes them as they are."
        )
    if soft == "probabilities" and not distributions:
        raise UserError(f"folder: soft=probabilities, but the learnt labels of {path} are none. Leave it out.")
    return np.log(np.maximum(learnt, np.float32(_SMALLEST))) if soft == "probabilities" else learnt


def _check_words(*, layout: str, order: str, soft: str) -> None:
    for name, value, allowed in (("layout", layout, LAYOUTS), ("order", order, ORDERS), ("soft", soft, SOFT)):
        if value not in allowed:
            raise UserError(f"folder: {name}={value}; allowed: {', '.join(allowed)}")


def _opened(place: Path, layout: str, listed: Path | None, classes: int, undo: str, experiment: int) -> PublishedSet:
    if layout == "auto":
        layout = _layout_of(place)
    if place.is_dir() != (layout == "tree") and not (place.is_dir() and layout == "parquet"):
        raise UserError(f"folder: {place} is a {'folder' if place.is_dir() else 'file'}, but layout={layout}.")
    if undo and layout in ("tree", "archive", "parquet"):
        raise UserError(f"folder: undo={undo} is for tensors; image files are grey levels already.")
    if layout in ("tree", "archive"):
        return open_class_folders(place, classes, listed)
    if layout == "parquet":
        return open_parquet(place, classes, listed)
    if listed is not None:
        raise UserError(f"folder: classes={listed} is for classes that have names; in {place} labels number them.")
    return open_tensors(place, layout, classes, undo, experiment)


def _layout_of(place: Path) -> str:
    if not place.is_dir():
        return _SUFFIXES.get(place.suffix.lower(), "archive")
    return "parquet" if next(place.rglob("*.parquet"), None) is not None else "tree"


def _check_counts(published: PublishedSet, ipc: int, classes: int, path: str) -> None:
    counts = np.bincount(published.labels, minlength=classes)
    wrong = np.flatnonzero(counts != ipc)
    if len(wrong):
        name = f" ({published.names[wrong[0]]})" if published.names else ""
        more = f"; {len(wrong)} classes differ" if len(wrong) > 1 else ""
        same = f" Every class has {counts[0]}: use --ipc {counts[0]}." if (counts == counts[0]).all() else ""
        raise UserError(
            f"folder: class {wrong[0]}{name} of {path} has {counts[wrong[0]]} images, ipc is {ipc}{more}.{same}"
        )


def _permuted(seen: Order, published: PublishedSet, path: str) -> str:
    def name(label: int) -> str:
        return f"{label} ({published.names[label]})" if published.names else str(label)

    pairs = "; ".join(f"images of class {name(c)} look like class {seen.assignment[c]}" for c in seen.moved[:5])
    more = f"; and {len(seen.moved) - 5} more" if len(seen.moved) > 5 else ""
    back = np.argsort(seen.assignment)
    if published.names:
        shown = ", ".join(published.names[c] for c in back[:10]) + (", ..." if len(back) > 10 else "")
        advice = (
            f"Give classes=FILE, with a folder's name a line in the data set's order; as the teacher sees it: {shown}"
        )
    else:
        advice = f"Number the labels as the data set does; what is 0, 1, ... is {_some(seen.assignment)} there"
    return (
        f"folder: the classes of {path} stand in another order than the data set's. The teacher agrees with "
        f"{100 * seen.agreement:.0f} % of the labels as given, and with {100 * seen.best_agreement:.0f} % in another "
        f"order: {pairs}{more}. {advice}. If the order is meant as it is, type order=trust."
    )


def _some(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
