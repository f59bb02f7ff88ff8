"""How well the soft labels of condensed sets can be compressed: singular values, effective rank, energy of the first.

SCORE (arXiv 2503.13935) chooses images whose label matrices have a low rank. A matrix is that of one image: its stored
views in rows, classes in columns, as SCORE's compressor takes it. The effective rank is that of O. Roy and M. Vetterli,
EUSIPCO 2007: exp of the entropy of the singular values over their sum. Beside it stands what students lose by a
compressor, where records tell it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.records.files import ReadRecord, latest
from bench.reports.printers import printed
from bench.reports.quantities import METHOD_WIDTH, interval, percent
from bench.reports.table import Column, Page, Row, Table, by_key, typed
from bench.stages.label import Labelling
from bench.stats import intervals
from bench.studies.label_sets.spectrum import DOMAINS
from bench.trials.plan import UNCOMPRESSED

ENERGIES = (1, 2, 5, 10)  # singular values whose share of the energy is told
IMAGES = 500  # that are looked at, evenly spaced; as many as there are in a smaller set


@dataclass(frozen=True)
class LabelsName:
    """What a label set is made of."""

    dataset: str
    protocol: str
    method: str
    ipc: int


@dataclass(frozen=True)
class Spectra:
    """Of the label matrices of some images of a set, in one domain."""

    values: np.ndarray  # float64 [images, min(views, classes)], falling: singular values
    centred: np.ndarray  # the same of the matrices less the mean of their rows

    def energy(self, count: int) -> float:
        """The share of the sum of squares that the first singular values hold, mean over the images."""
        squares = self.values**2
        total, held = squares.sum(axis=1), squares[:, :count].sum(axis=1)
        return float(np.divide(held, total, out=np.ones_like(held), where=total > 0).mean())


@dataclass(frozen=True)
class Drop:
    """What students lose by a compressor."""

    name: str  # COMPRESSOR or COMPRESSOR@BUDGET
    summary: intervals.Summary  # of the paired differences to uncompressed labels, as fractions


@dataclass(frozen=True)
class Probed:
    """A label set and what was seen of it."""

    name: LabelsName
    images: int  # that were looked at
    domains: Mapping[str, Spectra]
    drops: Sequence[Drop] = ()


def effective_rank(values: np.ndarray) -> np.ndarray:
    """float64 [n]: exp of the entropy of each row of singular values [n, k] over its sum; 0 of zeros."""
    total = values.sum(axis=1, keepdims=True)
    share = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    ranks: np.ndarray = np.where(total[:, 0] > 0, np.exp(-(share * logs).sum(axis=1)), 0.0)
    return ranks


def spectra(labelling: Labelling) -> tuple[int, dict[str, Spectra]]:
    """(images that were looked at, domain -> spectra): of the logits, and of the probabilities at T = 1 and at the
    protocol's temperature."""
    images, temperature = labelling.condensed.images, labelling.recipe.loss.temperature
    chosen = np.unique(np.linspace(0, images - 1, min(images, IMAGES)).astype(int))
    domains = {name: DOMAINS[name] for name in ("logits", "softmax, T = 1")}
    if temperature != 1:
        domains[f"softmax, T = {temperature:g}"] = lambda z: torch.softmax(z / temperature, dim=-1)
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in domains}
    for shard, indices in enumerate(labelling.shards):
        rows = torch.from_numpy(np.flatnonzero(np.isin(indices, chosen)))
        if len(rows):
            logits = labelling.raw(shard).logits[rows].to(torch.float64)
            for name, change in domains.items():
                matrices = change(logits)
                middle = matrices - matrices.mean(dim=1, keepdim=True)
                parts[name].append((torch.linalg.svdvals(matrices).numpy(), torch.linalg.svdvals(middle).numpy()))
    return len(chosen), {
        name: Spectra(*(np.concatenate(side) for side in zip(*pairs, strict=True))) for name, pairs in parts.items()
    }


