"""Files that a spec names: in an identity they are a name and a digest of their content, never a path.

`folder:path=sets/rded` becomes `folder:path=rded@3f2a9c81d0e4` when a plan is read. Trials, seeds, store and records
hold that text alone. Where the files lie is told to the workers beside it, in $CONDENSEBENCH_SETS.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from bench.errors import UserError
from bench.foreign.bounds import regular
from bench.foreign.members import tree_members
from bench.places import absolute_path, expanded

VARIABLE = "CONDENSEBENCH_SETS"
DIGITS = 12  # of the digest that stands in a spec
_NAMED = re.compile(rf"[\w.+-]+@[0-9a-f]{{{DIGITS}}}")
_TYPED = re.compile(f"[0-9a-f]{{{DIGITS},64}}", re.IGNORECASE)
_ENDINGS = re.compile(r"(\.(tar|tgz|gz|bz2|xz|zst|zip|npz|pth?|safetensors|parquet|txt))+$", re.IGNORECASE)


def content_digest(path: Path) -> str:
    """Hex sha256 of a file's content, or of the names and contents of all files below a folder.

    Hidden files, and what file managers leave behind, do not count. Labels that lie in a file of their own, beside the
    images (MTT: `images_best.pt` and `labels_best.pt`), count with them.
    """
    if os.path.isdir(path):
        content = hashlib.sha256(b"tree")
        for member in tree_members(path):
            content.update(json.dumps(member.name).encode() + hashlib.sha256(member.read()).digest())
        return content.hexdigest()
    content = hashlib.sha256()
    for file in (path, labels_beside(path)):
        if file is not None:
            with regular(file).open("rb") as opened:
                content.update(hashlib.file_digest(opened, "sha256").digest())
    return content.hexdigest()


def labels_beside(path: Path) -> Path | None:
    """`labels_best.pt` of `images_best.pt`; None where there is none."""
    if not path.name.startswith("images"):
        return None
    file = path.with_name("labels" + path.name.removeprefix("images"))
    return file if os.path.exists(file) else None


def name_content(text: str, digest: str = "") -> str:
    """NAME@DIGEST of the files at a path; this process and those that it starts know from then on where they lie.

    Args:
        text: a path, or NAME@DIGEST as it came out before.
        digest: what the content must have, 12 to 64 hexadecimal digits; "": whatever it has.

    Raises:
        UserError: there is nothing, or another content than `digest` says.
    """
    if _NAMED.fullmatch(text) and not os.path.exists(text):
        return text
    path, whole = _given(text, digest)
    named = f"{_short(path)}@{whole[:DIGITS]}"
    os.environ[VARIABLE] = json.dumps({**_known(), named: str(path)})
    return named


def located(text: str, digest: str = "") -> tuple[Path, str]:
    """Where files lie, and the digest of their content. Raises UserError where they are not on this machine.

    Args:
        text: NAME@DIGEST, or a path.
        digest: as of `name_content`, for a path.
    """
    if not _NAMED.fullmatch(text) or os.path.exists(text):
        return _given(text, digest)
    name, wanted = text.split("@")
    for place in _places(text, name):
        if os.path.exists(place) and (whole := content_digest(place)).startswith(wanted):
            return place, whole
    raise UserError(
        f"{text} is not here: no file or folder {name} with this content. Type its path instead of {text}, or put it "
        f"into a data folder (--data DIR)."
    )


def _given(text: str, digest: str) -> tuple[Path, str]:
    """The files at a path, and the digest of their content."""
    if digest and not _TYPED.fullmatch(digest):
        raise UserError(f"digest={digest} is none: {DIGITS} to 64 hexadecimal digits")
    path = expanded(text)
    if not os.path.exists(path):
        raise UserError(f"{text}: there is no such file or folder (from {Path.cwd()}).")
    path = absolute_path(path)
    whole = content_digest(path)
    if digest and not whole.startswith(digest.lower()):
        raise UserError(
            f"digest={digest} is not that of {text}, which is {whole[:DIGITS]}. If this content is meant, type "
            f"digest={whole[:DIGITS]}, or leave the digest out: it is recorded."
        )
    return path, whole


def known_sets() -> str:
    """Where the named files lie, as worker processes are told, wherever they run; empty where there are none."""
    return os.environ.get(VARIABLE, "")


def name_and_place() -> list[tuple[str, str]]:
    """(NAME@DIGEST, path) of all files that were named in this process."""
    return list(_known().items())


def _known() -> dict[str, str]:
    known: dict[str, str] = json.loads(known_sets() or "{}")
    return known


def _places(text: str, name: str) -> list[Path]:
    from bench.places import data_folders

    given = [Path(_known()[text])] if text in _known() else []
    for folder in data_folders():
        given += [folder / name, *sorted(folder.glob(f"{name}.*"))] if folder.is_dir() else []
    return given


def _short(path: Path) -> str:
    """A name for files: the last part of the path without its endings, in letters that a spec can hold."""
    stem = path.name if path.is_dir() else _ENDINGS.sub("", path.name)
    return re.sub(r"[^\w.+-]+", "-", stem).strip("-") or "set"
