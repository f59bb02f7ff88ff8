"""Label files as SRe2L, LPLD, CDA and their kin publish them: read for what they are, never for code.

One file holds one batch of one epoch (`epoch_3/batch_7.tar`, a zip of a pickle in spite of its name): a list whose last
entry is the logits [B, C]. torch reads them with `weights_only`, which builds tensors, numbers and containers and
refuses everything else; a file that asks for more is an error, and nothing of it has run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from bench.errors import UserError
from bench.strangers import is_junk, read_torch, tensors_of

SUFFIXES = (".tar", ".pt", ".pth")


def label_files(folder: Path) -> list[Path]:
    """All label files below a folder, sorted. Raises UserError where there is no such folder or none in it."""
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: there is no such folder of stored labels.")
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and os.path.isfile(path))
    files = [path for path in files if not is_junk(path.relative_to(folder).as_posix())]
    if not files:
        raise UserError(f"{folder}: no file of stored labels lies there (*{', *'.join(SUFFIXES)}).")
    return files


def read_logits(path: Path) -> torch.Tensor:
    """The logits [B, C], float16 or float32, of one file.

    Raises:
        UserError: the file cannot be read, holds code or other objects, or no logits.
    """
    floats = [value for value in tensors_of(read_torch(path, "label file")) if value.is_floating_point()]
    if not floats:
        raise UserError(f"{path} holds no logits: no floating-point tensor [images, classes].")
    if floats[-1].ndim != 2:
        raise UserError(
            f"{path} holds no logits [images, classes]: its last floats are {list(floats[-1].shape)}. FKD's files of "
            f"the k largest are [images, 2, k], and those before are coordinates; such labels are not read."
        )
    return floats[-1]


def describe(folder: Path, classes: int) -> dict[str, Any]:
    """What the provenance tells of a folder of stored labels; the first and the last file are opened.

    Returns:
        files, bytes (as they lie on disk, metadata and padding included), classes, dtype.

    Raises:
        UserError: see `read_logits`; or the logits are of another number of classes than `classes`, or not finite.
    """
    files = label_files(folder)
    for path in dict.fromkeys((files[0], files[-1])):
        logits = read_logits(path)
        if logits.shape[1] != classes:
            raise UserError(f"{path} holds logits of {logits.shape[1]} classes; the data set has {classes}.")
        if not bool(torch.isfinite(logits).all()):
            raise UserError(f"{path} holds logits that are not finite.")
    return {
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "classes": classes,
        "dtype": str(logits.dtype).removeprefix("torch."),
    }
