"""Files with the weights of a network: read without unpickling code, and fitted to the network that a recipe names."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from bench.api import Dataset
from bench.errors import UserError
from bench.foreign.bounds import regular
from protocols.networks import build

State = dict[str, torch.Tensor]

KEYS = ("name", "order")  # how tensors are matched: by their names, or one after the other
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "net",
    "weights",
)  # of checkpoints, around the tensors
PREFIXES = ("module.", "model.", "_orig_mod.", "network.", "net.")  # of DataParallel, wrappers, torch.compile
SHOWN = 4
# Networks that a file is compared with, where it does not fit the one that its recipe names.
CANDIDATES: tuple[tuple[str, dict[str, Any]], ...] = (
    *((f"torchvision:resnet{depth}", {}) for depth in (18, 34, 50, 101)),
    *((f"torchvision:{name}", {}) for name in ("mobilenet_v2", "shufflenet_v2_x0_5", "efficientnet_b0", "alexnet")),
    *((name, {"width": width}) for name in ("convnet", "resnet") for width in (16, 32, 64, 128)),
    *(("convnet", {"width": 128, "depth": depth}) for depth in (2, 3, 4, 5)),
)


def file_digest(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(path: Path) -> State:
    """The tensors of a file by name: safetensors, or what torch.save wrote of a state dict or a checkpoint around one.
    Raises UserError where it holds none, or more than tensors."""
    try:
        if regular(path).suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with path.open("rb") as file:  # of the format before zip, no more is read from memory than there is
                packed = file.read(2) == b"PK"
            content = torch.load(path if packed else io.BytesIO(path.read_bytes()), "cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(f"{path} is no readable safetensors file ({error}).") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} holds more than tensors, and loading it would run its code. Save the weights alone: "
            f"torch.save(network.state_dict(), FILE), or safetensors.torch.save_file(network.state_dict(), FILE)."
        ) from None
    except (UserError, MemoryError):
        raise
    except Exception as error:  # torch's readers raise what comes
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} is no file of torch.save ({why}).") from None
    outermost = content
    while isinstance(content, Mapping) and (inner := next((w for w in WRAPPERS if _holds(content, w)), None)):
        content = content[inner]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, torch.Tensor)}
    if not tensors:
        names = ", ".join(map(str, outermost)) if isinstance(outermost, Mapping) else type(outermost).__name__
        raise UserError(f"{path} holds no tensors by name, only: {names}.")
    return tensors


def _holds(content: Mapping[Any, Any], wrapper: str) -> bool:
    return isinstance(content.get(wrapper), Mapping)


def fitted(
    state: State, network: nn.Module, dataset: Dataset, where: str, keys: str = "name", *, redrawn: bool = False
) -> State:
    """The tensors under the network's own names. Raises UserError where they are not those of such a network; `where`
    begins the message.

    `redrawn`: the network is trained on from them. A classifier of other classes and a first convolution for images of
    another size or other channels stay as the network has them.
    """
    state = {name: tensor.reshape(()) if _counts(name, tensor) else tensor for name, tensor in state.items()}
    own = network.state_dict()
    kept = _redrawn(own, dataset) if redrawn else {}
    if keys == "order":
        return _by_order(state, own, where, kept)
    names, given = _bare(own), {bare: state[name] for bare, name in _bare(state).items()}
    # Files of long ago do not count batches, and no result depends on it.
    counts = {bare for bare in {*names, *given} if bare.endswith("num_batches_tracked")}
    missing = [bare for bare in names if bare not in given and bare not in counts]
    surplus = [bare for bare in given if bare not in names and bare not in counts]
    if missing or surplus:
        parts = [f"it lacks {_some(missing)}"] if missing else []
        parts += [f"it has {_some(surplus)}, which the network lacks"] if surplus else []
        raise UserError(f"{where}: the file does not fit the network: {'; '.join(parts)}.{_likely(given, dataset)}")
    other = [bare for bare in names if bare in given and given[bare].shape != own[names[bare]].shape]
    drawn = {bare for bare in other if _fits_but(given[bare], own[names[bare]], kept.get(names[bare]))}
    if wrong := [bare for bare in other if bare not in drawn]:
        raise UserError(f"{where}: {_misfit(wrong, given, names, own, dataset)}{_likely(given, dataset)}")
    return {name: own[name] if bare in drawn else given.get(bare, own[name]) for bare, name in names.items()}


def _counts(name: str, tensor: torch.Tensor) -> bool:
    """Whether it is a count of batches, which some writers keep as a list of one."""
    return name.endswith("num_batches_tracked") and tensor.shape == (1,)


def _redrawn(own: State, dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """The tensors of a network that another data set may ask to have another shape, and their dimensions that may
    differ."""
    drawn: dict[str, tuple[int, ...]] = {
        name: (0,) for name, tensor in own.items() if tensor.ndim and len(tensor) == dataset.num_classes
    }
    first = next((name for name, tensor in own.items() if tensor.ndim == 4), None)
    return drawn if first is None else {**drawn, first: (1, 2, 3)}


def _fits_but(theirs: torch.Tensor, ours: torch.Tensor, dimensions: tuple[int, ...] | None) -> bool:
    """Whether two tensors have one shape but for these dimensions."""
    if dimensions is None or theirs.ndim != ours.ndim:
        return False
    return all(a == b or place in dimensions for place, (a, b) in enumerate(zip(theirs.shape, ours.shape, strict=True)))


def _misfit(wrong: list[str], given: State, names: Mapping[str, str], own: State, dataset: Dataset) -> str:
    shapes = [(tuple(given[bare].shape), tuple(own[names[bare]].shape)) for bare in wrong]
    if all(theirs and theirs[1:] == ours[1:] and ours[:1] == (dataset.num_classes,) for theirs, ours in shapes):
        return (
            f"the weights are for {shapes[0][0][0]} classes, and the data set has {dataset.num_classes}. Take weights "
            f"for these classes, or add a [recipe] that trains on from these."
        )
    texts = [f"{bare} {list(theirs)} for {list(ours)}" for bare, (theirs, ours) in zip(wrong, shapes, strict=True)]
    return f"tensors of other shapes than the network's: {_some(texts)}."


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more


def _by_order(state: State, own: State, where: str, kept: Mapping[str, tuple[int, ...]]) -> State:
    """The tensors one after the other; the last part of a name and the shape must agree, but for those of `kept`."""
    if len(state) != len(own):
        raise UserError(f"{where}: the file has {len(state)} tensors, and the network {len(own)}.")
    fitting = {}
    for (name, tensor), (other, weight) in zip(own.items(), state.items(), strict=True):
        fits = tensor.shape == weight.shape
        fitting[name] = weight if fits else tensor
        if not (fits or _fits_but(weight, tensor, kept.get(name))) or _last(name) != _last(other):
            raise UserError(
                f"{where}: the network has {name} {list(tensor.shape)} where the file has {other} {list(weight.shape)}."
            )
    return fitting


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _bare(names: Mapping[str, Any]) -> dict[str, str]:
    """Name without the prefixes that all names share -> name."""
    bare = {name: name for name in names}
    while prefix := next((each for each in PREFIXES if bare and all(name.startswith(each) for name in bare)), None):
        bare = {name.removeprefix(prefix): original for name, original in bare.items()}
    return bare


def _likely(given: State, dataset: Dataset) -> str:
    """A sentence that names the network whose tensors these are, if one of the usual ones is it."""
    shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
    for text, shape in usual(dataset.channels, dataset.size, dataset.num_classes):
        if all(name in shapes and shapes[name][1:] == shape[name][1:] for name in shape) and len(shape) == len(shapes):
            return f' Did you mean network = "{text}"?'
    return ""


@cache
def usual(channels: int, size: int, classes: int) -> tuple[tuple[str, dict[str, tuple[int, ...]]], ...]:
    """Spec and shapes of the candidates for images of this size; built once, which takes seconds."""
    return tuple(_built(channels, size, classes))


def _built(channels: int, size: int, classes: int) -> Iterator[tuple[str, dict[str, tuple[int, ...]]]]:
    for name, parameters in CANDIDATES:
        try:
            with torch.device("meta"):  # shapes alone
                network = build(name, channels=channels, size=size, num_classes=classes, seed=0, **parameters)
        except (UserError, RuntimeError):
            continue
        state = network.state_dict()
        options = ",".join(f"{key}={value}" for key, value in parameters.items())
        yield (
            f"{name}:{options}" if options else name,
            {bare: tuple(state[full].shape) for bare, full in _bare(state).items()},
        )
