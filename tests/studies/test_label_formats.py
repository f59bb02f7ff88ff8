"""The literature's storage figures: every formula gives what was printed, and every layout what torch really writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import UserError
from bench.studies.storage.formats import LAYOUTS, stored
from bench.studies.storage.published_sizes import CLAIMS
from bench.studies.storage.storage_table import Setting, layouts, meanings

# Figures that were printed with a word such as "about", and by how much they are off.
LOOSE = {"labels, ImageNet-1K, IPC 200": 0.12}


def claim_id(claim: object) -> str:
    return f"{claim.source}: {claim.what}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("claim", CLAIMS, ids=claim_id)
def test_the_formula_gives_the_printed_figure_within_its_last_digit(claim) -> None:
    digits = len(f"{claim.printed:g}".partition(".")[2])
    half = 10.0**-digits  # truncated or rounded
    loose = LOOSE.get(claim.what, 0) * claim.printed if claim.source == "SCORE" else 0
    assert abs(claim.computed - claim.printed) <= max(half, 0.003 * claim.printed, loose)


@pytest.mark.parametrize(
    ("what", "gives"),
    [
        ("labels, ImageNet-1K, IPC 10", 5.667),
        ("labels, ImageNet-1K, IPC 50", 28.33),
        ("labels at 30x, ImageNet-1K, IPC 50", 1.863),
        ("labels, Tiny ImageNet, IPC 50", 449),
        ("labels, ImageNet-21K-P, IPC 20", 1285.4),
        ("labels at 40x, ImageNet-1K, IPC 10", 0.1417),
    ],
)
def test_the_figures_that_were_computed_by_hand(what: str, gives: float) -> None:
    assert next(c for c in CLAIMS if c.what == what).computed == pytest.approx(gives, rel=2e-3)


def written(content: object, folder: Path) -> int:
    path = folder / "batch_10.tar"  # the name stands in the archive, before every tensor
    torch.save(content, path)
    return path.stat().st_size


@pytest.mark.parametrize(("batch", "classes"), [(128, 1000), (1024, 1000), (64, 200)])
def test_torch_writes_what_the_batch_layouts_say(tmp_path: Path, batch: int, classes: int) -> None:
    coords, flip, logits = torch.rand(batch, 4), torch.rand(batch) > 0.5, torch.randn(batch, classes).half()
    mixed = written([coords, flip, torch.randperm(batch), 0.5, [1, 2, 3, 4], logits], tmp_path)
    plain = written([coords, flip, None, None, None, logits], tmp_path)
    for name, size in (("sre2l", mixed), ("sre2l-unmixed", plain)):
        told = stored(LAYOUTS[name], images=batch, views=1, classes=classes, batch=batch)
        assert abs(told.total - size) <= 128, name  # the archive's alignment to 64 bytes moves with the sizes


def test_torch_writes_what_lpqld_and_fkd_say(tmp_path: Path) -> None:
    batch, k = 128, 50
    content = [
        torch.rand(batch, 4).half(), torch.rand(batch) > 0.5, torch.zeros(batch, dtype=torch.uint8), 0.5,
        torch.zeros(4, dtype=torch.uint8), torch.randn(batch, k).half(), torch.zeros(batch, k, dtype=torch.int16),
    ]  # fmt: skip
    told = stored(LAYOUTS["lpqld"], images=batch, views=1, classes=1000, batch=batch, topk=k)
    assert abs(told.total - written(content, tmp_path)) <= 128
    image = [torch.rand(500, 4), torch.rand(500) > 0.5, torch.rand(500, 2, 5)]
    told = stored(LAYOUTS["fkd"], images=1, views=500, classes=1000, dtype="fp32", topk=5)
    assert abs(told.total - written(image, tmp_path)) <= 128


def test_parts_add_up_and_blocks_only_add() -> None:
    for layout in LAYOUTS.values():
        told = stored(layout, images=1000, views=7, classes=10, batch=64)
        assert told.total == told.payload + told.metadata + told.container
        assert told.total <= told.on_disk <= told.total + 4096 * told.files


def test_thirty_times_means_three_things() -> None:
    result = CliRunner().invoke(cli, ["storage", "--format", "json"])
    told = {row["by"]: row for row in json.loads(result.output)["meanings"]}
    assert told["SCORE"]["bytes"] / 2**30 == pytest.approx(1.863, abs=1e-3)
    assert told["LPLD"]["bytes"] / 2**30 == pytest.approx(0.85, abs=1e-2)
    assert told["SCORE"]["bytes"] / told["LPLD"]["bytes"] == pytest.approx(2.2, abs=0.05)
    assert told["this project"]["true factor"] == pytest.approx(30, abs=1e-3)
    assert told["SCORE"]["true factor"] == pytest.approx(15.2, abs=0.05)


def test_text_and_markdown_name_every_figure() -> None:
    for format_ in ("text", "md"):
        result = CliRunner().invoke(cli, ["storage", "--classes", "100", "--ipc", "10", "--format", format_])
        assert result.exit_code == 0
        assert all(claim.formula in result.output for claim in CLAIMS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--classes", "2", "--ipc", "1", "--views", "1", "--factor", "1000000"),
        ("--classes", "7", "--ipc", "3", "--views", "11", "--dtype", "fp32", "--batch", "5", "--factor", "12.5"),
        ("--classes", "10450", "--ipc", "200", "--topk", "100000"),
    ],
)
def test_any_setting_is_answered(arguments: tuple[str, ...]) -> None:
    for format_ in ("text", "md", "json"):
        result = CliRunner().invoke(cli, ["storage", *arguments, "--format", format_])
        assert (result.exit_code, result.exception) == (0, None)


def test_a_factor_that_leaves_nothing_says_so() -> None:
    result = CliRunner().invoke(cli, ["storage", "--classes", "2", "--ipc", "1", "--views", "1", "--factor", "1000"])
    assert "here not one batch" in result.output
    assert result.output.count("here not one byte") == 2


def test_no_more_values_are_stored_than_there_are_classes() -> None:
    few, all_ = ({row["layout"]: row["total"] for row in layouts(Setting(classes=5, topk=topk))} for topk in (10, 5))
    assert few == all_


@pytest.mark.parametrize("factor", ["nan", "inf"])
def test_a_factor_that_is_no_number_is_refused(factor: str) -> None:
    result = CliRunner().invoke(cli, ["storage", "--factor", factor])
    assert isinstance(result.exception, UserError)
    assert f"--factor {factor}: must be a number from 1 on" in str(result.exception)


@pytest.mark.parametrize(("nominal", "true"), [(10, 10), (20, 20), (30, 33.3), (40, 40)])
def test_what_lpld_calls_30x_is_33x(nominal: float, true: float) -> None:
    [row] = [row for row in meanings(Setting(), nominal) if row["by"] == "LPLD"]
    assert row["true factor"] == pytest.approx(true, rel=3e-3)
