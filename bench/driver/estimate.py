"""How long trials may take, from records of their like."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from bench.plugins.registry import ROOT
from bench.records import files
from bench.records.files import LeanRecord, ReadRecord
from bench.trials.trial import Trial

COMMITTED = ROOT / "results" / "default-plan"

_Key = tuple[Any, ...]  # stage, fields, and the values of a trial in them

_TEACHER = ("dataset", "protocol")
_STUDENT = ("dataset", "protocol", "ipc", "student")
# What replicates and protocols share is paid for once: the fields that tell one from another, and those that a record
# must agree in to tell what it takes, from the nearest likeness to the farthest.
_SHARED = {
    "condense": (("dataset", "method", "ipc"), (("dataset", "method", "ipc"), ("dataset", "ipc"))),
    "encode": (
        ("dataset", "protocol", "method", "ipc", "compressor", "budget"),
        (("dataset", "protocol", "ipc", "compressor"), ("dataset", "protocol", "ipc")),
    ),
}


def estimate_seconds(trials: Iterable[Trial], records: Iterable[ReadRecord]) -> tuple[float, int]:
    """(seconds of work for the trials whose like has been run, number of trials of which nothing is known).

    The like of a trial is a record of the same data set, protocol, ipc and student: its student was trained as long.
    Condensed sets and labels that several of the trials use count once, also where the store has them already.
    """
    known = _Known(records)
    paid = set()
    total, unknown = 0.0, 0
    for trial in trials:
        wanted = trial.as_dict()
        training = known.median("student", wanted, (_STUDENT,))
        if training is None:
            unknown += 1
            continue
        total += training
        for stage, (identity, likenesses) in _SHARED.items():
            key = (stage, *(wanted[name] for name in identity), *known.set_of(wanted))
            if key not in paid:
                paid.add(key)
                total += known.median(stage, wanted, likenesses) or 0.0
    return total, unknown


def committed_records() -> list[LeanRecord]:
    """The records of the default plan that the checkout brings, so that a first run can be estimated: of another
    machine. None where the project is installed without its results."""
    return files.scan(COMMITTED).records if COMMITTED.is_dir() else []


class _Known:
    """Seconds of stages, by what the trials agree in."""

    def __init__(self, records: Iterable[ReadRecord]) -> None:
        self._seconds: dict[_Key, list[float]] = defaultdict(list)
        self._medians: dict[_Key, float] = {}
        self._sets: dict[_Key, dict[int, float]] = defaultdict(dict)
        self._teachers: dict[_Key, str] = {}
        for record in records:
            if record.status != "ok":
                continue
            spent, trial = dict(record.seconds), record.run.as_dict()
            for stage, (_, likenesses) in _SHARED.items():
                if stage in spent:
                    seconds = spent.pop(stage)
                    for fields in likenesses:
                        self._seconds[_key(stage, fields, trial)].append(seconds)
            self._seconds[_key("student", _STUDENT, trial)].append(sum(spent.values()))
            if teacher := record.made_by.get("teacher"):
                self._teachers[_key("teacher", _TEACHER, trial)] = teacher
            if "condense" in record.seconds:
                seconds_by_replicate = self._sets[self._set_key(trial)]
                seconds_by_replicate[trial["replicate"]] = record.seconds["condense"]

    def median(self, stage: str, trial: Mapping[str, Any], likenesses: Iterable[tuple[str, ...]]) -> float | None:
        """Of the nearest likeness there is a record of."""
        for fields in likenesses:
            key = _key(stage, fields, trial)
            if key not in self._medians and key in self._seconds:
                self._medians[key] = statistics.median(self._seconds[key])
            if key in self._medians:
                return self._medians[key]
        return None

    def set_of(self, trial: Mapping[str, Any]) -> tuple[str, int | None]:
        """Which condensed set of its data set, method and ipc a trial uses: the teacher's digest, or the protocol where
        that is not known; and the replicate where each has a set of its own, None where one serves all: to the last
        digit, they have told the same time."""
        times = self._sets.get(self._set_key(trial), {})
        some = next(iter(times.values()), None)
        shared = len(times) > 1 and all(seconds == some for seconds in times.values())
        return self._teacher(trial), None if shared else trial["replicate"]

    def _set_key(self, trial: Mapping[str, Any]) -> _Key:
        return (self._teacher(trial), *_key("condense", _SHARED["condense"][0], trial))

    def _teacher(self, trial: Mapping[str, Any]) -> str:
        return self._teachers.get(_key("teacher", _TEACHER, trial)) or trial["protocol"]


def _key(stage: str, fields: Iterable[str], trial: Mapping[str, Any]) -> _Key:
    return (stage, *fields, *(trial[name] for name in fields))
