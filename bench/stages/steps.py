"""The steps of a method that learns its images: done one after the other, and continued after a kill to the same bits.

A checkpoint holds tensors alone (safetensors): nothing that a plugin wrote is unpickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from bench.api import Stepped
from bench.errors import PluginError
from bench.training.course import Course

COUNT = "/count"  # the name under which the number of steps is kept: no part of a state has a name like this


class UnfitCheckpointError(Exception):
    """A checkpoint holds another state than the one that is to be restored."""


class State:
    """The state of a method between two of its steps.

    Args:
        count: how many steps there are.
        parts: what changes from step to step, by name.

    Raises:
        PluginError: a part is of no kind that can be kept.
    """

    def __init__(self, count: int, parts: Mapping[str, Stepped]) -> None:
        self._count, self._parts = count, dict(parts)
        for name, part in self._parts.items():
            if not name or "/" in name or not isinstance(part, Tensor | Generator | Optimizer | nn.Module | list):
                raise PluginError(
                    f"ctx.steps: part {name!r} of the state is a {type(part).__name__}; it must be a torch tensor, a "
                    f"torch.Generator, an optimizer of torch, a module or a list of floats, by a name without '/'."
                )
        try:
            self.tensors()
        except (TypeError, ValueError) as error:  # a list of other things: told now, not a minute later
            raise PluginError(f"ctx.steps: a list of the state holds something else than floats ({error}).") from None

    def tensors(self) -> dict[str, Tensor]:
        """Copies of everything that changes, by name, on the CPU."""
        kept = {COUNT: torch.tensor(self._count)}
        for name, part in self._parts.items():
            if isinstance(part, Generator):
                kept[name] = part.get_state()
            elif isinstance(part, list):
                kept[name] = torch.tensor(part, dtype=torch.float64)
            elif isinstance(part, Optimizer):
                kept |= _of_optimizer(name, part)
            else:
                kept |= _in_place(name, part)
        return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in kept.items()}

    def restore(self, kept: dict[str, Tensor]) -> None:
        """The inverse of `tensors`, in place. Raises UnfitCheckpointError, and then has changed nothing."""
        self._hold_fitting(kept)
        with torch.no_grad():
            for name, part in self._parts.items():
                if isinstance(part, Generator):
                    part.set_state(kept[name])
                elif isinstance(part, list):
                    part[:] = kept[name].tolist()
                elif isinstance(part, Optimizer):
                    _restore_optimizer(part, _below(kept, name))
                else:
                    for each, tensor in _in_place(name, part).items():
                        tensor.copy_(kept[each])

    def _hold_fitting(self, kept: dict[str, Tensor]) -> None:
        """Raise UnfitCheckpointError unless names, shapes and types are those of the present state. Lists grow, and an
        optimizer has a state only after its first step."""
        grows = {name for name, part in self._parts.items() if isinstance(part, list | Optimizer)}
        present = {name: each for name, each in self.tensors().items() if name.partition("/")[0] not in grows}
        fixed = {name: each for name, each in kept.items() if name.partition("/")[0] not in grows}
        lists = {name for name, part in self._parts.items() if isinstance(part, list)}
        if (
            _shapes(present) != _shapes(fixed)
            or not lists <= kept.keys()
            or int(fixed[COUNT]) != self._count
            or any(set(_rates(name, part)) - kept.keys() for name, part in self._optimizers())
        ):
            raise UnfitCheckpointError

    def _optimizers(self) -> Iterator[tuple[str, Optimizer]]:
        for name, part in self._parts.items():
            if isinstance(part, Optimizer):
                yield name, part


def steps(
    course: Course,
    count: int,
    parts: Mapping[str, Stepped],
    facts: Callable[[], dict[str, Any]],
    go_on: Callable[[dict[str, Any]], None],
) -> Iterator[int]:
    """The numbers of the steps that are still to do, see bench.api.Context.steps.

    Args:
        course: of these steps alone; tells them, and keeps their checkpoints.
        count: how many steps there are.
        parts: the state.
        facts: JSON values that are kept with the state.
        go_on: is given them where a checkpoint is continued.

    Raises:
        PluginError: a part of the state is of no kind that can be kept.
    """
    state = State(count, parts)

    def each() -> Iterator[int]:
        try:
            kept = course.begin(count, 1, state)
        except UnfitCheckpointError:
            kept = None
        if kept is not None:
            go_on(kept)
        for step in range(0 if kept is None else kept["epochs_done"], count):
            yield step
            course.step(1)
            course.epoch_ends(state, facts())

    return each()


def _in_place(name: str, part: Tensor | nn.Module) -> dict[str, Tensor]:
    """The tensors themselves, by name: of a module its parameters and all its buffers."""
    if isinstance(part, Tensor):
        return {name: part}
    return {f"{name}/{each}": tensor for each, tensor in [*part.named_parameters(), *part.named_buffers()]}


def _of_optimizer(name: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """What an optimizer remembers of every parameter, and its rates."""
    kept = _rates(name, optimizer)
    for index, memory in optimizer.state_dict()["state"].items():
        for key, value in memory.items():
            if isinstance(value, Tensor):
                kept[f"{name}/state/{index}/{key}"] = value
            elif value is not None:
                raise PluginError(f"ctx.steps: {type(optimizer).__name__} remembers a {type(value).__name__} ({key}).")
    return kept


def _rates(name: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """What a loop may set in an optimizer's groups, as the learning rate: floats, tuples of them, tensors."""
    kept = {}
    for index, group in enumerate(optimizer.param_groups):
        for key, value in group.items():
            if isinstance(value, Tensor):
                kept[f"{name}/groups/{index}/{key}"] = value
            elif isinstance(value, float) or (isinstance(value, tuple) and value):
                kept[f"{name}/groups/{index}/{key}"] = torch.tensor(value, dtype=torch.float64)
    return kept


def _restore_optimizer(optimizer: Optimizer, kept: dict[str, Tensor]) -> None:
    """The groups stay the same objects: a loop may hold one to set its rate."""
    groups = optimizer.param_groups
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in kept.items():
        kind, index, key = name.split("/", 2)
        if kind == "state":
            state.setdefault(int(index), {})[key] = tensor
            continue
        present = groups[int(index)][key]
        if isinstance(present, Tensor):
            present.copy_(tensor)
        else:
            groups[int(index)][key] = tuple(tensor.tolist()) if isinstance(present, tuple) else float(tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    optimizer.param_groups = groups


def _below(kept: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {each.removeprefix(f"{name}/"): tensor for each, tensor in kept.items() if each.startswith(f"{name}/")}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
