"""Pictures of stored labels: views of images, with what teachers say of them, and labels before and after coding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from bench.artifacts.describe import find_dataset
from bench.artifacts.pixels import mapped_tensor, nearest_levels
from bench.artifacts.refs import Workspace
from bench.confinement.plugin_limits import PluginFailure
from bench.errors import UserError
from bench.plugins.spec import parse
from bench.training.normalisation import Statistics
from bench.views.render import render
from bench.website.gallery import sprites
from bench.website.gallery.kept_sets import KeptSet
from bench.website.gallery.plain_labels import top
from bench.website.gallery.stored_labels import MOST_DECODED, Code, StoredLabels, decoded

LOOKED_AT = 4  # images of a set: the first of each of its first classes
VIEWS = 8  # of an image that are shown
ROWS, COLUMNS = 64, 100  # views and classes of a heat map


def of_set(
    ws: Workspace,
    kept: KeptSet,
    stored: StoredLabels,
    codes: Iterable[tuple[str | None, str | None]],
    statistics: Statistics,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What the page knows of the labels of a set under one protocol, and its pictures `views` and `heat`.

    Args:
        ws: where compressors are looked up.
        kept: the set.
        stored: its labels.
        codes: (compressor, budget) of the rows that are shown.
        statistics: mean and standard deviation, between which views are drawn.
    """
    labels = np.asarray(kept.artifact.arrays["labels"])
    _, first = np.unique(labels, return_index=True)
    count = stored.views.n if stored.logits is None else len(stored.logits)
    images = first[first < count][:LOOKED_AT]
    values: dict[str, Any] = {
        "protocol": stored.protocol,
        "temperature": stored.temperature,
        "count": len(stored.views),
        "images": [[int(place), int(labels[place])] for place in images],
        "said": None,
        "maps": [],
    }
    shown = min(VIEWS, len(stored.views))
    pictures = {"views": sprites.mosaic(_views(kept.artifact.arrays["images"], stored, images, shown, statistics))}
    values["shown"] = shown
    if stored.logits is not None:
        said = _softmax(stored.logits[images, :shown])
        values["said"] = [[top(row) for row in rows] for rows in said]
        values |= _heat(ws, kept, stored, codes, images, pictures)
    return values, pictures


def _views(
    images: np.ndarray, stored: StoredLabels, places: np.ndarray, shown: int, statistics: Statistics
) -> np.ndarray:
    """uint8 [images, views, channels, s, s] of the first views, as the nearest grey levels."""
    mean, std = statistics
    pixels = mapped_tensor(images)
    if pixels.is_floating_point():  # views of floats are drawn of normalised images: between black and white here
        pixels, mean, std = pixels.to(torch.float32) / 255, (0.0,) * images.shape[1], (1.0,) * images.shape[1]
    centre, spread = (torch.tensor(each).view(-1, 1, 1) for each in (mean, std))
    drawn = [render(pixels, stored.views[view], places, mean=mean, std=std) for view in range(shown)]
    levels = (torch.stack(drawn, dim=1) * spread + centre) * 255
    return nearest_levels(levels.numpy())


def _heat(
    ws: Workspace,
    kept: KeptSet,
    stored: StoredLabels,
    codes: Iterable[tuple[str | None, str | None]],
    images: np.ndarray,
    pictures: dict[str, bytes],
) -> dict[str, Any]:
    """The heat maps of some images: the teachers' labels, then what is left of them in each code."""
    logits = stored.logits
    assert logits is not None
    most = MOST_DECODED // (4 * len(logits) * logits.shape[-1])
    views = np.arange(len(stored.views))[: max(1, min(ROWS, most))]
    original = _softmax(logits[images][:, views], stored.temperature)
    classes = np.sort(np.argsort(-original.mean(axis=(0, 1)), kind="stable")[:COLUMNS])
    wanted = set(codes)
    panels, maps = [original[..., classes]], []
    for code in (each for each in stored.codes if (each.compressor, each.budget) in wanted):
        entry: dict[str, Any] = {"title": code.title, "size": None, "at": None, "why": None}
        try:
            left = _softmax(_decoded(ws, code, len(logits), kept, images, views), stored.temperature)
        except (UserError, PluginFailure) as error:
            entry["why"] = str(error).splitlines()[0]
        else:
            entry |= {"at": len(panels), "same": _agreement(original, left), "divergence": _divergence(original, left)}
            panels.append(left[..., classes])
        maps.append(entry)
    highest = float(original.max())
    pictures["heat"] = sprites.heat_maps(np.stack(panels, axis=1), highest)
    return {
        "maps": maps,
        "panels": len(panels),
        "rows": len(views),
        "classes": classes.tolist(),
        "highest": round(highest, 3),
    }


def _decoded(ws: Workspace, code: Code, count: int, kept: KeptSet, images: np.ndarray, views: np.ndarray) -> np.ndarray:
    plugin = parse(ws.registry, "compressor", code.compressor).plugin
    if plugin.digest != code.made_by:
        raise UserError("The compressor's code has changed since these labels were encoded.")
    dataset = find_dataset(ws, kept.name.cell.dataset) if plugin.foreign else None
    if plugin.foreign and dataset is None:
        raise UserError("The compressor is a plugin's, and its data set was never opened here.")
    return decoded(ws, code, count, dataset, images, views)


def _softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """float64 probabilities over the last axis; nan where a row has nan."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _agreement(original: np.ndarray, left: np.ndarray) -> list[float | None]:
    """Of each image: the share of its stored views whose most probable class is still the same."""
    same = np.where(np.isnan(left[..., 0]), np.nan, original.argmax(-1) == np.nan_to_num(left).argmax(-1))
    return _means(same)


def _divergence(original: np.ndarray, left: np.ndarray) -> list[float | None]:
    """Of each image: KL(original || decoded), mean over its stored views, in nats."""
    tiny = np.finfo(np.float64).tiny
    each = (original * (np.log(np.maximum(original, tiny)) - np.log(np.maximum(left, tiny)))).sum(axis=-1)
    return _means(each)


def _means(values: np.ndarray) -> list[float | None]:
    """Mean of each row of [images, views] without nan; None of a row that has nothing else."""
    rows = [row[~np.isnan(row)] for row in values]
    return [round(float(row.mean()), 4) if len(row) else None for row in rows]
