"""Condensed sets and stored labels that the store still holds: bound by content, and shown pixel by pixel."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.artifacts import store as artifacts
from bench.artifacts.duplicates import set_digest
from bench.artifacts.refs import read_condensed
from bench.plugins.registry import discover
from bench.website.gallery.gallery import MOST_PIXELS, Gallery, gallery, shown_images
from bench.website.gallery.kept_sets import Cell, NamedSet, kept_sets
from bench.website.gallery.sprites import NOT_STORED, heat_maps
from bench.website.material import Material, gather
from tests.worlds import website as world
from tests.worlds.kept_sets import IPC, Kept


@pytest.fixture(scope="module")
def material(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = world.write(tmp_path_factory.mktemp("results"), kept.records)
    return gather([folder], registry=discover(()), store=kept.store)


@pytest.fixture(scope="module")
def shown(kept: Kept, material: Material) -> Gallery:
    return gallery(material, kept.store)


def sets_of(shown: Gallery) -> dict[str, Any]:
    [content] = [text for name, text in shown.files.items() if name.startswith("data/")]
    values = json.loads(str(content).partition('"] = ')[2].rstrip().removesuffix(";"))
    return {each["method"]: each for each in values["sets"]}


def pixels(shown: Gallery, file: str) -> np.ndarray:
    content = shown.files[file]
    assert isinstance(content, bytes)
    return np.asarray(Image.open(io.BytesIO(content)))


def test_every_pixel_of_a_set_is_a_pixel_of_its_picture(kept: Kept, shown: Gallery) -> None:
    for method, entry in sets_of(shown).items():
        sheet = pixels(shown, entry["sheet"])
        arrays = kept.arrays(method)
        for label in range(10):
            for place, number in enumerate(np.flatnonzero(arrays["labels"] == label)):
                tile = sheet[8 * label : 8 * label + 8, 8 * place : 8 * place + 8]
                assert np.array_equal(tile, arrays["images"][number, 0])
        assert entry["there"] == [IPC] * 10


def test_a_set_of_another_content_is_not_shown_as_that_of_a_record(
    kept: Kept, material: Material, tmp_path: Path
) -> None:
    for method, ref in kept.sets.items():
        artifact = read_condensed(kept.ws, ref)
        images = np.array(artifact.arrays["images"])
        images[0, 0, 0, 0] ^= method == "random"  # one grey level of one pixel
        artifacts.write(tmp_path / ref.address, {**artifact.arrays, "images": images}, artifact.meta)
    other = gallery(material, tmp_path)
    assert sets_of(other).keys() == {"herding"}
    [lacking] = other.lacking
    assert lacking["methods"] == "random"
    words = "condensebench picture --dataset digits --protocol small-soft-v1 --ipc 2 --method random"
    assert lacking["command"].startswith(words)


@pytest.mark.parametrize("learned", [False, True])
def test_a_set_with_soft_labels_is_known_by_both_of_its_digests(tmp_path: Path, learned: bool) -> None:
    store = artifacts.Store(tmp_path)
    images, labels = np.zeros((2, 1, 8, 8), np.uint8), np.arange(2)
    arrays = {"images": images, "labels": labels, "soft_labels": np.eye(2, dtype=np.float32)}
    store.get("condensed", {"dataset": "d", "ipc": 1}, lambda: (arrays, {}))
    digest = set_digest(images, labels, arrays["soft_labels"] if learned else None)
    name = NamedSet(Cell("digits", 1), "method", digest, "d", ())
    [kept] = kept_sets([name], store)
    assert kept.name is name


def test_without_a_store_every_set_is_missing_and_named(material: Material, tmp_path: Path) -> None:
    none = gallery(material, tmp_path / "nowhere")
    assert none.index == [] == list(none.files)
    assert [each["methods"] for each in none.lacking] == ["random, herding"]
    assert not (tmp_path / "nowhere").exists()


def test_labels_before_and_after_a_compressor_are_those_that_a_student_is_given(kept: Kept, shown: Gallery) -> None:
    [stored] = sets_of(shown)["random"]["labels"]
    raw = [artifacts.read(path).arrays["logits"] for path, inputs in kept.ws.store.kept("raw-labels")
           if inputs["condensed"] == kept.sets["random"].address]  # fmt: skip
    [logits] = raw
    powers = np.exp(logits[0, : stored["rows"]].astype(np.float64) / stored["temperature"])
    label = powers / powers.sum(axis=1, keepdims=True)
    panels = np.split(pixels(shown, stored["heat"])[: stored["rows"]], stored["panels"], axis=1)
    levels = np.rint(label / stored["highest"] * (NOT_STORED - 1))
    assert np.abs(panels[0].astype(int) - levels).max() <= 1  # `highest` is rounded
    by_title = {each["title"]: each for each in stored["maps"]}
    assert np.array_equal(panels[by_title["none"]["at"]], panels[0])
    assert by_title["none"]["same"][0] == 1
    assert by_title["none"]["divergence"][0] == 0
    assert not np.array_equal(panels[by_title["svd@10x"]["at"]], panels[0])
    assert by_title["svd@10x"]["divergence"][0] > 0
    top = [said[0][0] for said in stored["said"][0]]
    assert top == logits[0, :8].argmax(axis=1).tolist()


def test_singular_values_are_those_of_the_stored_labels(kept: Kept, shown: Gallery) -> None:
    [group] = [each for each in shown.plots if each.title.endswith("condensed sets and stored labels")]
    chart = next(each for each in group.charts if each.key == "singular-values-0")
    drawn = [row["share"] for row in chart.spec["data"]["values"] if row["method"] == "random"]
    [path] = [path for path, inputs in kept.ws.store.kept("raw-labels")
              if inputs["condensed"] == kept.sets["random"].address]  # fmt: skip
    logits = artifacts.read(path).arrays["logits"].astype(np.float64)
    values = np.linalg.svd(logits, compute_uv=False)
    expected = (values / values[:, :1]).mean(axis=0)
    assert drawn == pytest.approx(expected[expected > 1e-6], rel=1e-5)


def test_how_hard_picked_images_are_is_told_beside_the_whole_split(kept: Kept, shown: Gallery) -> None:
    labels = kept.ws.data("digits").train.labels
    chances = np.random.default_rng(0).dirichlet(np.ones(10), (2, len(labels)))
    expected = np.linalg.norm(chances - np.eye(10)[labels], axis=2).mean(axis=0)
    [chart] = [each for group in shown.plots for each in group.charts if each.key == "scores"]
    rows = {row["row"]: row for row in chart.spec["data"]["values"]}
    assert rows.keys() == {"training split", "random", "herding"}
    assert rows["training split"]["median"] == pytest.approx(np.median(expected), abs=2e-3)  # float16 in the store
    ticks = [each["score"] for each in chart.spec["layer"][-1]["data"]["values"] if each["row"] == "herding"]
    assert ticks == pytest.approx(expected[kept.arrays("herding")["indices"]], abs=2e-3)


def test_a_learning_curve_is_that_which_ends_with_the_loss_of_the_record(kept: Kept, shown: Gallery) -> None:
    [group] = [each for each in shown.plots if each.title.endswith("learning curves")]
    [chart] = group.charts
    last = kept.records[0].train_loss
    assert [row["loss"] for row in chart.spec["data"]["values"]] == [2.0, 1.0, last]
    assert {row["row"] for row in chart.spec["data"]["values"]} == {"random"}


def test_what_is_not_stored_has_a_colour_of_its_own() -> None:
    values = np.array([[[[0.0, 0.5], [1.0, np.nan]]]])
    shown = np.asarray(Image.open(io.BytesIO(heat_maps(values, 1.0))))
    assert shown.tolist() == [[0, 127], [254, NOT_STORED]]


@pytest.mark.parametrize(
    ("classes", "ipc", "size"), [(10, 1, 8), (100, 10, 32), (1000, 50, 224), (10, 50, 28), (2, 1, 4000)]
)
def test_large_sets_are_shown_in_part(classes: int, ipc: int, size: int) -> None:
    labels = np.repeat(np.arange(classes), ipc)
    places = shown_images(labels, classes, size)
    assert places.size * size**2 <= max(MOST_PIXELS, size**2)
    assert (labels[places] == np.arange(len(places))[:, None]).all()
