"""Why a claimed result does not come out here: which of the known ways leads to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from bench.checks.records.board import row, short
from bench.checks.verify.rerun import Reruns
from bench.checks.verify.rounding import EXACT, Limits, result
from bench.records.files import Record
from bench.records.schema import COUNTED_AS
from bench.stages.curve import LearningCurve
from bench.trials.budget import Budget
from bench.trials.plan import UNCOMPRESSED
from bench.trials.trial import Trial

LARGER = (2, 3, 4)  # times the claimed budget
SEEDS = 10  # replicates among which a claim is looked for
LENGTHS = (1, 2, 3)  # times the prescribed epochs


@dataclass(frozen=True)
class Diagnosis:
    """A rule of bench/checks/records/rules.py, and what was found."""

    rule: str
    message: str


def made_otherwise(claim: Record, rerun: Record) -> Diagnosis | None:
    """A difference in what the result was made from, or in its size; None where all of that is the same."""
    if rerun.status != claim.status:
        error = f": {rerun.error.type}: {rerun.error.message.partition(chr(10))[0]}" if rerun.error else ""
        return Diagnosis("not-reproduced", f"claimed {claim.status}, here {rerun.status}{error}")
    if claim.smallest_bytes != rerun.smallest_bytes:
        return Diagnosis(
            "other-bytes", f"claimed to need {claim.smallest_bytes} bytes at the least; here {rerun.smallest_bytes}"
        )
    for part, rule in (("dataset", "other-dataset"), ("teacher", "other-teacher")):
        claimed, measured = claim.made_by.get(part), rerun.made_by.get(part)
        if part == "teacher" and measured is None:
            continue  # not used; records of earlier versions named it all the same
        if claimed != measured:
            return Diagnosis(rule, f"made with the {part} {short(claimed)}; here it is {short(measured)}")
    return None


def other_content(claim: Record, rerun: Record) -> Diagnosis | None:
    """A condensed set or encoded labels that are not what method and compressor make here."""
    if claim.condensed is not None and rerun.condensed is not None and claim.condensed.digest != rerun.condensed.digest:
        return Diagnosis(
            "other-images",
            f"the set is {short(claim.condensed.digest)}; here the method makes {short(rerun.condensed.digest)}",
        )
    sizes: dict[str, tuple[int | None, int | None]] = {"labels": (_label_bytes(claim), _label_bytes(rerun))}
    if claim.provenance.get(COUNTED_AS) == rerun.provenance.get(COUNTED_AS):
        sizes = {"images": (claim.bytes_images, rerun.bytes_images), **sizes}
    for what, (claimed, measured) in sizes.items():
        if claimed != measured:
            return Diagnosis(
                "other-bytes", f"the {what} are claimed to take {claimed} bytes; here they take {measured}"
            )
    counts = claim.invalid_labels, rerun.invalid_labels
    if None not in counts and counts[0] != counts[1]:
        first, second = (f"{each.values} values and {each.rows} rows" for each in counts if each is not None)
        return Diagnosis("not-reproduced", f"{first} of the labels are claimed to be no probabilities; here {second}")
    return None


def other_curve(claim: Record, rerun: Record) -> Diagnosis | None:
    """A student before the last one of a trial that trains several, whose figures are others here."""
    claimed, here = (record.curve or [] for record in (claim, rerun))
    for number, (first, second) in enumerate(zip_longest(claimed, here), 1):
        if first != second:
            shares = ["none" if each is None else _percent(each.accuracy) for each in (first, second)]
            return Diagnosis("not-reproduced", f"student {number}: claimed {shares[0]}, here {shares[1]}")
    return None


def other_result(claim: Record, trial: Trial, reruns: Reruns, limits: Limits = EXACT) -> Diagnosis:
    """Which seed, which labels, which epoch or which length of training gives the claimed accuracy and losses.

    Args:
        claim: the record, whose result did not come out.
        trial: what it claims to be.
        reruns: runs trials on this machine.
        limits: how far what rounding alone does may move a result; EXACT: everything agrees to the bit.
    """
    rerun = reruns.run([trial])[trial]
    both = f"claimed {_percent(claim.accuracy)}, here {_percent(rerun.accuracy)}"
    agrees = "to the bit" if limits == EXACT else "within what rounding does on another kind of machine"
    losses_fit = limits.losses(result(claim), result(rerun)) <= 1
    if not losses_fit and (other := _nearest(claim, _other_seeds(trial), reruns, limits)) is not None:
        return Diagnosis(
            "picked-seed",
            f"{both}: {agrees}, the claim is the result of replicate {other.replicate}, not {trial.replicate}",
        )
    if not losses_fit and (labels := _nearest(claim, _larger_labels(trial), reruns, limits)) is not None:
        name, size = row((labels.method, labels.compressor, labels.budget)), _label_bytes(reruns.run([labels])[labels])
        return Diagnosis(
            "other-labels",
            f"{both}: {agrees}, the claim is the result of the labels of '{name}', {size} bytes, not "
            f"{_label_bytes(claim)}",
        )
    whole, *longer = reruns.curves(trial, LENGTHS)
    if whole is not None and (epoch := _epoch(claim, whole, losses_fit, limits)) is not None:
        return Diagnosis(
            "best-epoch",
            f"{both}: {agrees}, the claim is the accuracy after epoch {epoch + 1} of {len(whole.accuracies)}, not "
            "after the last",
        )
    for times, curve in zip(LENGTHS[1:], longer, strict=True):
        if curve is not None and limits.distance(result(claim), curve.last) <= 1:
            return Diagnosis(
                "more-epochs",
                f"{both}: {agrees}, the claim is the result of {len(curve.accuracies)} epochs, {times} times those "
                "prescribed",
            )
    if limits.training(result(claim), result(rerun)) <= 1:
        which = "both losses agree" if losses_fit else "the training loss agrees"
        return Diagnosis(
            "edited-accuracy",
            f"{both}: {which} {agrees}, and neither another epoch nor another seed gives the claim",
        )
    return Diagnosis(
        "not-reproduced",
        f"{both}, and none of {SEEDS} seeds, no larger labels, epoch or longer training gives it {agrees}",
    )


def _nearest(claim: Record, trials: Sequence[Trial], reruns: Reruns, limits: Limits) -> Trial | None:
    """The trial whose result here agrees with the claim, the nearest if several do."""
    distances = {trial: limits.distance(result(claim), result(record)) for trial, record in reruns.run(trials).items()}
    nearest = min(distances, key=distances.__getitem__, default=None)
    return nearest if nearest is not None and distances[nearest] <= 1 else None


def _other_seeds(trial: Trial) -> list[Trial]:
    return [replace(trial, replicate=r) for r in range(SEEDS) if r != trial.replicate]


def _larger_labels(trial: Trial) -> list[Trial]:
    """The trial with larger labels: not compressed, or at a multiple of the budget."""
    if trial.compressor is None:
        return []
    larger = [replace(trial, compressor=UNCOMPRESSED, budget=None)]
    if trial.budget is not None:
        larger += [replace(trial, budget=_times(Budget.parse(trial.budget), times)) for times in LARGER]
    return [each for each in larger if each != trial]


def _times(budget: Budget, times: int) -> str:
    """So many times the bytes; a ratio does not fall below 1x."""
    if budget.size is not None:
        return str(Budget(size=times * budget.size))
    return str(Budget(ratio=max(1.0, (budget.ratio or 1.0) / times)))


def _epoch(claim: Record, curve: LearningCurve, losses_fit: bool, limits: Limits) -> int | None:
    """The epoch whose accuracy is claimed, told by its test loss; where those of the last stand there, by itself."""
    distances = {}
    for epoch, (accuracy, loss) in enumerate(zip(curve.accuracies[:-1], curve.test_losses, strict=False)):
        distance = limits.accuracies(claim.accuracy, accuracy)
        distances[epoch] = distance if losses_fit else max(distance, limits.test_losses(claim.test_loss, loss))
    nearest = min(distances, key=distances.__getitem__, default=None)
    return nearest if nearest is not None and distances[nearest] <= 1 else None


def _label_bytes(record: Record) -> int | None:
    return record.bytes_labels.total if record.bytes_labels is not None else None


def _percent(accuracy: float | None) -> str:
    return "no accuracy" if accuracy is None else f"{100 * accuracy:.2f} %"
