"""A stage that no result comes from: a student tested after every epoch, to see where a claimed result came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace
from bench.stages.points import points
from bench.stages.train import coordinates_of, train_student
from bench.teachers.teacher_files import TeacherRef
from bench.training.loop import Evaluation, evaluate
from bench.training.normalisation import statistics
from bench.trials.cell import cell_recipe
from bench.trials.trial import Trial


@dataclass(frozen=True)
class LearningCurve:
    """What a student gives on the test split after each epoch; the last value is the result."""

    accuracies: tuple[float, ...]
    test_losses: tuple[float, ...]
    train_losses: tuple[float, ...]

    @property
    def last(self) -> tuple[float, float, float]:
        """(accuracy, test loss, training loss) after the last epoch."""
        return self.accuracies[-1], self.test_losses[-1], self.train_losses[-1]


def learning_curve(
    ws: Workspace,
    trial: Trial,
    dataset: DatasetRef,
    condensed: CondensedRef,
    labels: Sequence[LabelsRef] = (),
    labellers: Sequence[TeacherRef] = (),
    length: int = 1,
) -> LearningCurve:
    """Train the student of a trial as bench.stages.evaluate.evaluate does, and test it after every epoch.

    Testing changes nothing in the training. Where the protocol averages parameters, all but the last value are those of
    the parameters that are trained.

    Args:
        ws, trial, dataset, condensed, labels, labellers: as of bench.stages.evaluate.evaluate.
        length: train for so many times the epochs that the protocol prescribes.
    """
    _, prescribed = cell_recipe(ws.registry, trial, dataset.classes)
    recipe = prescribed.model_copy(update={"epochs": length * prescribed.epochs})
    images, targets = ws.described(dataset).test_images()
    mean, std = statistics(recipe.normalisation, ws.described(dataset).dataset)
    seen: list[Evaluation] = []

    def test(student: torch.nn.Module) -> None:
        seen.append(evaluate(student, images, targets, mean=mean, std=std))

    last = points(recipe, dataset.classes, coordinates_of(trial))[-1]  # the result is its
    trained = train_student(
        ws,
        trial,
        dataset,
        condensed,
        labels,
        labellers,
        recipe,
        on_epoch_end=lambda _, student: test(student),
        point=last,
    )
    seen.pop()  # the last epoch's own parameters; what counts may be their average
    test(trained.student)
    return LearningCurve(
        tuple(each.accuracy for each in seen), tuple(each.loss for each in seen), tuple(trained.log.losses)
    )
