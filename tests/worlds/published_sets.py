"""Condensed sets in the layouts of their authors, under the names that docs/published-sets.md uses: ten each of ten."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

CLASSES, IPC, SIZE = 10, 10, 32


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [100, 3, 32, 32] and labels."""
    images = np.random.default_rng(0).integers(0, 256, (CLASSES * IPC, 3, SIZE, SIZE), dtype=np.uint8)
    return images, np.repeat(np.arange(CLASSES), IPC)


def encoded(image: np.ndarray) -> bytes:
    """As PNG."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def publish(folder: Path) -> None:
    """RDED's folders, SRe2L's packed tar, Rethinking's repository, and files of DC, MTT and IDC."""
    images, labels = pictures()
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = folder / "rded" / f"{label:05d}" / f"{index:05d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(image))
    with tarfile.open(folder / "sre2l.tar.gz", "w:gz") as archive:
        archive.add(folder / "rded", "sre2l-ipc10")
    _repository(folder / "random_ipc10", [encoded(image) for image in images], labels.tolist())
    unit, classes = torch.from_numpy(images).float() / 255, torch.from_numpy(labels)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))
    normalised = (unit - mean) / std
    accuracies = {"ConvNet": [np.float64(0.449)]}
    torch.save(
        {"data": [[normalised, classes]], "accs_all_exps": accuracies}, folder / "res_DC_CIFAR10_ConvNet_10ipc.pt"
    )
    torch.save(normalised, folder / "images_best.pt")
    torch.save(classes, folder / "labels_best.pt")
    torch.save([unit, classes], folder / "data.pt")
    (folder / "datm").mkdir()
    torch.save(normalised, folder / "datm" / "images_best.pt")
    torch.save(9.0 * torch.nn.functional.one_hot(classes, CLASSES), folder / "datm" / "labels_best.pt")


def _repository(folder: Path, images: list[bytes], labels: list[int]) -> None:
    import pyarrow
    import pyarrow.parquet

    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("# ImageNet, ten images a class\n")
    cells = [{"bytes": image, "path": f"{index}.png"} for index, image in enumerate(images)]
    table = pyarrow.table({"image": cells, "class_id": labels})
    pyarrow.parquet.write_table(table, folder / "data" / "train-00000-of-00001.parquet")
