"""Why a claimed result does not come out here: which of the known ways leads to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench.checks.records.board import row, short
from bench.checks.verify.rerun import Reruns
from bench.records.files import Record
from bench.stages.curve import LearningCurve
from bench.trials.budget import Budget
from bench.trials.plan import UNCOMPRESSED
from bench.trials.trial import Trial

LARGER = (2, 3, 4)  # times the claimed budget
SEEDS = 10  # replicates among which a claim is looked for
LENGTHS = (1, 2, 3)  # times the prescribed epochs

Result = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Diagnosis:
    """A rule of bench/checks/records/rules.py, and what was found."""

    rule: str
    message: str


def result(record: Record) -> Result:
    """(accuracy, test loss, training loss): what two runs of one trial share to the last bit, and nothing else does."""
    return record.accuracy, record.test_loss, record.train_loss


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
    sizes: Mapping[str, tuple[int | None, int | None]] = {
        "images": (claim.bytes_images, rerun.bytes_images),
        "labels": (_label_bytes(claim), _label_bytes(rerun)),
    }
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


def other_result(claim: Record, trial: Trial, reruns: Reruns) -> Diagnosis:
    """Which seed, which epoch or which length of training gives the claimed accuracy and losses to the bit."""
    rerun = reruns.run([trial])[trial]
    both = f"claimed {_percent(claim.accuracy)}, here {_percent(rerun.accuracy)}"
    losses_fit = result(claim)[1:] == result(rerun)[1:]
    if not losses_fit and (seed := _seed(claim, trial, reruns)) is not None:
        return Diagnosis("picked-seed", f"{both}: the claim is the result of replicate {seed}, not {trial.replicate}")
    if not losses_fit and (labels := _labels(claim, trial, reruns)) is not None:
        name, size = row((labels.method, labels.compressor, labels.budget)), _label_bytes(reruns.run([labels])[labels])
        return Diagnosis(
            "other-labels",
            f"{both}: the claim is the result of the labels of '{name}', {size} bytes, not {_label_bytes(claim)}",
        )
    whole, *longer = reruns.curves(trial, LENGTHS)
    if whole is not None and (epoch := _epoch(claim, whole, losses_fit)) is not None:
        return Diagnosis(
            "best-epoch",
            f"{both}: the claim is the accuracy after epoch {epoch + 1} of {len(whole.accuracies)}, not after the last",
        )
    for times, curve in zip(LENGTHS[1:], longer, strict=True):
        if curve is not None and result(claim) == curve.last:
            return Diagnosis(
                "more-epochs",
                f"{both}: the claim is the result of {len(curve.accuracies)} epochs, {times} times those prescribed",
            )
    if claim.train_loss == rerun.train_loss:
        which = "both losses agree" if losses_fit else "the training loss agrees"
        return Diagnosis(
            "edited-accuracy",
            f"{both}: {which} to the bit, and neither another epoch nor another seed gives the claim",
        )
    return Diagnosis(
        "not-reproduced",
        f"{both}, and none of {SEEDS} seeds, no larger labels, epoch or longer training gives it",
    )


def _seed(claim: Record, trial: Trial, reruns: Reruns) -> int | None:
    others = [replace(trial, replicate=r) for r in range(SEEDS) if r != trial.replicate]
    for other, record in reruns.run(others).items():
        if result(record) == result(claim):
            return other.replicate
    return None


def _labels(claim: Record, trial: Trial, reruns: Reruns) -> Trial | None:
    """The trial with larger labels that gives the claim: not compressed, or at a multiple of the budget."""
    if trial.compressor is None:
        return None
    larger = [replace(trial, compressor=UNCOMPRESSED, budget=None)]
    if trial.budget is not None:
        larger += [replace(trial, budget=_times(Budget.parse(trial.budget), times)) for times in LARGER]
    for other, record in reruns.run(each for each in larger if each != trial).items():
        if result(record) == result(claim):
            return other
    return None


def _times(budget: Budget, times: int) -> str:
    """So many times the bytes; a ratio does not fall below 1x."""
    if budget.size is not None:
        return str(Budget(size=times * budget.size))
    return str(Budget(ratio=max(1.0, (budget.ratio or 1.0) / times)))


def _epoch(claim: Record, curve: LearningCurve, losses_fit: bool) -> int | None:
    """The epoch whose accuracy is claimed, told by its test loss; where those of the last stand there, by itself."""
    for epoch, (accuracy, loss) in enumerate(zip(curve.accuracies[:-1], curve.test_losses, strict=False)):
        if accuracy == claim.accuracy and (losses_fit or loss == claim.test_loss):
            return epoch
    return None


def _label_bytes(record: Record) -> int | None:
    return record.bytes_labels.total if record.bytes_labels is not None else None


def _percent(accuracy: float | None) -> str:
    return "no accuracy" if accuracy is None else f"{100 * accuracy:.2f} %"
