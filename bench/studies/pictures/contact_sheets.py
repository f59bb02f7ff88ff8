"""Condensed sets as contact sheets.

One sheet shows the first image of each class of several sets, a row for each set; the other shows one set whole, a row
for each class. A set that is not in the store is condensed now, as `run` would.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from bench.artifacts.duplicates import set_digest
from bench.artifacts.pixels import nearest_levels
from bench.artifacts.refs import Workspace, read_condensed
from bench.driver.outcome import Outcome, attempt
from bench.errors import UserError
from bench.plugins.spec import parse
from bench.reports.quantities import METHOD_WIDTH, wrapped
from bench.studies.pictures.condensed_sets import Opened, SetName
from bench.studies.pictures.drawing import Row, Sheet, draw, png
from bench.teachers.teacher_files import TeacherRef

GROUPS = {"select": "Real images, picked", "synthesize": "Images that were made"}


@dataclass(frozen=True)
class Picture:
    """A sheet to be drawn: the first image of each class of all `names`, or (`whole`) all images of the only one."""

    stem: str  # of its file in a folder
    names: tuple[SetName, ...]
    whole: bool


@dataclass(frozen=True)
class Shown:
    """A condensed set as far as a sheet can show it. `images`: uint8 [classes, images of each, channels, s, s]."""

    images: np.ndarray
    digest: str  # hex sha256 of the whole set, as its records tell it (bench.artifacts.duplicates.set_digest)


@dataclass(frozen=True)
class Step:
    """One set condensed, or not, and the pictures that could be drawn with it."""

    name: SetName
    outcome: Outcome  # with the set, as a sheet shows it
    written: tuple[Path, ...]


def draw_pictures(
    ws: Workspace,
    names: Sequence[SetName],
    files: Mapping[Path, Picture],
    *,
    replicate: int,
    classes: int,
    images: int,
) -> Iterator[Step]:
    """Condense the sets that are not in the store, and write each picture once the last of its sets is there.

    Args:
        ws: where the sets are kept.
        names: all sets of all pictures, one step each.
        files: what to draw, by where it goes. A set that failed is left out; a picture without any is not drawn.
        replicate: whose sets.
        classes: how many are shown.
        images: how many of each class are shown.
    """
    opened = Opened(ws, names)
    shown: dict[SetName, Shown] = {}
    with _one_thread():
        for name in names:
            outcome = attempt(_shown, opened, name, replicate, classes, images)
            if outcome.status == "ok":
                shown[name] = outcome.value
            written = []
            for path, picture in files.items():
                sets = {each: shown[each] for each in picture.names if each in shown}
                if picture.names[-1] == name and sets:
                    _write(path, (_whole if picture.whole else _overview)(opened, sets, replicate), sets)
                    written.append(path)
            yield Step(name, outcome, tuple(written))


def _write(path: Path, sheet: Sheet, shown: Mapping[SetName, Shown]) -> None:
    digests = "\n".join(f"{name.method} {condensed.digest}" for name, condensed in shown.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(draw(sheet), {"Title": sheet.caption, "Description": digests}))


def pictures(names: Sequence[SetName], images: int) -> list[Picture]:
    """For each data set, number of images per class and teacher: one picture of all methods, and, where more than one
    image of a class is to be shown (`images` at most), one of each method."""
    groups: dict[tuple[str, int, str], list[SetName]] = {}
    for name in names:
        groups.setdefault((name.dataset, name.ipc, name.teacher), []).append(name)
    several = len({key[:2] for key in groups}) < len(groups)  # teachers of one data set: files tell them apart
    drawn = []
    for (dataset, ipc, teacher), members in groups.items():
        stem = _slug(f"{dataset}-ipc{ipc}{f'-{teacher}' if several else ''}")
        single = min(ipc, images) == 1
        if single or len(members) > 1:
            drawn.append(Picture(stem, tuple(members), whole=False))
        if not single:
            drawn += [Picture(f"{stem}-{_slug(name.method)}", (name,), whole=True) for name in members]
    return drawn


def only_picture(choices: Sequence[Picture], target: Path) -> Picture:
    """The picture of all methods, or the only one, for the file `target`. Raises UserError where one file cannot hold
    what was asked."""
    first = choices[0]
    subjects = {(name.dataset, name.ipc, name.teacher) for picture in choices for name in picture.names}
    if len(subjects) > 1:
        raise UserError(
            f"--out {target}: {len(subjects)} pictures come of this, one for each data set and number of images per "
            f"class. Type a folder to hold them, for instance --out {target.with_suffix('')}."
        )
    return first


def _slug(text: str) -> str:
    return re.sub(r"[^\w.=,-]+", "-", text)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """As in a run: more threads add in another order, and the store would keep a set that no run makes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


