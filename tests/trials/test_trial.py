"""A trial's id is frozen: these ids may never change, whatever else does."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from bench.trials.trial import Trial

GOLDEN = {
    Trial("digits", "small-soft-v1", "random", 1, "none", None, "convnet", 0): "76ed0f3a6fdb0bcb",
    Trial("digits", "small-soft-v1", "random", 1, "none", None, "convnet", 1): "1288f80db09c7e4a",
    Trial("digits", "small-hard-v1", "herding", 10, None, None, "convnet", 0): "99eb450afd157e07",
    Trial("mnist5k", "small-soft-v1", "el2n:end=hard", 10, "svd", "30x", "convnet", 2): "ed98dea44b49af57",
    Trial(
        "glyphs:classes=1000", "small-soft-v1", "score:alpha=2.0", 50, "lpld", "20000B", "resnet:width=32", 0
    ): "26cd6231488dbb75",
    Trial("heldout:of=glyphs", "small-soft-v1", "rded", 1, "rpca", "12.5x", "timm:resnet18", 0): "f208c7a40120cde7",
}


@pytest.mark.parametrize(("trial", "expected"), GOLDEN.items(), ids=str)
def test_ids_are_frozen(trial: Trial, expected: str) -> None:
    assert trial.id == expected


def test_every_field_is_part_of_the_identity() -> None:
    trial = Trial("digits", "small-soft-v1", "random", 1, "svd", "30x", "convnet", 0)
    others = [
        replace(trial, dataset="mnist5k"), replace(trial, protocol="p"), replace(trial, method="herding"),
        replace(trial, ipc=2), replace(trial, compressor="cur"), replace(trial, compressor=None),
        replace(trial, budget="31x"), replace(trial, budget=None), replace(trial, student="resnet"),
        replace(trial, replicate=1),
    ]  # fmt: skip
    assert len({trial.id, *(other.id for other in others)}) == len(others) + 1


def test_the_order_of_keys_and_unknown_keys_do_not_matter() -> None:
    for trial in GOLDEN:
        items = [*trial.as_dict().items(), ("id", "x"), ("note", 1)]
        random.Random(0).shuffle(items)
        assert Trial.from_dict(dict(items)) == trial
        assert Trial.from_dict(json.loads(json.dumps(trial.as_dict()))).id == trial.id


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_ids_are_the_same_in_another_process(hash_seed: str) -> None:
    program = (
        "import json, sys; from bench.trials.trial import Trial\n"
        "print(json.dumps([Trial.from_dict(t).id for t in json.load(sys.stdin)]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([trial.as_dict() for trial in GOLDEN]),
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(answer.stdout) == list(GOLDEN.values())


def test_a_trial_reads_as_a_line() -> None:
    soft, hard = list(GOLDEN)[3], list(GOLDEN)[2]
    assert str(soft) == "mnist5k ipc=10 el2n:end=hard svd@30x small-soft-v1 convnet replicate=2"
    assert str(hard) == "digits ipc=10 herding small-hard-v1 convnet replicate=0"
