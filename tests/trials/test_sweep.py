"""Sweeps: one cell under several values, as ordinary trials; their table and figure."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import pytest
from click.testing import CliRunner

from bench.cli import sweep as verb
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.reports import sensitivity
from bench.reports.printers import printed
from bench.trials.plan import read_plan
from bench.trials.sweep import Cell, parse_axis, plan_text, points

REGISTRY = discover()
BASE = Cell("score", "rpca", "small-soft-v1")


def made(*over: str, base: Cell = BASE, paired: bool = False):
    axes = [parse_axis(text) for text in over]
    return axes, points(base, axes, REGISTRY, paired=paired)


def test_a_sweep_is_every_combination_of_its_values() -> None:
    _, both = made("method.alpha=1,3", "protocol.recipe.batch=20,50,100")
    assert [point.values for point in both] == [(a, b) for a in "13" for b in ("20", "50", "100")]
    assert both[0].cell.protocol == "small-soft-v1"  # 20 is its batch
    assert both[5].cell == Cell("score:alpha=3.0", "rpca", "small-soft-v1:recipe.batch=100")


def test_paired_axes_go_together() -> None:
    _, both = made("method.alpha=1,3", "compressor.domain=logits,probabilities", paired=True)
    assert [point.values for point in both] == [("1", "logits"), ("3", "probabilities")]


def test_lists_are_values_too_and_parameters_add_to_those_that_are_given() -> None:
    base = Cell("score:beta=0.5", None, "small-soft-v1:scale=0.5")
    _, both = made("protocol.recipe.augment.crop_scale=[0.4,1],[0.8,1]", "method.alpha=1,3", base=base)
    assert both[3].cell.method == "score:alpha=3.0,beta=0.5"
    assert both[3].cell.protocol == "small-soft-v1:recipe.augment.crop_scale=[0.8,1.0],scale=0.5"


def test_a_pair_may_be_written_with_two_dots() -> None:
    _, both = made("protocol.recipe.augment.crop_scale=0.08..1,0.2..1", base=Cell("pca", None, "pca-v1"))
    assert [point.values for point in both] == [("0.08..1",), ("0.2..1",)]
    assert [point.cell.protocol for point in both] == [
        "pca-v1:recipe.augment.crop_scale=[0.08,1.0]",
        "pca-v1:recipe.augment.crop_scale=[0.2,1.0]",
    ]


def test_its_plan_file_makes_the_same_trials(tmp_path: Path) -> None:
    """`run --plan` goes on with a sweep: its trials are ordinary ones."""
    _, both = made("method.alpha=1,3", 'protocol.student="convnet:width=8","convnet:width=16"')
    fixed = {"datasets": ["digits"], "ipcs": [1], "replicates": 2, "budgets": ["10x"]}
    path = tmp_path / "sweep.toml"
    path.write_text(plan_text(both, fixed, 'a "title"'), encoding="utf-8")
    trials = read_plan(path).trials(REGISTRY)
    assert len(trials) == 12  # four cells and random images under two protocols, two replicates of each
    assert {(t.method, t.protocol, t.compressor) for t in trials} == {
        (cell.method, cell.protocol, cell.compressor) for p in both for cell in (p.cell, p.ground)
    }
    assert tomllib.loads(path.read_text(encoding="utf-8"))["title"] == 'a "title"'


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (["alpha=1,2"], "type a part, a parameter and its values"),
        (["method.alpha"], "type a part, a parameter and its values"),
        (["method.alpha=1"], "at least two different values"),
        (["method.alpha=1,1"], "at least two different values"),
        (["method.alhpa=1,2"], "Did you mean 'alpha'"),
        (["method.alpha=1,x"], "'x' is not a finite number"),
        (["method.alpha=1,1.0"], "are the same trials"),
        (["method.alpha=1,2", "method.alpha=3,4"], "given twice"),
        (["protocol.recipe.augment.crop_scale=0.2..x,0.3..1"], "crop_scale = 0.2..x: Input should be a valid tuple"),
        (["protocol.recipe.augment.crop_scale=0.2..3,0.3..1"], "less than or equal to 1"),
        (["protocol.recipe.batch=20..50,10"], "recipe.batch = 20..50: Input should be a valid integer"),
        (["protocol.batch=1,2"], "Did you mean 'recipe.batch'"),
        ([], "nothing varies"),
    ],
)
def test_mistakes_are_named_before_anything_runs(over: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(*over)


def test_axes_that_do_not_fit_and_a_compressor_that_is_not_there_are_refused() -> None:
    with pytest.raises(UserError, match="as many each"):
        made("method.alpha=1,3", "method.beta=1,2,3", paired=True)
    with pytest.raises(UserError, match="no compressor is named"):
        made("compressor.domain=logits,probabilities", base=Cell("score", None, "small-soft-v1"))


def measured(*accuracies: list[float]) -> list[sensitivity.Measured]:
    _, both = made("method.alpha=1,3", "protocol.recipe.batch=20,50")
    return [
        sensitivity.Measured(p, dict(enumerate(a)), {0: 0.3, 1: 0.5}, 2 - len(a))
        for p, a in zip(both, accuracies, strict=True)
    ]


def test_the_table_holds_means_and_paired_differences_to_the_first_row() -> None:
    axes, _ = made("method.alpha=1,3", "protocol.recipe.batch=20,50")
    frame = sensitivity.page(axes, measured([0.5, 0.7], [0.6, 0.8], [0.5, 0.6], []), "title").frame
    assert frame["accuracy"].tolist()[:3] == pytest.approx([0.6, 0.7, 0.55])
    assert math.isnan(frame["accuracy"][3])
    assert frame["delta"].tolist()[1:3] == pytest.approx([0.1, -0.05])
    assert frame["delta_ci95"][1] == pytest.approx(0.0, abs=1e-12)  # every replicate gains the same
    assert frame["missing"].tolist() == [0, 0, 0, 2]
    text = printed(sensitivity.page(axes, measured([0.5, 0.7], [0.6, 0.8], [0.5, 0.6], []), "title"), "text")
    assert "+10.0 ± 0.0" in text
    assert "without result" in text
    assert text.count("40.0 ± ") == 4  # random images, beside every row


@pytest.mark.parametrize("axes", [1, 2])
def test_one_parameter_is_drawn_as_a_line_and_two_as_a_map(tmp_path: Path, axes: int) -> None:
    listed, both = made(*("method.alpha=1,3", "protocol.recipe.batch=20,50")[:axes])
    rows = [sensitivity.Measured(point, {0: 0.25 * n, 1: 0.25 * n + 0.1}, {0: 0.4}, 0) for n, point in enumerate(both)]
    for name in ("a.png", "b.png"):
        sensitivity.draw(listed, rows, tmp_path / name, "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    pixels = matplotlib.image.imread(tmp_path / "a.png")
    assert pixels.std() > 0.05
    with pytest.raises(UserError, match="nothing to draw"):
        sensitivity.draw(listed, [sensitivity.Measured(p, {}, {}, 1) for p in both], tmp_path / "c.png", "title")


@pytest.mark.parametrize("protocol", ["small-soft-v1", "small-hard-v1", "rded-v1"])  # stored, class and online labels
@pytest.mark.parametrize("compressors", [(None,), ("rpca",), ("rpca", "rpca")])
def test_every_trial_of_a_sweep_is_one_of_its_table(
    protocol: str, compressors: tuple[str | None, ...], tmp_path: Path
) -> None:
    """With and without a compressor that is named."""
    fixed = {"datasets": ["digits"], "ipcs": [1], "replicates": 2, "budgets": ["10x"]}
    over = ["method.alpha=1,3", "compressor.domain=logits,probabilities"][: len(compressors)]
    _, both = made(*over, base=Cell("score", compressors[0], protocol))
    path = tmp_path / "sweep.toml"
    path.write_text(plan_text(both, fixed if compressors[0] else {**fixed, "budgets": []}, "t"), encoding="utf-8")
    trials = read_plan(path).trials(REGISTRY)
    records = [SimpleNamespace(id=t.id, status="ok", accuracy=0.1 if t.method == "random" else 0.5) for t in trials]
    rows = sensitivity.measured(both, trials, records)
    assert [(row.accuracies, row.random, row.missing) for row in rows] == [
        ({0: 0.5, 1: 0.5}, {0: 0.1, 1: 0.1}, 0)
    ] * len(both)


def test_where_labels_are_learned_random_images_bring_some() -> None:
    _, both = made("method.iterations=2,3", base=Cell("dm", None, "small-learned-v1"))
    assert {point.ground.method for point in both} == {"random-soft"}


def test_random_images_run_under_every_protocol_and_compressor_of_a_sweep_once() -> None:
    _, both = made("method.alpha=1,3", "protocol.recipe.batch=20,50")
    text = plan_text(both, {"datasets": ["digits"]}, "t")
    assert text.count('methods = ["random"]') == 2
    assert (
        plan_text(made("protocol.recipe.batch=20,50", base=Cell("random", None, "small-soft-v1"))[1], {}, "t").count(
            "[[grid]]"
        )
        == 2
    )


def test_records_are_found_by_the_trials_of_the_sweep(tmp_path: Path) -> None:
    """Under class labels a trial has no compressor, whatever the sweep names."""
    _, both = made("method.alpha=1,3", base=Cell("score", "rpca", "small-hard-v1"))
    path = tmp_path / "sweep.toml"
    path.write_text(plan_text(both, {"datasets": ["digits"], "ipcs": [1], "replicates": 2}, "t"), encoding="utf-8")
    trials = read_plan(path).trials(REGISTRY)
    records = [SimpleNamespace(id=t.id, status="ok", accuracy=0.5 + 0.1 * t.replicate) for t in trials[:3]]
    rows = sensitivity.measured(both, trials, records)  # type: ignore[arg-type]
    assert [(row.accuracies, row.missing) for row in rows] == [({0: 0.5, 1: 0.6}, 0), ({0: 0.5}, 1)]


def test_another_sweep_is_not_mixed_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text("title = 'another'\n", encoding="utf-8")
    with pytest.raises(UserError, match="is another sweep"):
        sweep_digits(tmp_path)


def test_a_sweep_that_does_not_run_leaves_no_folder(tmp_path: Path) -> None:
    """So that the corrected command finds none of another sweep."""
    folder = tmp_path / "sweep"
    with pytest.raises(UserError, match="digits"):
        sweep_digits(folder, "--dataset", "digts")
    assert not folder.exists()


@pytest.mark.trains
def test_a_dry_run_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    assert "6 trials" in sweep_digits(folder, "--dry-run")
    assert not folder.exists()


def sweep_digits(folder: Path, *options: str) -> str:
    """What the verb prints."""
    common = ("--dataset", "digits", "--method", "random", "--ipc", "1", "--over", "protocol.recipe.batch=20,50")
    command = [*common, "--results", str(folder), *options]
    return CliRunner().invoke(verb.command, command, catch_exceptions=False).output
