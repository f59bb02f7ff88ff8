"""A condensed set made elsewhere: a folder of images by class, or a safetensors file, under any protocol."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from bench.api import Condensed, Context, Train
from bench.errors import UserError
from methods import _stored_labels
from methods._class_order import Order, class_order
from methods._foreign_images import Foreign, open_tensors, open_tree

CITATION = "None of its own: the source of the images is to be cited."
CHECK_EXCEPTIONS = {
    "keeps-the-contract": "without a path there is no set; test_folder.py checks this rule on sets",
    "exact-images-per-class": "without a path there is no set; test_folder.py checks this rule on sets",
    "one-class-is-enough": "without a path there is no set; test_folder.py checks this rule on sets",
    "duplicates-are-served": "the training images are not looked at",
    "equal-images-are-served": "the training images are not looked at",
    "too-many-per-class-are-refused": "the size of the training classes does not matter",
    "a-class-without-images-is-refused": "the training images are not looked at",
    "gives-the-same-twice": "without a path there is no set; test_folder.py checks this rule on sets",
    "class-numbers-do-not-matter": "a set belongs to one numbering of the classes; another one is an error",
}

LAYOUTS = ("auto", "tree", "safetensors")
ORDERS = ("check", "trust")
DIGITS = 12  # of the digest that a spec must give at least


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
) -> Condensed:
    """Read the set. It must have exactly `ipc` images of every class.

    The digest belongs to the spec, because results are kept by their spec: a path alone would go on standing for what
    lay there first. Leave it out once, and the error tells it. A folder whose content has changed is then an error
    as well, never an old result under a new content or the reverse.

    Students are trained on labels of the protocol, as for every other method: class labels, or the logits of the
    protocol's teacher. Stored labels that come with a set are not used for that. They are opened to see that they
    belong to as many classes, and the provenance tells their number, size and type.

    Args:
        train: gives the number of classes and the shape; its images are not looked at.
        ipc: images per class.
        ctx: gives the teacher's predictions.
        path: of a folder with a folder for each class, or of a .safetensors file (`images` uint8 [M, c, h, w],
            `labels` [M]); relative to the current folder. A spec cannot spell a comma.
        digest: of the content, the first 12 to 64 hexadecimal digits.
        layout: "tree", "safetensors", or "auto": by what the path is.
        classes: a file with a folder's name a line, the first is class 0; "": folders in sorted order.
        labels: a folder of stored labels (SRe2L, LPLD: one file a batch); "": none.
        order: "check": an order of the classes that the teacher clearly contradicts is an error; "trust": it is
            reported only.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class; the provenance tells
        the whole digest and what the teacher makes of the classes.

    Raises:
        UserError: anything of this is not so; the message says what was found, and what to type.
    """
    _check_words(digest=digest, layout=layout, classes=classes, labels=labels, order=order)
    foreign = _opened(path, layout, classes, train.num_classes)
    _check_digest(digest, foreign, path)
    _check_counts(foreign, ipc, train.num_classes, path)
    images = torch.from_numpy(np.stack(list(foreign.read(train.channels, train.size))))
    found = class_order(foreign.labels, ctx.predict(images).argmax(dim=1).cpu().numpy(), train.num_classes)
    if found.permuted and order == "check":
        raise UserError(_permuted(found, foreign, path))
    provenance = {
        "digest": foreign.digest,
        "teacher_top1": found.agreement,
        "teacher_top1_under_the_best_order_of_classes": found.best_agreement,
        "classes_out_of_order": found.moved if found.permuted else [],
    }
    if labels:
        provenance["stored_labels_not_used"] = _stored_labels.describe(Path(labels).expanduser(), train.num_classes)
    return Condensed(images=images, labels=torch.from_numpy(foreign.labels), provenance=provenance)


def _check_words(*, digest: str, layout: str, classes: str, labels: str, order: str) -> None:
    for name, value, allowed in (("layout", layout, LAYOUTS), ("order", order, ORDERS)):
        if value not in allowed:
            raise UserError(f"folder: {name}={value}; allowed: {', '.join(allowed)}")
    if digest and not re.fullmatch(f"[0-9a-fA-F]{{{DIGITS},64}}", digest):
        raise UserError(f"folder: digest={digest} is none: {DIGITS} to 64 hexadecimal digits")
    if classes and not Path(classes).expanduser().is_file():
        raise UserError(f"folder: classes={classes}: there is no such file (from {Path.cwd()})")
    if labels and not Path(labels).expanduser().is_dir():
        raise UserError(f"folder: labels={labels}: there is no such folder (from {Path.cwd()})")


def _opened(path: str, layout: str, classes: str, count: int) -> Foreign:
    if not path:
        raise UserError("folder: say where the set lies, for instance folder:path=sets/rded")
    root = Path(path).expanduser()
    if not root.exists():
        raise UserError(f"folder: path={path}: there is no such file or folder (from {Path.cwd()}).")
    if layout == "auto":
        layout = "tree" if root.is_dir() else "safetensors"
    if root.is_dir() != (layout == "tree"):
        raise UserError(f"folder: path={path} is a {'folder' if root.is_dir() else 'file'}, but layout={layout}.")
    if layout == "tree":
        return open_tree(root, count, Path(classes).expanduser() if classes else None)
    if classes:
        raise UserError(f"folder: classes={classes} is for a folder; in {path} the labels number the classes.")
    return open_tensors(root, count)


def _check_digest(digest: str, foreign: Foreign, path: str) -> None:
    if not digest:
        raise UserError(
            f"folder: say which content of {path} is meant, so that a result can never be that of another: "
            f"type folder:path={path},digest={foreign.digest[:DIGITS]}"
        )
    if not foreign.digest.startswith(digest.lower()):
        raise UserError(
            f"folder: digest={digest} is not that of {path}, which is {foreign.digest[:DIGITS]}. The content (or the "
            f"order of the classes) is another; if that is meant, type digest={foreign.digest[:DIGITS]}"
        )


def _check_counts(foreign: Foreign, ipc: int, classes: int, path: str) -> None:
    counts = np.bincount(foreign.labels, minlength=classes)
    wrong = np.flatnonzero(counts != ipc)
    if len(wrong):
        name = f" ({foreign.names[wrong[0]]})" if foreign.names else ""
        more = f"; {len(wrong)} classes differ" if len(wrong) > 1 else ""
        same = f" Every class has {counts[0]}: use --ipc {counts[0]}." if (counts == counts[0]).all() else ""
        raise UserError(
            f"folder: class {wrong[0]}{name} of {path} has {counts[wrong[0]]} images, ipc is {ipc}{more}.{same}"
        )


def _permuted(found: Order, foreign: Foreign, path: str) -> str:
    def name(label: int) -> str:
        return f"{label} ({foreign.names[label]})" if foreign.names else str(label)

    pairs = "; ".join(f"images of class {name(c)} look like class {found.assignment[c]}" for c in found.moved[:5])
    more = f"; and {len(found.moved) - 5} more" if len(found.moved) > 5 else ""
    back = np.argsort(found.assignment)
    if foreign.names:
        seen = ", ".join(foreign.names[c] for c in back[:10]) + (", ..." if len(back) > 10 else "")
        advice = (
            f"Give classes=FILE, with a folder's name a line in the data set's order; as the teacher sees it: {seen}"
        )
    else:
        advice = f"Number the labels as the data set does; what is 0, 1, ... is {_some(found.assignment)} there"
    return (
        f"folder: the classes of {path} stand in another order than the data set's. The teacher agrees with "
        f"{100 * found.agreement:.0f} % of the labels as given, and with {100 * found.best_agreement:.0f} % in another "
        f"order: {pairs}{more}. {advice}. If the order is meant as it is, type order=trust."
    )


def _some(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
