"""`condensebench probe --spectra`: singular values and effective rank of soft labels, beside what compressors cost."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bench.artifacts.refs import Workspace
from bench.cli.probe import command
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.records.files import append
from bench.studies.label_sets.trial_labels import trial_labelling
from bench.studies.probes.label_spectra import LabelsName, Spectra, drops, effective_rank, spectra
from tests.worlds.records import cell

PROTOCOL = "small-soft-v1:recipe.views=4"


def test_the_effective_rank_of_equal_values_is_their_number_and_zeros_add_nothing() -> None:
    values = np.array([[2.0, 2.0, 2.0, 0.0], [5.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert effective_rank(values) == pytest.approx([3, 1, 0])
    share = np.array([0.7, 0.2, 0.1])
    assert effective_rank(9 * share[None]) == pytest.approx([math.exp(-(share * np.log(share)).sum())])


def test_energy_is_the_share_of_the_squares() -> None:
    seen = Spectra(np.array([[4.0, 3.0, 0.0], [1.0, 0.0, 0.0]]), np.zeros((2, 3)))
    assert seen.energy(1) == pytest.approx((16 / 25 + 1) / 2)
    assert seen.energy(2) == seen.energy(99) == 1


def test_spectra_are_those_of_each_images_stored_labels(tmp_path: Path) -> None:
    labelling = trial_labelling(Workspace(tmp_path, discover()), "digits", PROTOCOL, "random", 2)
    images, domains = spectra(labelling)
    logits = labelling.raw(0).logits.double().numpy()
    assert images == len(logits) == 20
    softened = lambda z: torch.softmax(torch.tensor(z) / 4, -1).numpy()  # noqa: E731 (a formula)
    for name, change in (("logits", np.asarray), ("softmax, T = 4", softened)):
        for image, matrix in enumerate(logits):
            expected = np.linalg.svd(change(matrix), compute_uv=False)
            assert domains[name].values[image] == pytest.approx(expected, abs=1e-9)
            centred = change(matrix) - change(matrix).mean(axis=0)
            assert domains[name].centred[image] == pytest.approx(np.linalg.svd(centred, compute_uv=False), abs=1e-9)


def test_drops_are_paired_by_replicate_and_of_the_same_set_alone() -> None:
    packed = {"compressor": "rpca", "budget": "30x"}
    records = cell(0.6, seed=1) + cell(0.5, seed=2, **packed)[:2] + cell(0.9, seed=3, method="score", **packed)
    name = LabelsName("glyphs:classes=100", "small-soft-v1", "random", 10)
    one, other = drops(name, records, ["rpca@30x", "svd@30x"])
    differences = [records[3 + r].accuracy - records[r].accuracy for r in range(2)]
    assert (one.summary.n, one.summary.mean) == (2, pytest.approx(np.mean(differences)))
    assert math.isnan(other.summary.mean)


def test_the_verb_prints_a_row_for_each_set_and_domain_and_draws_them(tmp_path: Path) -> None:
    for record in cell(0.6, seed=1, dataset="digits", protocol=PROTOCOL, ipc=1):
        append(tmp_path / "results" / "records.jsonl", record)
    for record in cell(0.5, seed=2, dataset="digits", protocol=PROTOCOL, ipc=1, compressor="rpca", budget="30x"):
        append(tmp_path / "results" / "records.jsonl", record)
    options = ["--spectra", "--dataset=digits", "--method=random", "--method=el2n", "--ipc=1", f"--protocol={PROTOCOL}"]
    options += [f"--store={tmp_path / 'store'}", f"--results={tmp_path / 'results'}", "--drop=rpca@30x"]
    options += [f"--out={tmp_path / 'out'}"]
    text = CliRunner().invoke(command, options, catch_exceptions=False).stdout
    assert "effective rank" in text
    assert "-10.0 ± " in text
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "spectra.csv").read_text(encoding="utf-8"))))
    assert {(row["method"], row["domain"]) for row in rows} >= {("random", "logits"), ("el2n", "softmax, T = 4")}
    for row in rows:
        assert 1 <= float(row["rank"]) <= 4
        assert 0 <= float(row["centred_rank"]) <= 3.001  # one degree of freedom less
        assert float(row["energy_1"]) <= float(row["energy_2"]) <= 1 + 1e-12
        assert bool(row["drop rpca@30x"]) == (row["method"] == "random")
    assert (tmp_path / "out" / "spectra.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--spectra", "--scores"], "--spectra shows labels of replicate 0"),
        (["--spectra", "--crop-scale=0.5"], "--spectra shows labels of replicate 0"),
        (["--drop=rpca@30x"], "go together with --spectra"),
        (["--spectra", "--results=x"], "go together with --spectra"),
        (["--spectra", "--protocol=small-hard-v1"], "its labels are hard, there is nothing to look at"),
    ],
)
def test_what_does_not_go_together_is_told(options: list[str], message: str, tmp_path: Path) -> None:
    arguments = ["--dataset=digits", "--method=random", "--ipc=1", f"--store={tmp_path}", *options]
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(command, arguments, catch_exceptions=False)
