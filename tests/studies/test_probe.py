"""`condensebench probe`: what observers see in condensed sets of digits."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace, read_condensed
from bench.cli.probe import command
from bench.plugins.registry import discover
from bench.stages.condense import condense
from bench.studies.pictures.condensed_sets import SetName
from bench.studies.probes.image_scores import ImageScores
from bench.studies.probes.observed import CondensedSet, Crops, observers, seen
from bench.teachers.teacher_files import UnusedTeacher


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def probe(store: Path, *options: str) -> Result:
    arguments = ["--dataset", "digits", "--ipc", "2", "--store", str(store), "--observer", "small-teacher-v1", *options]
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_entropy_and_likelihood_are_those_of_the_observers_softmax(store: Path) -> None:
    ws = Workspace(store, discover())
    dataset = describe(ws, "digits")
    (observer,) = observers(ws, dataset, ["small-teacher-v1"])
    train = ws.data("digits").train
    shown = CondensedSet(train.images(np.arange(6)), torch.from_numpy(train.labels[:6].copy()))
    found = seen(observer, shown, dataset, Crops(), "cpu")
    member = observer.member
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (member.mean, member.std))
    logits = member.model((shown.images.float() / 255 - mean) / std).double().numpy()
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.entropy, -(share * np.log(share)).sum(axis=1), atol=1e-2)
    np.testing.assert_allclose(found.nll, -np.log(share[np.arange(6), shown.labels.numpy()]), atol=1e-2)
    assert found.right.tolist() == (logits.argmax(axis=1) == shown.labels.numpy()).astype(float).tolist()
    cropped = seen(observer, shown, dataset, Crops(0.2, 8), "cpu")
    assert cropped.entropy.mean() > found.entropy.mean() + 0.1  # a part of a digit says less


def test_hard_images_are_less_likely_than_easy_ones_and_every_image_is_in_the_files(
    store: Path, tmp_path: Path
) -> None:
    result = probe(
        store, "--method", "el2n", "--method", "el2n:end=hard", "--format", "csv", "--shape", "--landscape", "3",
        "--out", str(tmp_path),
    )  # fmt: skip
    easy, hard = csv.DictReader(io.StringIO(result.stdout))
    assert float(hard["nll"]) > float(easy["nll"])
    assert float(hard["hessian_frobenius"]) > float(easy["hessian_frobenius"]) > 0
    assert abs(float(hard["hessian_largest"])) <= float(hard["hessian_frobenius"]) * 1.5
    assert -1 <= float(hard["cosine"]) <= 1
    images = list(csv.DictReader((tmp_path / "images.csv").open(encoding="utf-8")))
    assert len(images) == 2 * 20
    own = [float(each["nll"]) for each in images if each["method"] == "el2n:end=hard"]
    assert np.mean(own) == pytest.approx(float(hard["nll"]))
    names = {path.name for path in tmp_path.iterdir()}
    assert {"probe.csv", "histograms.png"} <= names
    assert sum(name.startswith("landscape-") and name.endswith(".png") for name in names) == 2
    grid = next(path for path in tmp_path.glob("landscape-*hard*.csv"))
    centre = [row for row in csv.DictReader(grid.open(encoding="utf-8")) if row["along"] == row["across"] == "0"]
    assert float(centre[0]["loss"]) == pytest.approx(float(hard["loss"]))


def test_without_the_shape_the_table_has_no_columns_of_it(store: Path) -> None:
    text = probe(store, "--method", "random").stdout
    assert "entropy" in text
    assert "|H|_F" not in text
    assert "small-teacher-v1" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--landscape", "5"), "--out FOLDER"), (("--crops", "3"), "--crop-scale"), (("--observer", "no-v1"), "no-v1")],
)
def test_what_cannot_be_done_is_said(store: Path, options: tuple[str, ...], message: str) -> None:
    arguments = ["--dataset", "digits", "--ipc", "1", "--method", "random", "--store", str(store), *options]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code != 0
    assert message in f"{result.exception} {result.output}"


def test_scores_are_those_that_methods_rank_by_and_their_ends_may_leave_classes_out(
    store: Path, tmp_path: Path
) -> None:
    arguments = ["--dataset", "digits", "--ipc", "3", "--store", str(store), "--scores", "--format", "csv"]
    arguments += ["--method", "el2n", "--method", "aum:epochs=10", "--method", "forgetting", "--out", str(tmp_path)]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["method"], row["end"]) for row in rows[:2]] == [("el2n", "easy"), ("el2n", "hard")]
    assert all(int(row["images"]) == 30 for row in rows)
    values = list(csv.DictReader((tmp_path / "scores.csv").open(encoding="utf-8")))
    el2n, aum = (
        np.array([float(each["score"]) for each in values if each["method"] == method])
        for method in ("el2n", "aum:epochs=10")
    )
    labels = np.array([int(each["class"]) for each in values if each["method"] == "el2n"])
    assert 0 <= el2n.min() <= el2n.max() <= 10 * np.sqrt(2)
    assert np.corrcoef(el2n, aum)[0, 1] > 0.9  # both low where an image is easy
    counts = np.bincount(labels[np.argsort(-el2n, kind="stable")[:30]], minlength=10)
    hard = rows[1]
    assert (int(hard["fewest"]), int(hard["most"])) == (counts.min(), counts.max())
    assert counts.max() > 3  # not balanced
    assert (tmp_path / "scores.png").stat().st_size > 1000
    # The selection takes the same order within each class.
    ws = Workspace(store, discover())
    condensed = condense(ws, "el2n", describe(ws, "digits"), UnusedTeacher("small-teacher-v1"), 3, 0)
    picked = read_condensed(ws, condensed).arrays["indices"]
    for label in range(10):
        own = np.flatnonzero(labels == label)
        assert set(own[np.argsort(el2n[own], kind="stable")[:3]]) == set(picked[labels[picked] == label].tolist())


def test_equal_scores_are_no_ones_first() -> None:
    """Most images are never forgotten. They stand class by class, and an end that takes the first is of few classes."""
    labels = np.repeat(np.arange(10), 100)
    for values in (np.zeros(1000), np.where(np.arange(1000) % 7, 0.0, 1.0)):
        scored = ImageScores(SetName("digits", "small-teacher-v1", "forgetting", 10), values, labels, 10)
        for end in ("easy", "hard"):
            counts = scored.counts(end)
            assert counts.sum() == 100
            assert 0 < counts.min() <= counts.max() < 30
            assert (counts == scored.counts(end)).all()
    ranked = ImageScores(SetName("digits", "small-teacher-v1", "el2n", 10), np.arange(1000.0), labels, 10)
    assert ranked.counts("easy").tolist() == [100] + 9 * [0]


def test_a_method_without_scores_is_told(store: Path) -> None:
    arguments = ["--dataset", "digits", "--ipc", "1", "--method", "random", "--store", str(store), "--scores"]
    result = CliRunner().invoke(command, arguments)
    assert "ranks no images" in f"{result.exception} {result.output}"
