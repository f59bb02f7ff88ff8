"""Submissions, honest and unfair: real records of real short runs on `digits`, under a protocol of a dozen epochs.

The cheater has the harness's source and changes what suits: here its own functions, patched, in the test's process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.artifacts.describe import describe
from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace
from bench.checks.records.board import Line, cells
from bench.checks.records.check_records import check_records
from bench.checks.records.rules import Findings
from bench.checks.verify.verification import verify
from bench.driver.run import run
from bench.finding import Finding
from bench.plugins.registry import Registry, discover
from bench.records import files
from bench.records.files import Record
from bench.stages import isolation, train
from bench.stages.condense import condense
from bench.stages.encode import encode_labels
from bench.stages.evaluate import evaluate
from bench.stages.teach import teach
from bench.submission import archive_contents
from bench.submission.plan_of_records import plan_of
from bench.teachers.teacher_files import TeacherRef
from bench.training import loop
from bench.trials.cell import cell_recipe
from bench.trials.trial import Trial
from tests.worlds.honest import altered, write
from tests.worlds.plugins import write as write_plugin

SOFT, HARD = "dozen-soft", "dozen-hard"
PROTOCOL = """
title = "A dozen epochs"
source = "A test's own."
labels = "{labels}"
teacher = "small-teacher-v1"
student = "convnet:width=8"
[recipe]
epochs = 12
batch = 5
views = {views}
optimizer = {{ lr = 0.01 }}
schedule = {{ name = "constant" }}
loss = {{ name = "{loss}" }}
augment = {{ crop_scale = [0.5, 1.0] }}
"""
LEAKY = '''
"""Images of the test split, handed in as its own."""

import numpy as np
import torch

from bench.api import Condensed
from protocols.datasets.digits import load


def synthesize(train, ipc, ctx):
    test = load(None).test()
    chosen = np.concatenate([np.flatnonzero(test.labels == c)[:ipc] for c in range(train.num_classes)])
    return Condensed(torch.from_numpy(test.read(chosen)), torch.from_numpy(test.labels[chosen].astype(np.int64)))
'''


@dataclass
class Arena:
    """One place in which submissions are made and judged."""

    root: Path
    registry: Registry
    plugins: list[Path]

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def protocols(self) -> list[Path]:
        return [path for path in self.plugins if path.suffix == ".toml"]

    @property
    def leaky(self) -> Path:
        """The method that leaks."""
        return self.root / "plugins" / "leaky.py"

    def run(self, folder: str, **grid: Any) -> list[Record]:
        """An honest run: `digits`, one image a class."""
        # Native, as this process is, in which cheaters train.
        names = {"datasets": ["digits"], "ipcs": [1], "methods": ["random", "herding"], **grid}
        place = self.root / folder
        run(results=place, plugins=self.plugins, jobs=2, store=self.store, arithmetic="native", **names)
        return files.load(place).records

    def check(self, folder: Path, lines: Sequence[Record]) -> set[str]:
        """Rules that `check records` finds broken, as errors."""
        checked = check_records(write(folder, list(lines)), registry=self.registry, store=self.store)
        return _errors(checked.findings)

    def verify(self, lines: Sequence[Record]) -> list[Finding]:
        """The errors that `verify` finds for the one replicate that is handed in, the last of the lines."""
        return [finding for finding in self.judge(lines) if finding.severity == "error"]

    def judge(self, lines: Sequence[Record], count: int = 1) -> list[Finding]:
        """All that `verify` finds for the last `count` of the lines."""
        everything = [Line(record, f"records.jsonl:{n}") for n, record in enumerate(lines, 1)]
        out = Findings()
        verify(everything[-count:], cells(everything), self.registry, out, jobs=2)
        return list(out)


def make_arena(root: Path) -> Arena:
    """Two protocols of a dozen epochs and the method that leaks."""
    plugins = [
        write_plugin(root / "plugins" / f"{SOFT}.toml", PROTOCOL.format(labels="stored", views=4, loss="kl")),
        write_plugin(root / "plugins" / f"{HARD}.toml", PROTOCOL.format(labels="hard", views=0, loss="ce")),
        write_plugin(root / "plugins" / "leaky.py", LEAKY),
    ]
    return Arena(root, discover(plugins), plugins)


class Cheater:
    """Runs the stages of one trial in this process, and does with them what the harness would not."""

    def __init__(self, arena: Arena, monkeypatch: Any) -> None:
        self._arena, self._patch = arena, monkeypatch
        torch.set_num_threads(1)  # as workers have; with two, bits differ
        self.ws = Workspace(arena.store.resolve(), arena.registry)
        self.dataset: DatasetRef = describe(self.ws, "digits")
        self.teacher: TeacherRef = teach(self.ws, "small-teacher-v1", self.dataset)

    def condensed(self, trial: Trial) -> CondensedRef:
        """What the method made in the honest run."""
        return condense(self.ws, trial.method, self.dataset, self.teacher, trial.ipc, trial.replicate)

    def labels(self, trial: Trial, teacher: TeacherRef | None = None) -> list[LabelsRef]:
        """Encoded labels, of another teacher if one is given."""
        if trial.compressor is None:
            return []
        labellers = (teacher or self.teacher,)
        return encode_labels(self.ws, trial, self.dataset, labellers, self.condensed(trial), [0])

    def evaluated(self, trial: Trial, labels: list[LabelsRef]) -> dict[str, Any]:
        """The measured fields, as the harness as it stands now tells them."""
        condensed = self.condensed(trial)
        self._patch.setattr(isolation, "_method_code_ran", False)
        measured = evaluate(self.ws, trial, self.dataset, condensed, labels)
        return {key: value for key, value in measured.items() if key not in ("seconds", "environment")}

    def for_longer(self, times: int) -> None:
        """Train for more epochs than the protocol says."""
        honest = cell_recipe

        def longer(*args: Any) -> Any:
            fixed, recipe = honest(*args)
            return fixed, recipe.model_copy(update={"epochs": times * recipe.epochs})

        for stage in ("encode", "evaluate"):
            self._patch.setattr(f"bench.stages.{stage}.cell_recipe", longer)

    def best_epoch(self, trial: Trial, labels: list[LabelsRef]) -> tuple[int, float, float]:
        """(epoch, accuracy, test loss) of the best of all epochs on the test split."""
        images, targets = self.ws.described(self.dataset).test_images()
        d = self.ws.described(self.dataset).dataset
        seen: list[tuple[float, int, float]] = []

        def look(epoch: int, student: torch.nn.Module) -> None:
            found = loop.evaluate(student, images, targets, mean=d.mean, std=d.std)
            seen.append((found.accuracy, -epoch, found.loss))

        honest = train.train
        self._patch.setattr(train, "train", lambda *a, **kw: honest(*a, **{**kw, "on_epoch_end": look}))
        self.evaluated(trial, labels)
        self._patch.setattr(train, "train", honest)
        accuracy, epoch, loss = max(seen)
        return -epoch + 1, accuracy, loss


def under(record: Record, replicate: int, **changed: Any) -> Record:
    """The result of one trial under the name of another replicate, with every digest as it should be."""
    trial = replace(Trial.from_dict(record.trial), replicate=replicate)
    return altered(record, id=trial.id, trial={**trial.as_dict(), "id": trial.id}, **changed)


def submission(hard: list[Record], *herding: Record) -> list[Record]:
    """Honest replicates of `random`, and what is handed in for herding."""
    return [record for record in hard if record.trial["method"] == "random"] + list(herding)


def of(hard: list[Record], replicate: int) -> Record:
    """Herding's honest record."""
    return next(r for r in hard if r.trial["method"] == "herding" and r.trial["replicate"] == replicate)


