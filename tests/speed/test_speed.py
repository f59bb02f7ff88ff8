"""What `make speed` measures: the files that say they can be, and no other."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import speed
from speed import recovery
from speed.__main__ import SUBJECTS


@pytest.mark.parametrize("name", sorted(p.stem for p in Path(speed.__path__[0]).glob("[!_]*.py")))
def test_a_file_is_a_subject_exactly_if_it_measures(name):
    assert (name in SUBJECTS) == hasattr(importlib.import_module(f"speed.{name}"), "measure")


def test_the_subjects_are_those_of_the_committed_figures():
    assert {"compressors", "decompositions", "klt", "recovery", "score", "training"} <= set(SUBJECTS)
    assert not {"row", "rate_distortion", "conditions", "klt_bound"} & set(SUBJECTS)


@pytest.mark.slow
def test_the_figures_of_photographs_can_be_measured_anew():
    rows = importlib.import_module("speed.data").measure(quick=True)
    assert [row.bar for row in rows] == [0.85, 5000, 20, None]
    assert all(row.value > 0 for row in rows)


@pytest.mark.trains
def test_what_a_gpu_has_to_clear_runs_on_the_processor_in_miniature():
    rows = {row.what: row for row in importlib.import_module("speed.gpu").measure(quick=True)}
    measured = {what for what, row in rows.items() if row.value > 0}
    # Each of two students, in two precisions, as it is and with batches made ahead; and the labels.
    assert len(measured) == 2 * 2 * 2 + 1
    assert all("miniature" in rows[what].note for what in measured)
    skipped = {what: row.note for what, row in rows.items() if what not in measured}
    assert all(math.isnan(rows[what].value) for what in skipped)
    assert "NumPy" in skipped["SCORE's greedy on the device"]
    assert any("CUDA graphs" in what for what in skipped)
    assert any("truncated SVD" in what for what in skipped)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_full_sizes_are_told_not_to_have_run():
    rows = importlib.import_module("speed.gpu").measure()
    assert all(math.isnan(row.value) and row.bar is None for row in rows)
    assert {row.note for row in rows} >= {"no CUDA device: never run on a GPU"}


@pytest.mark.trains  # selections, in processes of their own
def test_the_engine_carries_files_of_imagenet_in_miniature():
    """Every step runs, and its memory is within the law; the full size is measured by hand."""
    rows = importlib.import_module("speed.imagenet").measure(quick=True)
    assert [row.holds for row in rows[-2:]] == [True, True], rows[-2:]
    assert all(row.value >= 0 for row in rows)
    assert len(rows) == 12


@pytest.mark.trains  # compressors that compile
def test_labels_are_made_once_for_five_compressors_in_miniature():
    seen, peak, *compressors = importlib.import_module("speed.labels_once").measure(quick=True)
    assert seen.value == 1.0
    assert peak.holds
    assert len(compressors) == 5


def test_passes_through_a_network_are_counted_by_whether_they_go_back() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    images, passes = torch.zeros(3, 1, 2, 2), recovery.Passes(network)
    with passes:
        network(images)
        network(images.clone().requires_grad_())
        with torch.no_grad():
            network(images.clone().requires_grad_())
    network(images)
    assert passes.note(passes.bare_seconds()).startswith("3 images forward and back, 6 forward alone: ")
    assert passes.per_image.keys() == {False, True}
