"""Every published protocol really runs in miniature: on digits as `run` does it, and all its branches in the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import bench
from bench.artifacts.describe import describe
from bench.artifacts.opened import Data
from bench.artifacts.refs import Workspace
from bench.labels.label_file import LabelFile
from bench.labels.making import label_views, teacher_logits
from bench.labels.reader import EncodedLabels
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.protocol.definition import Protocol
from bench.protocol.recipe import Recipe, scaled
from bench.records.files import Record
from bench.stages.teach import teach
from bench.teachers import loaded
from bench.teachers.ensemble import Member, ensemble_of
from bench.training.loop import TrainLog, evaluate, train
from bench.training.networks import build_network
from bench.training.normalisation import statistics
from tests.worlds.published import CLASSES, PUBLISHED

SCALE = 0.01
BRANCHES = ("imagenet-1k", "imagenette", "tiny-imagenet", "cifar10", "cifar100")  # whose recipe digits are trained by
IPC = 2

# --- as `run` does it -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(ray_for_all: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """The record of every protocol on digits, ipc 2, one replicate."""
    root = tmp_path_factory.mktemp("runs")
    found = bench.run(
        datasets=["digits"],
        protocols=[f"{name}:scale={SCALE}" for name in PUBLISHED],
        methods=["random"],
        ipcs=[IPC],
        replicates=1,
        results=root / "results",
        store=root / "store",
        jobs=1,
    )
    return {record.trial["protocol"].partition(":")[0]: record for record in found}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_miniature_runs_on_digits_from_the_command_to_the_record(name: str, recorded: dict[str, Record]) -> None:
    record, fixed = recorded[name], definition.load(discover(), f"{name}:scale={SCALE}")
    cell = fixed.recipe(dataset="digits", ipc=IPC, student=fixed.student("digits"), classes=10)
    assert record.status == "ok", record.error
    assert record.made_by["protocol"] == fixed.digest
    assert record.labels == cell.labels
    assert record.epochs == record.measured_after == cell.epochs
    assert record.images_seen == cell.epochs * IPC * 10
    assert record.test_opened == 1
    assert record.num_views == (cell.views or None)
    assert (record.bytes_labels is not None) == (cell.labels == "stored")
    assert record.train_loss is not None
    assert record.test_loss is not None


# --- every branch, in the engine --------------------------------------------------------------------------------------


@dataclass
class Digits:
    """Twenty images of digits, and the four small teachers of digits, whatever names a protocol gives its own."""

    data: Data
    images: torch.Tensor
    labels: torch.Tensor
    members: Callable[[int], list[Member]]
    asked: list[int] = field(default_factory=list)  # images in each question to online teachers


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    ws = Workspace(tmp_path_factory.mktemp("store"), discover())
    dataset = describe(ws, "digits")
    data = ws.described(dataset)
    kinds = ("teacher", "convnet-teacher", "deep-teacher", "wide-teacher")
    refs = [teach(ws, f"small-{kind}-v1", dataset) for kind in kinds]
    assert all(ref.shipped for ref in refs)
    source = data.dataset.train()
    chosen = np.concatenate([np.flatnonzero(source.labels == label)[:IPC] for label in range(10)])

    def members(count: int) -> list[Member]:
        return [loaded.member(refs[k % 4], ws.store, ws.registry, data) for k in range(count)]

    return Digits(data, torch.from_numpy(source.read(chosen)), torch.from_numpy(source.labels[chosen]), members)


def trained(digits: Digits, cell: Recipe, labellers: int, width: int = 8) -> tuple[TrainLog, torch.nn.Module]:
    """A small student, trained by the recipe as the stages of a trial do it."""
    dataset, registry = digits.data.dataset, discover()
    mean, std = statistics(cell.normalisation, dataset)
    ensemble = ensemble_of(digits.members(labellers), cell)
    digits.asked.clear()
    reader = teacher = None
    if cell.labels == "stored":
        views = label_views(cell, 20, protocol="p", dataset="digits", size=8, mirror=dataset.mirror)
        logits = teacher_logits(ensemble, digits.images, views, np.arange(20)).numpy()
        plain = SimpleNamespace(decode=lambda _, rows: torch.from_numpy(logits[:, rows]))
        reader = EncodedLabels(LabelFile(views.to_bytes(), b"", (b"",)), plain, 20, "plain")
    elif cell.labels == "online":
        say = ensemble.online(mean, std)

        def teacher(x: torch.Tensor) -> torch.Tensor:
            digits.asked.append(len(x))
            return say(x)

    student = build_network(
        parse(registry, "network", f"convnet:width={width}"), channels=1, size=8, classes=10, seed=1
    )
    log = train(
        student, digits.images, digits.labels, cell, coordinates=("test",), mean=mean, std=std, mirror=dataset.mirror,
        reader=reader, teacher=teacher,
    )  # fmt: skip
    return log, student


def branches(fixed: Protocol) -> list[tuple[Recipe, int]]:
    """(miniature, number of teachers) of the cells that train differently."""
    found: dict[Recipe, int] = {}
    for dataset in BRANCHES:
        cell = fixed.recipe(dataset=dataset, ipc=10, student=fixed.student(dataset), classes=CLASSES[dataset])
        found.setdefault(scaled(cell, SCALE), len(fixed.teachers(dataset)))
    return list(found.items())


def bits(student: torch.nn.Module) -> list[bytes]:
    return [value.detach().numpy().tobytes() for value in student.state_dict().values()]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_branch_trains_the_number_of_steps_it_says_and_twice_to_the_same_bits(name: str, digits: Digits) -> None:
    for cell, labellers in branches(definition.load(discover(), name)):
        log, student = trained(digits, cell, labellers)
        sizes = [len(chunk) for chunk in np.split(np.arange(20), range(cell.batch, 20, cell.batch))]
        assert log.steps == cell.epochs * len(sizes)
        assert len(log.losses) == cell.epochs
        assert np.isfinite(log.losses).all()
        assert all(value.isfinite().all() for value in student.state_dict().values())
        assert sorted(digits.asked) == sorted(sizes * cell.epochs if cell.labels == "online" else [])
        again, twin = trained(digits, cell, labellers)
        assert again.losses == log.losses
        assert bits(twin) == bits(student)


def test_the_average_of_edc_is_what_is_left_and_training_does_not_notice_it(digits: Digits) -> None:
    cell, labellers = branches(definition.load(discover(), "edc-v1"))[0]
    averaged, student = trained(digits, cell, labellers)
    plain, other = trained(digits, cell.model_copy(update={"ema": 0.0}), labellers)
    assert averaged.losses == plain.losses
    assert bits(student) != bits(other)
    running = [name for name, _ in student.named_buffers()]
    assert running
    assert all(torch.equal(student.get_buffer(name), other.get_buffer(name)) for name in running)


@pytest.mark.parametrize("name", ["standard-hard-sgd-v1", "rded-v1"])
def test_at_full_length_the_student_learns_its_images(name: str, digits: Digits) -> None:
    fixed, dataset = definition.load(discover(), name), digits.data.dataset
    cell = fixed.recipe(dataset="digits", ipc=IPC, student="convnet", classes=10)
    log, student = trained(digits, cell, 1, width=16)
    mean, std = statistics(cell.normalisation, dataset)
    assert len(log.losses) == 300
    assert evaluate(student, digits.images, digits.labels, mean=mean, std=std).accuracy > 0.6  # chance: 0.1


def test_between_them_the_branches_exercise_all_that_the_engine_offers() -> None:
    registry = discover()
    cells = [pair for name in PUBLISHED for pair in branches(definition.load(registry, name))]
    assert {cell.labels for cell, _ in cells} == {"hard", "stored", "online"}
    assert {cell.loss.name for cell, _ in cells} == {"ce", "kl", "soft-ce", "mse"}
    assert {cell.schedule.name for cell, _ in cells} == {"cosine", "ssrs", "multistep"}
    assert {cell.augment.mix for cell, _ in cells} == {"none", "cutmix", "mixup"}
    assert {cell.augment.patches for cell, _ in cells} == {"none", "shuffle", "extract"}
    assert {cell.ensemble for cell, _ in cells} == {"mean", "norm-mean"}
    assert {labellers for _, labellers in cells} == {1, 4, 5, 8}
    for on in (
        lambda cell: cell.draw == "batch",
        lambda cell: cell.teacher_mode == "train",
        lambda cell: cell.accumulation > 1 and cell.accumulation_weight == "nominal",
        lambda cell: cell.ema > 0,
        lambda cell: cell.augment.randaugment_ops > 0,
        lambda cell: cell.augment.pad > 0,
        lambda cell: cell.schedule.warmup > 0,
        lambda cell: cell.schedule.restart,
        lambda cell: len(cell.siamese) > 0,
        lambda cell: cell.loss.times_t_squared,
        lambda cell: cell.loss.hard_weight > 0,
        lambda cell: cell.optimizer.name == "sgd" and cell.optimizer.decay == "all",
    ):
        assert any(on(cell) for cell, _ in cells)
