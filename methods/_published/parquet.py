"""Sets as Hugging Face has them (Rethinking's): parquet files with a column of encoded images and one of classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from bench.errors import UserError
from bench.strangers import check_unpacked, regular
from methods._published.class_folders import class_names
from methods._published.published_set import Picture, PublishedSet, check_labels, in_class_order, some

IMAGE_COLUMNS = ("image", "img", "jpg", "png", "webp")
CLASS_COLUMNS = ("class_id", "label", "labels", "cls", "fine_label")
_ROWS = 256  # read at a time


def open_parquet(path: Path, classes: int, listed: Path | None) -> PublishedSet:
    """One parquet file, or all below a folder in the order of their names.

    Classes are whole numbers, or names (such as WordNet ids) in sorted order or in that of the file `listed`.

    Raises:
        UserError: pyarrow is not installed, a column is missing, an image has no bytes, or a class does not fit.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(f"{path}: parquet files need pyarrow. Type: pip install 'condensebench[parquet]'") from None
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    pictures: list[Picture] = []
    labels: list[int | str] = []
    for file in files:
        try:
            with pq.ParquetFile(regular(file)) as opened:
                groups = (opened.metadata.row_group(at) for at in range(opened.metadata.num_row_groups))
                check_unpacked(file, file.stat().st_size, sum(group.total_byte_size for group in groups))
                image, label = _columns(file, opened.schema_arrow.names)
                for batch in opened.iter_batches(batch_size=_ROWS, columns=[image, label]):
                    for row in batch.to_pylist():
                        pictures.append(_picture(file, len(labels), row[image]))
                        labels.append(row[label])
        except (UserError, MemoryError):
            raise
        except Exception as error:  # pyarrow raises errors of its own, OSError, ValueError and what its parts raise
            reason = str(error).partition("\n")[0]
            raise UserError(f"{file} cannot be read as a parquet file: {reason}") from None
    if not labels:
        raise UserError(f"{path} holds no image.")
    if all(isinstance(each, str) for each in labels):
        names = class_names(sorted({str(each) for each in labels}), classes, listed, str(path))
        numbers = np.array([names.index(str(each)) for each in labels])
        return in_class_order(pictures, numbers, names)
    if listed is not None:
        raise UserError(f"classes={listed} is for classes that have names; in {path} they are numbers.")
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in labels):
        raise UserError(f"{path}: classes must be whole numbers or names, the same for all images.")
    numbers = np.array(labels)
    check_labels(numbers, len(pictures), classes, str(path))
    return in_class_order(pictures, numbers, ())


def _columns(file: Path, names: list[str]) -> tuple[str, str]:
    image = next((name for name in IMAGE_COLUMNS if name in names), None)
    label = next((name for name in CLASS_COLUMNS if name in names), None)
    if image is None or label is None:
        raise UserError(
            f"{file} has columns {some(names)}; one of {', '.join(IMAGE_COLUMNS)} with encoded images and one of "
            f"{', '.join(CLASS_COLUMNS)} with classes are needed."
        )
    return image, label


def _picture(file: Path, row: int, value: object) -> Picture:
    """A cell: bytes, or Hugging Face's struct of bytes and path. The path is never opened."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise UserError(f"{file}, row {row}: the image has no bytes; only images in the file itself are read.")
    return Picture(f"{file}, row {row}", partial(bytes, content))