def _shown(opened: Opened, name: SetName, replicate: int, classes: int, images: int) -> Shown:
    arrays = read_condensed(opened.ws, opened.condense(name, replicate)).arrays
    labels = np.asarray(arrays["labels"])
    chosen = [np.flatnonzero(labels == label)[:images] for label in range(opened.dataset(name).classes)[:classes]]
    rows = [nearest_levels(arrays["images"][at]) for at in chosen]
    most = max(len(row) for row in rows)  # a class that has fewer, as unbalanced sets have, ends in white
    padded = [np.pad(row, ((0, most - len(row)), *[(0, 0)] * 3), constant_values=255) for row in rows]
    return Shown(np.stack(padded), set_digest(arrays["images"], labels))


def _whole(opened: Opened, shown: Mapping[SetName, Shown], replicate: int) -> Sheet:
    [(name, condensed)] = shown.items()
    count = condensed.images.shape[1]
    lines = [f"{name.dataset}, {name.method}, ipc {name.ipc}", _origin(opened, [name], replicate)]
    lines[1] += f", set {condensed.digest[:16]}"
    if count < name.ipc:
        lines[1] += f", the first {count} images of each class"
    rows = [
        Row(label, images) for label, images in zip(_classes(opened, name, condensed), condensed.images, strict=True)
    ]
    return Sheet("\n".join(lines), (), {"": rows})


def _overview(opened: Opened, shown: Mapping[SetName, Shown], replicate: int) -> Sheet:
    name, condensed = next(iter(shown.items()))
    which = "" if name.ipc == 1 else ", the first image of each class"
    caption = (
        f"{name.dataset}, ipc {name.ipc}{which}\n{_origin(opened, list(shown), replicate)}, below each method its set"
    )
    groups: dict[str, list[Row]] = {title: [] for title in GROUPS.values()}
    for each, of in shown.items():
        functions = parse(opened.ws.registry, "method", each.method).plugin.functions
        title = next(title for function, title in GROUPS.items() if function in functions)
        groups[title].append(Row(wrapped(each.method, METHOD_WIDTH), of.images[:, 0], of.digest[:16]))
    return Sheet(caption, _classes(opened, name, condensed), {title: rows for title, rows in groups.items() if rows})


def _origin(opened: Opened, names: Sequence[SetName], replicate: int) -> str:
    """What all sets of a sheet share; a teacher where one of the methods asks for it."""
    for name in names:
        teacher = opened.teacher(name)
        if isinstance(teacher, TeacherRef):
            return f"replicate {replicate}, teacher {name.teacher} {teacher.digest[:8]}"
    return f"replicate {replicate}, no teacher"


def _classes(opened: Opened, name: SetName, shown: Shown) -> list[str]:
    """Number and name of each class that is shown; the number alone where that is the name, or there is none."""
    dataset = opened.ws.described(opened.dataset(name)).dataset
    numbers = [str(label) for label in range(dataset.num_classes)][: len(shown.images)]
    names = dataset.class_names[: len(numbers)] or numbers
    return [number if number == title else f"{number} {title}" for number, title in zip(numbers, names, strict=True)]
