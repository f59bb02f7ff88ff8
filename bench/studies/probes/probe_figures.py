"""Files of `condensebench probe`: values of every image, histograms, and landscapes of the loss."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import UserError
from bench.studies.probes.curvature import Landscape
from bench.studies.probes.image_scores import ENDS, ImageScores
from bench.studies.probes.label_spectra import Probed
from bench.studies.probes.probe_table import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

_BINS = 30


def write_rows(path: Path, heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """A CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heading)
        writer.writerows(rows)
    return path


def write_images(probes: Sequence[Probe], path: Path) -> Path:
    """The values of every image, as CSV."""
    heading = ("dataset", "ipc", "method", "replicate", "observer", "image", "entropy", "nll", "right")
    return write_rows(
        path,
        heading,
        (
            (each.name.dataset, each.name.ipc, each.name.method, each.replicate, each.observer.recipe, image, *values)
            for each in probes
            for image, values in enumerate(zip(each.seen.entropy, each.seen.nll, each.seen.right, strict=True))
        ),
    )


def draw_histograms(probes: Sequence[Probe], path: Path) -> Path:
    """Entropy and NLL of the images under each observer, a line for each set, as PNG."""
    observers = list(dict.fromkeys(each.observer.recipe for each in probes))
    with _figure(2.6 * len(observers) + 1, 5.2) as (figure, save):
        grid = figure.subplots(2, len(observers), squeeze=False, sharex="row")
        for kind, heading in enumerate(("entropy", "nll")):
            every = np.concatenate([getattr(each.seen, heading) for each in probes])
            edges = np.linspace(float(every.min()), max(float(every.max()), float(every.min()) + 1e-9), _BINS + 1)
            for column, observer in enumerate(observers):
                axes = grid[kind, column]
                for each in (probe for probe in probes if probe.observer.recipe == observer):
                    counts, _ = np.histogram(getattr(each.seen, heading), edges)
                    axes.stairs(counts / counts.sum(), edges, label=f"{each.name.dataset}: {each.label}")
                axes.set_xlabel(f"{'entropy' if heading == 'entropy' else 'NLL'} (nats)")
                axes.set_title(observer if kind == 0 else "")
            grid[kind, 0].set_ylabel("share of images")
        grid[0, 0].legend(fontsize=6)
        save(path)
    return path


def write_scores(scored: Sequence[ImageScores], folder: Path) -> list[Path]:
    """The score of every image and the classes of both ends as CSV, and histograms of both as PNG."""
    values = write_rows(
        folder / "scores.csv",
        ("dataset", "method", "image", "class", "score"),
        (
            (each.name.dataset, each.name.method, image, label, value)
            for each in scored
            for image, (label, value) in enumerate(zip(each.labels.tolist(), each.values.tolist(), strict=True))
        ),
    )
    classes = write_rows(
        folder / "classes.csv",
        ("dataset", "method", "ipc", "end", "class", "images"),
        (
            (each.name.dataset, each.name.method, each.name.ipc, end, label, count)
            for each in scored
            for end in ENDS
            for label, count in enumerate(each.counts(end).tolist())
        ),
    )
    picture = folder / "scores.png"
    with _figure(3 * len(scored) + 0.5, 5.2) as (figure, save):
        grid = figure.subplots(2, len(scored), squeeze=False)
        for column, each in enumerate(scored):
            grid[0, column].hist(each.values, bins=_BINS)
            grid[0, column].set_title(f"{each.name.dataset}: {each.name.method}")
            grid[0, column].set_xlabel("score (low is easy)")
            for end in ENDS:
                counts = each.counts(end)
                grid[1, column].stairs(counts, np.arange(len(counts) + 1) - 0.5, label=end)
            grid[1, column].axhline(each.name.ipc, linewidth=0.6, color="black")
            grid[1, column].set_xlabel(f"class, of the {each.name.ipc * each.classes} images at an end")
        grid[0, 0].set_ylabel("images")
        grid[1, 0].set_ylabel("images")
        grid[1, 0].legend()
        save(picture)
    return [values, classes, picture]


def draw_spectra(probed: Sequence[Probed], path: Path) -> Path:
    """The mean singular values over the first one, a line for each label set and a plot for each domain, as PNG."""
    domains = list(dict.fromkeys(domain for each in probed for domain in each.domains))
    with _figure(3 * len(domains) + 0.5, 3) as (figure, save):
        for axes, domain in zip(figure.subplots(1, len(domains), squeeze=False)[0], domains, strict=True):
            for each in (probe for probe in probed if domain in probe.domains):
                values = each.domains[domain].values
                kept = values[values[:, 0] > 0]
                line = (kept / kept[:, :1]).mean(axis=0)
                label = f"{each.name.dataset}: {each.name.method}, ipc {each.name.ipc}"
                axes.semilogy(np.arange(1, len(line) + 1), line, marker=".", label=label)
            axes.set_title(domain)
            axes.set_xlabel("singular value")
        figure.axes[0].set_ylabel("share of the first")
        figure.axes[0].legend(fontsize=6)
        save(path)
    return path


def write_landscape(landscape: Landscape, stem: Path) -> list[Path]:
    """The grid as CSV, and contours of it as PNG."""
    steps = landscape.steps
    table = write_rows(
        stem.with_name(f"{stem.name}.csv"),
        ("along", "across", "loss"),
        (
            (f"{along:.6g}", f"{across:.6g}", f"{landscape.losses[i, j]:.9g}")
            for i, along in enumerate(steps)
            for j, across in enumerate(steps)
        ),
    )
    picture = stem.with_name(f"{stem.name}.png")
    with _figure(4.2, 3.6) as (figure, save):
        axes = figure.subplots()
        drawn = axes.contourf(steps, steps, landscape.losses.T, levels=20)
        figure.colorbar(drawn, ax=axes, label="loss")
        axes.set_xlabel("first direction")
        axes.set_ylabel("second direction")
        save(picture)
    return [table, picture]


def stem_of(probe: Probe) -> str:
    """The beginning of a file's name, of a set and an observer."""
    text = f"{probe.name.dataset}-ipc{probe.name.ipc}-{probe.name.method}-{probe.observer.recipe}"
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", text)


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, Any]]:
    """A figure, and what writes it: the same values give the same file under the same matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "font.size": 8, "text.parse_math": False}):
        figure = Figure(figsize=(width, height), layout="constrained")

        def save(path: Path) -> None:
            try:
                figure.savefig(path, dpi=150, metadata={"Software": None})
            except OSError as error:
                raise UserError(f"--out {path}: the figure cannot be written ({error.strerror or error}).") from None

        yield figure, save