def drops(name: LabelsName, records: Iterable[ReadRecord], compressors: Sequence[str]) -> list[Drop]:
    """What students of a set gain by compressors on uncompressed labels, by records; each COMPRESSOR or
    COMPRESSOR@BUDGET. Paired by student and replicate, over all of them; nan where there are none."""
    accuracies: dict[str, dict[tuple[str, int], float]] = {}
    for record in latest(list(records)):
        run = record.run
        same = LabelsName(run.dataset, run.protocol, run.method, run.ipc) == name
        if same and run.compressor is not None and record.accuracy is not None:
            stored_as = f"{run.compressor}@{run.budget}" if run.budget else run.compressor
            accuracies.setdefault(stored_as, {})[run.student, run.replicate] = record.accuracy
    whole = accuracies.get(UNCOMPRESSED, {})
    gains = {
        compressor: [each - whole[key] for key, each in accuracies.get(compressor, {}).items() if key in whole]
        for compressor in compressors
    }
    return [Drop(compressor, intervals.summary(each)) for compressor, each in gains.items()]


def rendered_spectra(probed: Sequence[Probed], format: str) -> str:
    """A row for each label set and domain, in a format of bench.reports.printers; what students lose by compressors
    stands in columns of its own."""
    names = list(dict.fromkeys(drop.name for each in probed for drop in each.drops))
    columns = by_key(
        (
            Column("dataset", "str"),
            Column("protocol", "str"),
            Column("ipc", "int64"),
            Column("method", "str", "method", left=True, width=METHOD_WIDTH),
            Column("domain", "str", "domain", left=True),
            Column("images", "int64", "images"),
            Column("rank", "float64", "effective rank", show_row=_rank),
            Column("rank_error", "float64"),
            Column("centred_rank", "float64", "centred", show=lambda value: f"{value:.2f}"),
            *(Column(f"energy_{count}", "float64", f"energy {count} %", percent) for count in ENERGIES),
            *(Column(f"drop {name}", "float64", name, show_row=_shown_drop(name)) for name in names),
            *(Column(f"drop {name}, ci95", "float64") for name in names),
        )
    )
    rows = [_row(each, domain, seen) for each in probed for domain, seen in each.domains.items()]
    tables: dict[str, list[Row]] = {}
    for row in rows:
        tables.setdefault(f"{row['dataset']}, {row['protocol']}, ipc {row['ipc']}", []).append(row)
    shown = [column for column in columns.values() if column.heading is not None]
    parts = [Table(shown, [group], title=title) for title, group in tables.items()]
    return printed(Page(parts, typed(columns, rows), notes=list(_notes(names))), format)


def _rank(row: Row) -> str:
    error = "" if math.isnan(row["rank_error"]) else f" ± {row['rank_error']:.2f}"
    return f"{row['rank']:.2f}{error}"


def _shown_drop(name: str) -> Callable[[Row], str]:
    return lambda row: interval(row[f"drop {name}"], row[f"drop {name}, ci95"], "+")


def _row(each: Probed, domain: str, seen: Spectra) -> Row:
    ranks = effective_rank(seen.values)
    values = {
        "dataset": each.name.dataset,
        "protocol": each.name.protocol,
        "ipc": each.name.ipc,
        "method": each.name.method,
        "domain": domain,
        "images": each.images,
        "rank": float(ranks.mean()),
        "rank_error": float(ranks.std(ddof=1) / math.sqrt(len(ranks))) if len(ranks) > 1 else math.nan,
        "centred_rank": float(effective_rank(seen.centred).mean()),
        **{f"energy_{count}": seen.energy(count) for count in ENERGIES},
    }
    for drop in each.drops:
        values |= {f"drop {drop.name}": drop.summary.mean, f"drop {drop.name}, ci95": drop.summary.half}
    return values


def _notes(names: Sequence[str]) -> Iterable[str]:
    yield (
        f"a matrix an image: its stored views by classes; means over {IMAGES} images at most. effective rank: exp of "
        "the entropy of the singular values over their sum, ± standard error over images; centred: less the mean row."
    )
    yield "energy k %: share of the sum of squares that the first k singular values hold. Low ranks compress well."
    if names:
        yield (
            f"{', '.join(names)}: what students gain on uncompressed labels, in points ± half of the 95 % t interval, "
            "paired by student and replicate; by the records, and the same for all domains."
        )
