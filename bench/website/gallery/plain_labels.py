"""What teachers say of condensed images as they are, and the names of the classes."""
# ruff: noqa: B019 - what is cached lives as long as the command that makes the object

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from bench.api import Dataset
from bench.artifacts.refs import Workspace
from bench.errors import UserError
from bench.stages.origins import OriginDigests
from bench.teachers import loaded
from bench.teachers.teacher_files import TeacherRef
from bench.texts import visible
from bench.training.normalisation import statistics

TOP = 3  # labels under an image
Top = list[tuple[int, float]]  # (class, probability), the most probable first


class PlainLabels:
    """Data sets without their images, and teachers that ship or were made here. Nothing is trained or fetched."""

    def __init__(self, ws: Workspace) -> None:
        self._ws, self._origins = ws, OriginDigests(ws)

    @cache
    def dataset(self, spec: str) -> Dataset | None:
        """The data set, its splits unopened; None where it is not known, or cannot be loaded here."""
        try:
            return self._ws.data(spec).dataset
        except Exception:  # its files are not here, or its `load` fails: `check records` tells why
            return None

    def class_names(self, spec: str, classes: int) -> list[str]:
        """Number and name of each class; the number alone where that is the name, or the data set is not here."""
        numbers = [str(label) for label in range(classes)]
        dataset = self.dataset(spec)
        names = dataset.class_names if dataset and len(dataset.class_names) == classes else numbers
        return [
            number if number == name else f"{number} {visible(name)}"
            for number, name in zip(numbers, names, strict=True)
        ]

    @cache
    def teacher(self, spec: str, protocol: str, dataset_digest: str | None) -> TeacherRef | None:
        """The first teacher of a protocol for the data set of a digest; None where it is not here."""
        dataset = self.dataset(spec)
        if dataset is None or dataset_digest is None:
            return None
        try:
            recipes = self._origins.protocol(protocol).teachers(spec)[:1]
            refs = self._origins.teachers(recipes, spec, dataset_digest, dataset.num_classes)
        except UserError:
            return None
        return refs[0] if refs else None

    def say(self, spec: str, teacher: TeacherRef, images: np.ndarray) -> list[Top]:
        """The teacher's most probable classes of uint8 or float [n, channels, s, s]."""
        data = self._ws.data(spec)
        mean, std = statistics(teacher.normalisation, data.dataset)
        logits = loaded.predict(self._network(spec, teacher), torch.from_numpy(np.array(images)), mean=mean, std=std)
        return [top(row) for row in torch.softmax(logits, dim=1).numpy()]

    @cache
    def _network(self, spec: str, teacher: TeacherRef) -> torch.nn.Module:
        return loaded.load(teacher, self._ws.store, self._ws.registry, self._ws.data(spec))


def top(probabilities: np.ndarray) -> Top:
    """The most probable of [C], with three decimals."""
    order = np.argsort(-probabilities, kind="stable")[:TOP]
    return [(int(label), round(float(probabilities[label]), 3)) for label in order]
