"""Condensed sets by name: which ones a plan or options speak of, and each of them, out of the store or made now.

For the verbs that look at condensed sets and train no student. A set is the very one that `run` scores: it depends on
the data set, the method, the images per class, the replicate, and the first teacher of a protocol, on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.artifacts.describe import describe
from bench.artifacts.refs import CondensedRef, DatasetRef, Workspace
from bench.driver.defaults import make_plan
from bench.plugins.context_use import uses_teacher
from bench.plugins.registry import Registry
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.stages.condense import condense
from bench.stages.teach import teach
from bench.teachers.teacher_files import TeacherRef, UnusedTeacher


@dataclass(frozen=True)
class SetName:
    """What a condensed set is made of, apart from the replicate. Specs are canonical (bench/plugins/spec.py)."""

    dataset: str
    teacher: str  # the recipe of the teacher that methods see
    method: str
    ipc: int


def named_sets(
    registry: Registry,
    *,
    plan: str | None,
    datasets: Sequence[str],
    methods: Sequence[str],
    ipcs: Sequence[int],
    protocols: Sequence[str],
) -> list[SetName]:
    """Every set once, in the order of the plan, or of the options where `plan` is None; see
    bench.driver.defaults.make_plan.

    Raises:
        UserError: a name or a value that is not known; a plan beside options; neither of them.
    """
    chosen = make_plan(plan=plan, datasets=datasets, methods=methods, ipcs=ipcs, protocols=protocols)
    names = (
        SetName(
            trial.dataset, definition.load(registry, trial.protocol).teachers(trial.dataset)[0], trial.method, trial.ipc
        )
        for trial in chosen.trials(registry)
    )
    return list(dict.fromkeys(names))


class Opened:
    """The data sets and teachers of some names, made ready before code of any method runs in this process."""

    def __init__(self, ws: Workspace, names: Iterable[SetName]) -> None:
        self.ws = ws
        self._datasets: dict[str, DatasetRef] = {}
        self._teachers: dict[tuple[str, str], TeacherRef] = {}
        for name in names:
            if name.dataset not in self._datasets:
                self._datasets[name.dataset] = describe(ws, name.dataset)
            if self._uses_teacher(name) and (name.dataset, name.teacher) not in self._teachers:
                taught = teach(ws, name.teacher, self._datasets[name.dataset])
                self._teachers[name.dataset, name.teacher] = taught

    def dataset(self, name: SetName) -> DatasetRef:
        """The data set of a name."""
        return self._datasets[name.dataset]

    def teacher(self, name: SetName) -> TeacherRef | UnusedTeacher:
        """The teacher of a name, where its method asks for one."""
        if self._uses_teacher(name):
            return self._teachers[name.dataset, name.teacher]
        return UnusedTeacher(name.teacher)

    def _uses_teacher(self, name: SetName) -> bool:
        return uses_teacher(parse(self.ws.registry, "method", name.method))

    def condense(self, name: SetName, replicate: int) -> CondensedRef:
        """The set of a replicate: replicate 0's where the method asks for no randomness. Raises whatever it raises."""
        arguments = (self.ws, name.method, self.dataset(name), self.teacher(name), name.ipc)
        balanced = not parse(self.ws.registry, "method", name.method).plugin.unbalanced
        first = condense(*arguments, 0, balanced)
        return condense(*arguments, replicate, balanced) if replicate and first.random else first
