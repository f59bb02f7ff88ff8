"""Every rule that `check records` and `verify` can find broken, and the list that findings are collected in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from bench.checks.records.board import Line
from bench.finding import Finding, Severity

SHOWN_PLACES = 4
NOT_TOLD = "records of schema 1 do not tell"

# Stable names: programs and tests read them. Each with its severity where a finding states no other.
RULES: dict[str, tuple[Severity, str]] = {
    # what stands in the files
    "no-records": ("error", "there is something to check"),
    "torn-line": ("warning", "every line is a whole record"),
    "edited-line": ("error", "no line was changed after it was written"),
    "wrong-id": ("error", "a record's id is the digest of its trial"),
    "unknown-name": ("error", "everything that a record names is known here"),
    # which protocol, which code
    "unofficial": ("warning", "protocol, data set and student are released ones of this project"),
    "withdrawn": ("error", "the protocol was not withdrawn"),
    "stale": ("error", "protocol, engine and student are those of this version"),
    "foreign-code": ("error", "method and compressor are the code that this version has under the name"),
    "other-dataset": ("error", "the data set is the released one, and the same for all of a cell"),
    "other-teacher": ("error", "the teacher is the one of the protocol's recipe, and the same for all of a cell"),
    "other-protocol": ("error", "all of a cell have one protocol digest"),
    "other-network": ("error", "all of a cell have one student"),
    "other-engine": ("error", "all of a cell have one evaluation engine"),
    # how the student was trained
    "other-recipe": ("error", "the resolved recipe is the one that the protocol gives for the cell"),
    "other-labels": ("error", "label regime and stored views are the protocol's"),
    "more-epochs": ("error", "the student was not trained for longer than the protocol prescribes"),
    "fewer-epochs": ("error", "the student was not trained for less than the protocol prescribes"),
    "other-curve": (
        "error",
        "a trial of several students tells all that the protocol prescribes, the last as its result",
    ),
    "other-steps": ("error", "optimiser steps and images seen follow from epochs, batch and images"),
    "hidden-evidence": ("error", "a record of this engine tells everything that the rules look at"),
    "best-epoch": ("error", "the test split was opened once, after the last epoch"),
    # which trials
    "failed-trial": ("error", "every trial has a result"),
    "missing-replicates": ("error", "all entries of a cell have the same replicates"),
    "picked-replicates": ("error", "replicates are 0, 1, 2 and so on, without gaps"),
    "single-replicate": ("warning", "there are replicates enough for an interval"),
    "no-random": (
        "error",
        "`random` (of learned labels `random-soft`) stands in every group: something to compare with",
    ),
    # bytes
    "budget-exceeded": ("error", "the labels keep their budget in true bytes"),
    "wrong-reference": ("error", "what 1x is follows from images, views and classes"),
    "larger-labels": ("error", "labels under one name take the same bytes for every method"),
    # the condensed set
    "class-balance": ("error", "every class has ipc images, or ipc on the mean where the protocol lets classes differ"),
    "test-leak": ("error", "no image of the condensed set is one of the test split"),
    "near-test": ("warning", "no image of the condensed set is nearly one of the test split"),
    "repeated-images": ("warning", "the images of a condensed set are different ones"),
    "float-pixels": ("note", "all condensed sets of a cell have pixels of one kind: whole grey levels, or floats"),
    "unused-labels": ("note", "labels that a method hands in are those that students learn from"),
    # what plugins did beside their task
    "test-reach": ("error", "no plugin came by the data set in another way than by what it was lent"),
    "stray-write": ("error", "plugins write to their scratch folder alone"),
    "stray-process": ("warning", "plugins start no programs and leave no processes"),
    # values
    "impossible-value": ("error", "every value can have come from a run"),
    "non-finite": ("error", "losses are finite"),
    "copied-replicate": ("error", "no two trials have the same result to the last bit"),
    "rerun-differs": ("error", "a trial that ran twice on machines that must agree gave the same result"),
    # against a baseline
    "digests-changed": ("note", "the baseline was made by the same code and data"),
    "moved": ("error", "no accuracy of a cell moved beyond chance"),
    "not-bitwise": ("error", "the same trial on machines that must agree gives the same bits"),
    "other-machine": ("note", "records and baseline come from machines that must agree to the bit"),
    "vanished": ("warning", "every trial of the baseline is still there"),
    "new-trials": ("note", "trials that the baseline does not have"),
    "resolution": ("note", "the smallest movement that these replicates can tell from chance"),
    "no-overlap": ("error", "records and baseline have trials in common"),
    # verify: what a claim turned out to be
    "edited-accuracy": ("error", "the accuracy belongs to the losses that stand beside it"),
    "picked-seed": ("error", "the result is that of the replicate that is named"),
    "other-images": ("error", "the condensed set is what the method makes here"),
    "other-bytes": ("error", "labels and images take the bytes that are claimed"),
    "not-reproduced": ("error", "the same trial gives the claimed result here"),
    "moved-within-noise": ("note", "another kind of machine gives the result within the stated tolerance"),
    # what could not be looked at
    "not-checked": ("note", "every rule could be checked"),
}


class Findings:
    """Findings as they come; what is the same in several places becomes one finding with all its places."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Severity, str], list[str]] = {}
        self._unchecked: dict[str, tuple[dict[str, None], dict[str, None]]] = {}  # why -> (rules, places)

    def add(
        self, rule: str, where: Line | str | Iterable[Line | str], message: str, severity: Severity | None = None
    ) -> None:
        """Record one finding; `severity` only where it is not the rule's own."""
        self._found.setdefault((rule, severity or RULES[rule][0], message), []).extend(_places(where))

    def unchecked(self, rules: str | Iterable[str], where: Line | str | Iterable[Line | str], why: str) -> None:
        """Say that rules could not be checked for these records, and why."""
        named, places = self._unchecked.setdefault(why, ({}, {}))
        named |= dict.fromkeys((rules,) if isinstance(rules, str) else rules)
        places |= dict.fromkeys(_places(where))

    def __iter__(self) -> Iterator[Finding]:
        for (rule, severity, message), places in self._found.items():
            yield Finding(rule, together(list(dict.fromkeys(places))), message, severity)
        for why, (rules, unseen) in self._unchecked.items():
            yield Finding("not-checked", together(list(unseen)), f"{', '.join(rules)}: {why}", "note")

    @property
    def by_place(self) -> dict[str, list[Finding]]:
        """The findings of each place, a record's FILE:LINE or a cell, one for each rule and message."""
        places: dict[str, list[Finding]] = defaultdict(list)
        for (rule, severity, message), several in self._found.items():
            for place in dict.fromkeys(several):
                places[place].append(Finding(rule, place, message, severity))
        for why, (rules, unseen) in self._unchecked.items():
            for place in unseen:
                places[place].append(Finding("not-checked", place, f"{', '.join(rules)}: {why}", "note"))
        return dict(places)

    @property
    def rules_unchecked(self) -> set[str]:
        """Rules that could not be checked somewhere."""
        return {rule for rules, _ in self._unchecked.values() for rule in rules}


def _places(where: Line | str | Iterable[Line | str]) -> list[str]:
    several = [where] if isinstance(where, Line | str) else where
    return [each.where if isinstance(each, Line) else each for each in several]


def together(places: Sequence[str]) -> str:
    """Several places as one text: `a.jsonl:3, 5; b.jsonl:1 and 12 more`."""
    text, last = "", ""
    for place in places[:SHOWN_PLACES]:
        file, _, line = place.rpartition(":")
        if line.isdigit() and file == last:
            text += f", {line}"
        else:
            text += f"; {place}" if text else place
        last = file if line.isdigit() else ""
    rest = len(places) - SHOWN_PLACES
    return f"{text} and {rest} more" if rest > 0 else text
