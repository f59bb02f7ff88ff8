"""Arrays of strangers: npz, safetensors and torch files, read for what they hold and never for code.

Shapes and sizes are compared with the bytes that are there before anything is allocated. Numbers come back in the byte
order of this machine.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from bench.errors import UserError
from bench.foreign.bounds import check_unpacked, regular

if TYPE_CHECKING:
    import torch

MAX_NODES = 1_000_000  # objects in a torch file
_NUMBER = re.compile("[<>=|]?(b1|[iu][1248]|f[248])")  # numpy's names of types


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises UserError for objects (pickles), and for sizes that cannot be."""
    try:
        with zipfile.ZipFile(regular(file)) as archive:
            listed = archive.infolist()
            check_unpacked(file, file.stat().st_size, sum(info.file_size for info in listed))
            arrays = {}
            for info in listed:
                with archive.open(info) as member:
                    arrays[info.filename.removesuffix(".npy")] = read_npy(member, info.file_size)
            return arrays
    except (UserError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib and the header's parser raise what comes
        raise UserError(f"{file} cannot be read as an .npz file: {_line(error)}") from None


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran order, dtype as stored) of an .npy stream; leaves it at the first value.

    Raises:
        ValueError: no header, or an array of objects.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise ValueError(f"an array of {dtype} is none of numbers")
    return shape, fortran, dtype


def read_npy(file: IO[bytes], size: int) -> np.ndarray:
    """The array of an .npy stream of `size` bytes. Raises ValueError where it is none, or larger than what is there."""
    shape, fortran, dtype = read_npy_header(file)
    wanted = math.prod(shape) * dtype.itemsize
    if not 0 <= wanted <= size:
        raise ValueError(f"an array of {dtype} {list(shape)} does not fit into {size:,} bytes")
    values = np.frombuffer(file.read(wanted), dtype)
    return values.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="), copy=False)


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file by name; bfloat16 becomes float32. Raises UserError where it is none."""
    import torch
    from safetensors import safe_open

    try:
        arrays = {}
        with safe_open(regular(file), framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 (it is no mapping)
                tensor = stored.get_tensor(name)
                arrays[name] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return arrays
    except (UserError, MemoryError):
        raise
    except Exception as error:  # shapes beyond all bounds are ValueErrors, unknown types TypeErrors
        raise UserError(f"{file} cannot be read as a safetensors file: {_line(error)}") from None


def read_torch(file: Path, kind: str = "file of torch") -> Any:
    """What torch.save wrote: tensors, numbers, texts and containers of them; read with `weights_only`.

    A file that asks for more is an error, and nothing of it has run. Numpy numbers are numbers and no more, so they may
    be built: SRe2L's CutMix weights and DC's accuracies are such.

    Args:
        file: to read.
        kind: what it should be, for messages.

    Raises:
        UserError: the file cannot be read, holds code or other objects, or would unpack to too much.
    """
    import torch

    largest = None
    try:
        size = regular(file).stat().st_size
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                sizes = [info.file_size for info in archive.infolist()]
            check_unpacked(file, size, sum(sizes))
            largest = max(sizes, default=0)
        # Of the format before zip every length is a claim: from memory no more is read than there is.
        source: Path | io.BytesIO = file if largest is not None else io.BytesIO(file.read_bytes())
        with torch.serialization.safe_globals(_numbers()):
            content = torch.load(source, map_location="cpu", weights_only=True)
        for tensor in tensors_of(content):
            _check_storage(tensor, size if largest is None else largest)
        return content
    except (UserError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        reason = str(error).split("Please file")[0].splitlines()
        unsafe = next((line.strip() for line in reason if "Unsupported" in line or "GLOBAL" in line), "")
        raise UserError(
            f"{file} holds more than tensors and numbers; nothing of it was run. {unsafe}".rstrip()
        ) from None
    except Exception as error:  # torch's own readers raise what comes
        raise UserError(f"{file} cannot be read as a {kind}: {_line(error)}") from None


def tensors_of(content: Any) -> list[torch.Tensor]:
    """All tensors in lists, tuples and dicts, in order, however deep; a container that holds itself counts once."""
    import torch

    tensors: list[torch.Tensor] = []
    pending, seen, nodes = [content], set[int](), 0
    while pending:
        value = pending.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise UserError(f"the file holds more than {MAX_NODES:,} objects.")
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple | dict) and id(value) not in seen:
            seen.add(id(value))
            pending += reversed(list(value.values()) if isinstance(value, dict) else value)
    return tensors


def _check_storage(tensor: torch.Tensor, available: int) -> None:
    """Refuse a tensor that is no plain block of the file's bytes: sparse, without data, or larger than they are."""
    import torch

    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise ValueError("it holds a sparse or quantised tensor, or one without values")
    stored = tensor.untyped_storage().nbytes()
    if stored > available or tensor.numel() * tensor.element_size() > stored:
        raise ValueError(f"a tensor {list(tensor.shape)} is larger than the {available:,} bytes that are stored")


class _Dtype:
    """Stands for numpy's dtype, whose state a file may set to what ends the process."""

    def __init__(self, name: str, *_: object) -> None:
        if not isinstance(name, str) or not _NUMBER.fullmatch(name):
            raise ValueError(f"a value of the type {name!r} is no number")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(kind: _Dtype, value: bytes) -> float:
    """Stands for numpy's maker of scalars. Raises ValueError for other than one value."""
    if not isinstance(kind, _Dtype) or not isinstance(value, bytes) or len(value) != kind.dtype.itemsize:
        raise ValueError("a number that is none")
    return np.frombuffer(value, kind.dtype)[0].item()  # type: ignore[no-any-return]


def _numbers() -> list[Any]:
    makers = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # by releases of numpy
    return [(_Dtype, "numpy.dtype"), *((_scalar, name) for name in makers)]


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
