"""Plugin files and an installed package, written for a test."""

from __future__ import annotations

import textwrap
from pathlib import Path

SELECT = '''
"""The first images of each class."""

import numpy as np


def select(train, ipc, ctx, *, offset: int = 0):
    return np.concatenate([train.class_indices(c)[offset : offset + ipc] for c in range(train.num_classes)])
'''


def write(path: Path, source: str) -> Path:
    """A file with the source, indented as the test likes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source).lstrip("\n"), encoding="utf-8")
    return path


def install(site: Path, package: str, files: dict[str, str], entry_points: str) -> None:
    """A package as an installer would leave it in a site folder: its files and a dist-info."""
    for name, source in files.items():
        write(site / package / name, source)
    info = site / f"{package}-1.0.dist-info"
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    write(info / "entry_points.txt", entry_points)
