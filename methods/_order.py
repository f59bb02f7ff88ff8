"""Ranking images by a score within their class, and checks that all selection methods share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def one_of(name: str, value: str, *allowed: str) -> None:
    """Refuse a word that a parameter does not know.

    Raises:
        ValueError: `value` is none of `allowed`.
    """
    if value not in allowed:
        words = ", ".join(f'"{word}"' for word in allowed[:-1])
        raise ValueError(f'{name} is {value!r}; it must be {words} or "{allowed[-1]}"')


def finite_rows(values: np.ndarray, images: np.ndarray, what: str) -> np.ndarray:
    """The rows [n, ...] in float64, if every value is finite.

    Args:
        values: [n, ...], what was computed of `images`.
        images: int64 [n], where they stand in the training split: the error names the first bad one.
        what: for the error, as in "the feature".

    Raises:
        ValueError: a row holds NaN or an infinity.
    """
    rows = np.asarray(values, dtype=np.float64)
    good = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    if not good.all():
        raise ValueError(f"{what} of image {int(images[np.argmin(good)])} is not finite")
    return rows


def lowest(
    scores: np.ndarray, groups: Iterable[tuple[int, np.ndarray]], ipc: int, *, highest: bool = False
) -> np.ndarray:
    """The `ipc` images of each class with the lowest (or highest) score; ties go to the lowest index.

    Args:
        scores: float64 [N].
        groups: (label, int64 indices, ascending) of every class.
        ipc: images per class.
        highest: take the other end.

    Returns:
        int64 [classes * ipc], class after class, most extreme score first.
    """
    keys = -scores if highest else scores
    return np.concatenate([own[np.argsort(keys[own], kind="stable")[:ipc]] for _, own in groups])