def from_elsewhere(record: Record, **changed: object) -> Record:
    """A claim of another kind of machine: made here in native arithmetic, it says that it is portable and from another
    Python, so that it runs again in portable arithmetic and is compared by statistics."""
    return altered(record, environment={"arithmetic": "portable", "python": "0"}, **changed)


def lies(honest: list[Record], hard: list[Record], cheater: Cheater) -> dict[str, list[Record]]:
    """Rule -> a submission, the last record of which lies. Afterwards this process trains longer than it should."""
    last, trial = of(hard, 2), Trial.from_dict(of(hard, 2).trial)
    soft, labelled = honest[-1], Trial.from_dict(honest[-1].trial)
    assert soft.bytes_labels is not None
    _, accuracy, loss = cheater.best_epoch(trial, [])
    whole = replace(labelled, compressor="none", budget=None)
    larger = cheater.evaluated(whole, cheater.labels(whole))
    cheater.for_longer(3)
    longer = cheater.evaluated(trial, [])
    measured = ("accuracy", "test_loss", "train_loss")
    best = max((r for r in range(3, 10)), key=lambda r: of(hard, r).accuracy)
    smaller = {"total": soft.bytes_labels.total - 40, "blobs": soft.bytes_labels.blobs - 40}
    last_lines = {
        "more-epochs": altered(last, **{key: longer[key] for key in measured}),
        "other-labels": altered(soft, **{key: larger[key] for key in measured}),
        "other-bytes": altered(soft, bytes_labels=smaller),
        "best-epoch": altered(last, accuracy=accuracy, test_loss=loss),
        "picked-seed": under(of(hard, best), 2),
        "edited-accuracy": altered(last, accuracy=round(600 * last.accuracy + 100) / 600),
        "other-images": altered(last, condensed={"digest": "0" * 64}),
    }
    rows = {"other-labels": honest[:-1], "other-bytes": honest[:-1]}
    others = submission(hard, of(hard, 0), of(hard, 1))
    return {rule: [*rows.get(rule, others), lie] for rule, lie in last_lines.items()}


def sent(arena: Arena, folder: Path, lines: Sequence[Record], *further: Path) -> Path:
    """What a cheater sends: the archive of these records, packed as `submit` does it but not checked. With the
    protocols of the arena, and further plugins."""
    reports = {
        name: archive_contents.report_of([], "nothing was checked")
        for name in (archive_contents.CHECKED, archive_contents.VERIFIED)
    }
    files = {
        archive_contents.RECORDS: "".join(f"{line.line()}\n" for line in lines).encode(),
        archive_contents.PLAN: plan_of([line.run for line in lines]).encode(),
        archive_contents.ENVIRONMENT: b"{}",
        **reports,
        **{f"{archive_contents.PLUGINS}/{file.name}": file.read_bytes() for file in (*arena.protocols, *further)},
    }
    path = folder / "sent.zip"
    path.write_bytes(archive_contents.pack(files, version="0", engine="0", records=len(lines)))
    return path


def _errors(findings: Sequence[Finding]) -> set[str]:
    return {finding.rule for finding in findings if finding.severity == "error"}
