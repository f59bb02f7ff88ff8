"""The raw labels that a run will make: what they take, and whether they are kept. Told before anything is made."""

from __future__ import annotations

from collections.abc import Iterable

from bench.artifacts.refs import Workspace
from bench.artifacts.size_limits import KEEP_LABELS, keep_limit
from bench.labels.kept_labels import RAW, SMALL
from bench.photographs.cache_limits import shown
from bench.trials.cell import cell_recipe
from bench.trials.trial import Trial


def labels_to_keep(ws: Workspace, trials: Iterable[Trial]) -> list[str]:
    """A line for each data set, protocol and number of images per class whose raw labels take more than SMALL. A trial
    that cannot be read is left out: it tells why when it runs. Raises UserError where the limit is no size."""
    limit, sets = keep_limit(), dict[tuple[str, str, int], set[tuple[str, int]]]()
    trials = list(trials)
    for trial in trials:
        if trial.compressor is not None:
            sets.setdefault((trial.dataset, trial.protocol, trial.ipc), set()).add((trial.method, trial.replicate))
    lines = []
    for trial in _first_of_each(trials, sets):
        try:
            classes = ws.data(trial.dataset).dataset.num_classes
            _, recipe = cell_recipe(ws.registry, trial, classes)
        except Exception:  # the trials that fail for it tell why
            continue
        size = trial.ipc * classes * recipe.views * classes * 2
        if size > SMALL:
            key = trial.dataset, trial.protocol, trial.ipc
            most = len(sets[key])  # methods that draw have a set for each replicate, the others share one
            lines.append(_line(f"{trial.dataset}, {trial.protocol}, ipc {trial.ipc}", size, most, limit, ws))
    return lines


def _first_of_each(trials: Iterable[Trial], keys: Iterable[tuple[str, str, int]]) -> list[Trial]:
    first: dict[tuple[str, str, int], Trial] = {}
    for trial in trials:
        if trial.compressor is not None:
            first.setdefault((trial.dataset, trial.protocol, trial.ipc), trial)
    return [first[key] for key in keys]


def _line(name: str, size: int, most: int, limit: int, ws: Workspace) -> str:
    sets = "the raw labels of a condensed set" if most > 1 else "the raw labels"
    if size > limit:
        return (
            f"{name}: {sets} take {shown(size)}, more than may be kept ({shown(limit)}): every compressor and budget "
            f"asks the teacher again. {KEEP_LABELS.option} {-(-size // 10**9)}GB keeps them."
        )
    several = f", up to {most} sets" if most > 1 else ""
    beyond = "; sets beyond the limit are labelled again for every compressor and budget" if most * size > limit else ""
    return (
        f"{name}: {sets} take {shown(size)}{several}; they are made once and kept in {ws.store.root / RAW} (limit "
        f"{shown(limit)}, see {KEEP_LABELS.option}){beyond}."
    )
