"""`plot`: what a figure shows of records, that it shows it every time alike, and what it refuses."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scipy import stats as scipy_stats

from bench.cli import cli
from bench.records.files import Record, append
from bench.reports import plots
from tests.worlds.records import cell, made_by, record

IMAGES = 1000  # of _records.record: 100 classes, ipc 10


def packed(mean: float, size: int, **changed: Any) -> list[Record]:
    """Replicates whose label files have `size` bytes."""
    return [each.model_copy(update={"bytes_labels": each.bytes_labels.model_copy(update={"total": size})})
            for each in cell(mean, **changed)]  # fmt: skip


def field() -> list[Record]:
    return [
        *cell(0.6),
        *packed(0.58, 2_250_000, compressor="klt", budget="10x", seed=1),
        *packed(0.5, 225_000, compressor="klt", budget="100x", seed=2),
        *packed(0.4, 2_250_000, compressor="rpca", budget="10x", seed=3),
        *packed(0.3, 90_000, compressor="fkd-hard", seed=4),
        *(record(None, status="infeasible", compressor="rpca", budget="100x", replicate=r) for r in range(3)),
        *cell(0.2, compressor=None, protocol="small-hard-v1"),
    ]


def write(folder: Path, records: list[Record]) -> str:
    for each in records:
        append(folder / "records.jsonl", each)
    return str(folder)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["plot", *arguments])


def test_a_point_stands_at_true_bytes_with_the_interval_that_scipy_gives() -> None:
    found = plots.panels(packed(0.5, 225_000, compressor="klt", budget="100x", n=5, seed=2))
    (panel,) = found
    (point,) = panel.points
    values = [100 * each.accuracy for each in cell(0.5, n=5, seed=2) if each.accuracy is not None]
    low, high = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (point.compressor, point.budget, point.n) == ("klt", "100x", 5)
    assert point.bytes == 225_000 / IMAGES
    assert panel.reference == 100 * 225  # views x (2 bytes a class and 25 of parameters)
    assert (point.mean - point.half, point.mean + point.half) == pytest.approx((low, high))


def test_a_panel_holds_lines_by_bytes_and_the_two_lines_to_measure_by() -> None:
    (panel,) = plots.panels(field())
    assert [(p.compressor, p.budget) for p in panel.points] == [
        ("fkd-hard", None), ("klt", "100x"), ("klt", "10x"), ("rpca", "10x"),
    ]  # fmt: skip
    assert panel.uncompressed is not None
    assert panel.uncompressed.mean == pytest.approx(60, abs=0.1)
    assert panel.hard is not None
    assert panel.hard.mean == pytest.approx(20, abs=0.1)


def test_a_single_replicate_has_no_interval_and_is_drawn(tmp_path: Path) -> None:
    records = packed(0.5, 225_000, compressor="klt", budget="100x", n=1)
    (panel,) = plots.panels(records)
    assert panel.points[0].half != panel.points[0].half  # nan
    assert run("--results", write(tmp_path, records), "--out", str(tmp_path / "a.png")).exit_code == 0


def test_what_the_protocol_fixes_differently_never_shares_a_panel() -> None:
    one = packed(0.5, 225_000, compressor="klt", budget="100x")
    other = packed(0.5, 225_000, compressor="svd", budget="100x", made_by=made_by(teacher="another"))
    elsewhere = packed(0.5, 225_000, compressor="svd", budget="100x", method="score")
    assert [len(panel.points) for panel in plots.panels([*one, *other, *elsewhere])] == [1, 1, 1]


def test_of_several_hard_label_protocols_none_is_drawn() -> None:
    (panel,) = plots.panels([*field(), *cell(0.25, compressor=None, protocol="standard-hard-sgd-v1")])
    assert panel.hard is None
    (panel,) = plots.panels([*field()[:-3], *cell(0.2, compressor=None, protocol="small-hard-v1", method="score")])
    assert panel.hard is None  # other images


def test_panels_side_by_side_have_one_range_of_at_least_a_decade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: seen.append(figure))
    near = packed(0.5, 225_000, compressor="klt", budget="100x") + packed(0.4, 224_000, compressor="pq", budget="100x")
    plots.draw(
        plots.panels([*near, *packed(0.3, 225_100, compressor="klt", budget="100x", method="score")]),
        tmp_path / "a.png",
    )
    limits = [axes.get_xlim() for axes in seen[0].axes]
    assert limits[0] == limits[1]
    low, high = limits[0]
    assert high / low == pytest.approx(10)
    assert low < 224 < 225.1 < high


def test_no_two_compressors_look_the_same() -> None:
    looks = [plots.look(place) for place in range(21)]
    assert len({(colour, str(dashes)) for colour, dashes, _ in looks}) == 21
    assert len({(colour, mark) for colour, _, mark in looks}) == 21


def test_what_keeps_most_within_most_budgets_comes_first() -> None:
    score = [*packed(0.3, 2_250_000, compressor="rpca", budget="10x", method="score"), *cell(0.4, method="score")]
    once = packed(0.59, 2_250_000, compressor="svd", budget="10x", seed=5)
    assert plots.order(plots.panels([*field(), *score, *once])) == ["klt", "rpca", "svd", "fkd-hard"]


def test_the_same_records_give_the_same_file_in_every_format(tmp_path: Path) -> None:
    folder = write(tmp_path / "results", field())
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        files = [tmp_path / f"{name}{suffix}" for name in "ab"]
        for file in files:
            result = run("--results", folder, "--out", str(file))
            assert result.exit_code == 0, result.output
        assert "1 panels, 3 compressors" in result.output
        assert "not drawn, infeasible: rpca@100x" in result.output
        assert files[0].read_bytes() == files[1].read_bytes()
        assert files[0].read_bytes().startswith(start)


def test_an_svg_names_every_compressor_and_no_day(tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    assert run("--results", write(tmp_path, field()), "--out", str(file)).exit_code == 0
    text = file.read_text(encoding="utf-8")
    for words in ("klt", "rpca", "fkd-hard", "uncompressed", "class labels", "random on glyphs:classes=100, ipc 10"):
        assert f"<!-- {words} -->" in text
    assert "<dc:date>" not in text


@pytest.mark.parametrize(
    ("records", "out", "words"),
    [
        ([], "a.png", ["nothing to plot", "0 records", "condensebench run"]),
        (cell(0.5), "a.png", ["nothing to plot", "3 records"]),
        (field(), "a.gif", ["a.gif", ".png, .svg, .pdf"]),
        (field(), "missing/a.png", ["no folder", "mkdir -p"]),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_paragraph(
    tmp_path: Path, records: list[Record], out: str, words: list[str]
) -> None:
    (tmp_path / "records.jsonl").touch()
    result = run("--results", write(tmp_path, records), "--out", str(tmp_path / out))
    assert result.exit_code != 0
    for word in words:
        assert word in str(result.exception)
    assert not (tmp_path / out).exists()


def test_an_edited_line_is_left_out_and_told(tmp_path: Path) -> None:
    folder = write(tmp_path, field())
    file = tmp_path / "records.jsonl"
    file.write_text(file.read_text().replace('"accuracy":0.5', '"accuracy":0.9', 1))
    result = run("--results", folder, "--out", str(tmp_path / "a.png"))
    assert result.exit_code == 1
    assert "the line was changed" in result.output


def test_ratios_on_top_do_not_run_into_each_other() -> None:
    """The budgets of the tables come first."""
    assert plots.ticks_with_room(20_000, 100, 4000) == [5, 10, 30, 100, 200]
    wide = plots.ticks_with_room(200_000, 100, 25_000)
    assert {10, 30, 100} <= set(wide)
    assert min(b / a for a, b in itertools.pairwise(wide)) > (25_000 / 100) ** 0.13
