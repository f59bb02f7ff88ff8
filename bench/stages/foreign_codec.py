"""A compressor that a plugin gives, called in its own process: the harness holds a stand-in with the same functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

from bench.api import SoftLabels, Survey
from bench.artifacts.refs import DatasetRef, Workspace
from bench.confinement.plugin_limits import PluginFailure
from bench.confinement.process import PluginProcess
from bench.errors import PluginError
from bench.plugins.spec import Spec
from bench.seeds import Coordinate
from bench.stages.lend import Lending
from bench.teachers.teacher_files import TeacherRef


class ForeignCodec:
    """A stand-in for the module of a compressor: `encode`, `decode` and what else it defines, with their parameters."""

    def __init__(self, spec: Spec, process: PluginProcess, surveys: _Surveys) -> None:
        self.__name__ = spec.plugin.name
        self.process, self._surveys = process, surveys
        self.TAKES_BUDGET = spec.plugin.constants.get("TAKES_BUDGET", True)
        functions: dict[str, Callable[..., Any]] = {"encode": self._encode, "fit": self._fit}
        told = process.call("bench.stages.lent:codec")
        if not isinstance(told, dict):
            raise PluginError(f"compressor '{spec}': its process does not tell its functions.")
        for name, parameters in told.items():
            setattr(self, name, _with_parameters(functions.get(name) or self._function(name), parameters))

    def _encode(self, labels: SoftLabels, allowance: int, ctx: Any, shared: bytes = b"", **_: Any) -> Any:  # noqa: ARG002
        return self.process.call("bench.stages.lent:encode", labels, allowance, shared)

    def _fit(self, labels: SoftLabels, allowance: int, ctx: Any, survey: Survey | None = None, **_: Any) -> Any:  # noqa: ARG002
        self._surveys.survey = survey
        return self.process.call("bench.stages.lent:fit", labels, allowance, survey is not None)

    def _function(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            sent = tuple(bytes(each) if isinstance(each, memoryview) else each for each in args)  # of a mapped file
            return self.process.call("bench.stages.lent:call", name, sent, keywords)

        return call


def _with_parameters(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """The function under the parameters that the compressor's has: the adapter looks at them."""

    def standing_in(*args: Any, **keywords: Any) -> Any:
        return function(*args, **keywords)

    parameters = [inspect.Parameter(str(name), inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    standing_in.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # as functools.wraps does
    return standing_in


class _Surveys:
    """The harness's survey, as the compressor's process asks for it: shard by shard."""

    def __init__(self) -> None:
        self.survey: Survey | None = None
        self._shards: Iterator[SoftLabels] = iter(())

    def begin(self, views: Sequence[int]) -> None:
        """The views that are wanted."""
        if self.survey is None:
            raise PluginFailure("PluginError", "there is no survey: a single shard has all images")
        self._shards = self.survey(views)

    def following(self) -> SoftLabels | None:
        """The labels of the next shard; None after the last."""
        return next(self._shards, None)


@contextmanager
def codec_of(
    ws: Workspace, spec: Spec, dataset: DatasetRef, teacher: TeacherRef | None, coordinates: tuple[Coordinate, ...]
) -> Iterator[tuple[ModuleType, PluginProcess | None]]:
    """(the compressor's module, its process): the module itself where this project ships it, else a stand-in. Without a
    teacher there is no context: enough to decode."""
    if not spec.plugin.foreign:
        yield spec.plugin.module, None
        return
    surveys = _Surveys()
    lending = Lending(ws, spec, dataset, teacher, None, coordinates, context=teacher is not None)
    with lending.process({"survey": surveys.begin, "surveyed": surveys.following}) as process:
        yield cast(ModuleType, ForeignCodec(spec, process, surveys)), process
