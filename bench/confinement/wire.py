"""Messages between the harness and a plugin's process: pickles to the plugin, JSON and arrays from it."""

from __future__ import annotations

import io
import json
import pickle
import socket
import stat
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np

HEAD = struct.Struct("<Q")
LARGEST_ANSWER = 64 * 2**20  # bytes of JSON that a plugin may send; arrays go by file


class Closed(Exception):
    """The other side is gone, or what it sends is no message."""


class Ended(Closed):
    """The other side is gone."""


def send(end: socket.socket, content: bytes) -> None:
    """One message. Raises Closed."""
    try:
        end.sendall(HEAD.pack(len(content)))
        end.sendall(content)
    except OSError as error:
        raise Ended(str(error)) from None


def receive(end: socket.socket, *, largest: int | None = None, deadline: float | None = None) -> bytes:
    """One message. Raises Closed, and TimeoutError where it is not whole at the deadline (time.monotonic())."""
    (length,) = HEAD.unpack(_exactly(end, HEAD.size, deadline))
    if largest is not None and length > largest:
        raise Closed(f"a message of {length} bytes; at most {largest} are read")
    return _exactly(end, length, deadline)


def _exactly(end: socket.socket, length: int, deadline: float | None) -> bytes:
    content = bytearray()
    while len(content) < length:
        end.settimeout(None if deadline is None else max(deadline - time.monotonic(), 1e-3))
        try:
            piece = end.recv(min(length - len(content), 2**20))
        except TimeoutError:
            raise
        except OSError as error:
            raise Ended(str(error)) from None
        finally:
            end.settimeout(None)
        if not piece:
            raise Ended("it has closed its end")
        content += piece
    return bytes(content)


class _Pickler(pickle.Pickler):
    """Arrays that are mapped from a file travel as the file's name."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.memmap) and value.filename is not None and type(value.base) is not np.memmap:
            return _mapped, (value.filename, value.dtype.str, value.offset, value.shape)
        return NotImplemented


def _mapped(file: str, dtype: str, offset: int, shape: tuple[int, ...]) -> np.memmap:
    return np.memmap(file, dtype=np.dtype(dtype), mode="r", offset=offset, shape=shape)


def to_plugin(value: Any) -> bytes:
    """A value as it is sent to a plugin's process."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def plain(value: Any, file: Path) -> Any:
    """A value as JSON; its arrays, tensors and bytes go to files beside `file`, NumPy's format. Raises TypeError for
    anything else."""
    arrays: list[np.ndarray] = []
    tree = _tree(value, arrays)
    for index, array in enumerate(arrays):
        np.save(_part(file, index), array, allow_pickle=False)
    return tree


def _part(file: Path, index: int) -> Path:
    return file.with_name(f"{file.name}.{index}.npy")


def _tree(value: Any, arrays: list[np.ndarray]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return value.item()
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_tree(each, arrays) for each in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _tree(each, arrays) for key, each in value.items()}}
    import torch  # where values travel; the process that hands out stages does without

    kind = {bytes: "bytes", np.ndarray: "array", torch.Tensor: "tensor"}.get(type(value))
    if kind is None:
        raise TypeError(f"a value of type {type(value).__name__}")
    if kind == "bytes":
        value = np.frombuffer(value, np.uint8)
    elif kind == "tensor":
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    arrays.append(value)
    return {kind: len(arrays) - 1}


def rebuilt(tree: Any, file: Path) -> Any:
    """The inverse of `plain`. Arrays are mapped from their files, which are removed, and may be written to. Raises
    Closed where this is no such value."""
    try:
        return _value(tree, file)
    except Exception as error:  # whatever a plugin may have written there
        raise Closed(f"what came back is no value ({type(error).__name__}: {error})") from None


def _value(tree: Any, file: Path) -> Any:
    if not isinstance(tree, dict):
        if isinstance(tree, list):
            raise ValueError("a bare list")
        return tree
    ((kind, content),) = tree.items()
    if kind in ("list", "tuple"):
        items = [_value(each, file) for each in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {key: _value(each, file) for key, each in content.items()}
    part = _part(file, int(content))
    if not stat.S_ISREG(part.lstat().st_mode):  # to open a pipe, say, would never end
        raise ValueError(f"{part.name} is no file")
    array = np.load(part, mmap_mode="c", allow_pickle=False)
    part.unlink()
    return {"bytes": array.tobytes, "array": lambda: array, "tensor": lambda: _tensor(array)}[kind]()


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(array)


def from_plugin(content: bytes) -> dict[str, Any]:
    """A message of a plugin's process. Raises Closed where it is none."""
    try:
        message = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Closed(f"what came back is no message ({type(error).__name__})") from None
    if not isinstance(message, dict):
        raise Closed("what came back is no message")
    return message
