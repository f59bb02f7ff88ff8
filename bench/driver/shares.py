"""Shares of a machine: what each stage asks Ray for, of GPUs and memory, and whether any machine has so much.

Students, teachers and labelling share a GPU by the memory that they need (bench/training/footprint.py). A method or a
compressor says by constants of its module what it needs: NUM_GPUS, GPU_MEMORY_GB, MEMORY_GB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.artifacts.refs import CondensedRef, DatasetRef
from bench.errors import UserError
from bench.plugins.context_use import asked_for, uses_teacher
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec, parse
from bench.teachers.teacher_files import TeacherRef, load_recipe
from bench.trials.cell import cell_recipe
from bench.trials.trial import Trial

GB = 10**9
SMALLEST = 1 / 8  # of a GPU: more than eight tasks on one wait for each other's kernels
PROCESSOR = "CUDA_VISIBLE_DEVICES= before the command runs everything on the processor."
SMALLER = f"--protocol NAME:recipe.accumulation=4 needs less (unofficial). {PROCESSOR}"
METHODS = (
    "Set its parameters so that it works on fewer images at once; GPU_MEMORY_GB in its module says what it needs. "
    f"{PROCESSOR}"
)
REMEDIES = {  # stage -> what to set where a whole GPU is too small
    "teach": f"Train it elsewhere and give its weights with --teacher FILE.toml. {PROCESSOR}",
    "condense": METHODS,
    "encode_labels": PROCESSOR,
    "evaluate": SMALLER,
    "learning_curve": SMALLER,
    "describe": PROCESSOR,
}
STEPS = 16  # shares are whole sixteenths, so that they add up to whole GPUs


@dataclass(frozen=True)
class Share:
    """What a stage asks for."""

    gpus: float = 0.0
    memory: int = 0  # bytes of the machine's; 0: as much as it needs, unsaid
    cpus: float = 1.0

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} core{'s' if self.cpus != 1 else ''}"]
        parts += [f"{self.gpus:g} GPU{'s' if self.gpus != 1 else ''}"] if self.gpus else []
        return ", ".join([*parts, f"{self.memory / GB:.1f} GB of memory"] if self.memory else parts)


class Shares:
    """Shares of GPUs by memory.

    Args:
        registry: plugins that the stages may name.
        gpu_memory: bytes of the smallest GPU that a task may get; 0: not known, so that a task gets whole ones.
        least: share of a GPU that every stage which uses one gets at least; None: by memory alone.
        teacher_gpus: that train a teacher together.
    """

    def __init__(self, registry: Registry, gpu_memory: int, least: float | None = None, teacher_gpus: int = 1) -> None:
        self._registry, self._gpu_memory, self._least = registry, gpu_memory, least
        self.teacher_gpus = teacher_gpus

    def of(self, stage: str, *args: Any) -> Share:
        """What a stage with these arguments asks for."""
        if stage == "condense":
            return self.of_method(args[0])
        if stage == "encode_labels":
            return self.of_labelling(*args[:4])
        if stage == "teach":
            return Share(self.of_teacher(*args[:2]))
        if stage in ("evaluate", "learning_curve"):
            trial, dataset, condensed, _, labellers = args[:5]
            return Share(self.of_training(trial, dataset, condensed, labellers))
        return Share()

    def of_bytes(self, needed: float) -> float:
        """The share that a task of so many bytes gets: at most one whole GPU, which it also gets where the memory of
        the GPUs is not known."""
        if not self._gpu_memory:
            return 1.0
        share = math.ceil(STEPS * needed / self._gpu_memory) / STEPS
        return min(1.0, max(SMALLEST, self._least or 0.0, share))

    def of_method(self, spec: str) -> Share:
        """What a method asks for. One that says nothing gets a GPU if its code asks the context for a network or for
        the device; each call of a method then has a GPU of its own, since nobody knows what it will take."""
        method = parse(self._registry, "method", spec)
        return self._by_constants(method, 1.0 if computes_on_the_device(method) else 0.0)

    def of_training(self, trial: Trial, dataset: DatasetRef, condensed: CondensedRef, labellers: Any = ()) -> float:
        """The share of a trial's student."""

        def needed() -> int:
            from bench.training import footprint

            _, recipe = cell_recipe(self._registry, trial, dataset.classes)
            teachers = [self._network(ref.network) for ref in labellers]
            student, sizes = self._network(trial.student), _sizes(dataset)
            return footprint.training(student, recipe, teachers, images=condensed.images, **sizes)

        return self._measured(needed)

    def of_teacher(self, name: str, dataset: DatasetRef) -> float:
        """The share of the training of a teacher; of one that has published weights, that of asking it."""

        def needed() -> int:
            from bench.training import footprint

            recipe, sizes = load_recipe(self._registry, name, dataset.spec, dataset.classes), _sizes(dataset)
            if recipe.recipe is None:
                return footprint.labelling([recipe.network], images=dataset.train_images, **sizes)
            return footprint.training(recipe.network, recipe.recipe, (), images=dataset.train_images, **sizes)

        return float(self.teacher_gpus) if self.teacher_gpus > 1 else self._measured(needed)

    def of_labelling(
        self, trial: Trial, dataset: DatasetRef, labellers: Sequence[TeacherRef], condensed: CondensedRef
    ) -> Share:
        """What labelling a condensed set asks for, and the compressor beside it."""

        def needed() -> int:
            from bench.training import footprint

            teachers = [self._network(ref.network) for ref in labellers]
            return footprint.labelling(teachers, images=condensed.images, **_sizes(dataset))

        assert trial.compressor is not None
        hinted = self.of_compressor(trial.compressor)
        return Share(max(self._measured(needed), hinted.gpus), hinted.memory)

    def of_compressor(self, spec: str) -> Share:
        """What a compressor asks for by itself."""
        return self._by_constants(parse(self._registry, "compressor", spec), 0.0)

    def _measured(self, needed: Callable[[], int]) -> float:
        """The share of a task by the bytes that it needs; a whole GPU where they cannot be measured. Nothing is
        measured where the GPUs' memory is not known, nor where there is none."""
        if not self._gpu_memory:
            return 1.0
        try:
            return self.of_bytes(needed())
        except (RuntimeError, NotImplementedError, UserError):  # the stage itself tells what is wrong, if anything is
            return 1.0

    def _by_constants(self, plugin: Spec, default: float) -> Share:
        constants = plugin.plugin.constants
        gpus = float(constants.get("NUM_GPUS", default))
        if needed := constants.get("GPU_MEMORY_GB"):
            gpus = max(float(constants.get("NUM_GPUS", 0.0)), self.of_bytes(needed * GB))
        if gpus > 1 and not gpus.is_integer():
            raise UserError(
                f"{plugin.plugin.kind} '{plugin}': NUM_GPUS = {gpus:g} is neither a share of one GPU nor a whole "
                f"number of them. Write NUM_GPUS = {math.ceil(gpus)}, for instance."
            )
        return Share(gpus, int(constants.get("MEMORY_GB", 0) * GB))

    def _network(self, spec: Any) -> Spec:
        return parse(self._registry, "network", str(spec))


