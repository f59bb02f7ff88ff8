"""Label files as SRe2L, LPLD, CDA and their kin publish them: read for what they are, never for code.

One file holds one batch of one epoch (`epoch_3/batch_7.tar`, a zip of a pickle in spite of its name): a list whose last
entry is the logits [B, C]. torch reads them with `weights_only`, which builds tensors, numbers and containers and
refuses everything else; a file that asks for more is an error, and nothing of it has run.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.errors import UserError

SUFFIXES = (".tar", ".pt", ".pth")
# The weight of a CutMix box is a numpy number in many of these files: a number and no more, so it may be built.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]  # its name has changed between releases of numpy
_NUMBERS: list = [
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    _NUMPY_SCALAR,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32")),
]


def label_files(folder: Path) -> list[Path]:
    """All label files below a folder, sorted. Raises UserError where there is no such folder or none in it."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of stored labels.")
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    if not files:
        raise UserError(f"{folder}: no file of stored labels lies there (*{', *'.join(SUFFIXES)}).")
    return files


def read_logits(path: Path) -> torch.Tensor:
    """The logits [B, C], float16 or float32, of one file.

    Raises:
        UserError: the file cannot be read, holds code or other objects, or no logits.
    """
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("Please file")[0].splitlines()
        unsafe = next((line.strip() for line in reason if "Unsupported" in line or "GLOBAL" in line), "")
        raise UserError(
            f"{path} holds more than tensors and numbers; nothing of it was run. {unsafe}".rstrip()
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} cannot be read as a label file: {why}") from None
    last = [value for value in _tensors(content) if value.ndim == 2 and value.is_floating_point()][-1:]
    if not last:
        raise UserError(f"{path} holds no logits: no floating-point tensor [images, classes].")
    return last[0]


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


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