def computes_on_the_device(method: Spec) -> bool:
    """Whether a method asks its context for a network's work or for the device, by its code."""
    return uses_teacher(method) or bool(asked_for(method.plugin) & {"teacher", "dynamics", "device"})


def unmet(share: Share, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Why no machine can give this share, in words; None where one can. `nodes`: Ray's resources of each machine."""
    wanted = {"GPU": share.gpus, "memory": share.memory, "CPU": share.cpus}
    if any(all(wanted[name] <= node.get(name, 0.0) for name in wanted) for node in nodes):
        return None
    gpus, memory, cpus = (max((node.get(name, 0.0) for node in nodes), default=0.0) for name in wanted)
    most = Share(gpus, int(memory), cpus)
    return f"it asks for {share}, and no machine has all of that ({len(nodes)} in all, with at most {most})"


def plugins_that_wish(shares: Shares, trials: Sequence[Trial]) -> Iterator[tuple[str, Share]]:
    """(who, what it asks for) of all that runs in these trials."""
    yield "A trial", Share()
    if shares.teacher_gpus > 1:
        yield f"--teacher-gpus {shares.teacher_gpus}", Share(float(shares.teacher_gpus))
    for method in dict.fromkeys(trial.method for trial in trials):
        yield f"Method '{method}'", shares.of_method(method)
    for compressor in dict.fromkeys(trial.compressor for trial in trials if trial.compressor is not None):
        yield f"Compressor '{compressor}'", shares.of_compressor(compressor)


def gpu_full(stage: str, share: Share, gpu_memory: int, reason: str) -> str:
    """The fault of a GPU whose memory did not do, and what to set. `reason`: torch's words."""
    size = f" of {gpu_memory / GB:.1f} GB" if gpu_memory else ""
    had = f"a whole GPU{size}" if share.gpus >= 1 else f"{share.gpus:g} of a GPU{size} (--gpu-share 1 gives it all)"
    what = f"the GPU ran out of memory while it ran '{stage}', which had {had}."
    return f"{what} {REMEDIES[stage]} Torch says: {reason.partition('. ')[0].rstrip('.')}."


def _sizes(dataset: DatasetRef) -> dict[str, int]:
    return {"channels": dataset.channels, "size": dataset.size, "classes": dataset.classes}
