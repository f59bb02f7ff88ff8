"""The fuzzers: a few inputs of every reader, and a reader with a fault is found out."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest

from bench.errors import UserError
from tests import fuzz


@pytest.mark.parametrize("name", fuzz.READERS)
def test_no_reader_ends_in_an_error_that_it_does_not_declare(name: str) -> None:
    tally = fuzz.fuzz(name, 40, seed=7)
    assert tally.faults == {}
    assert 0 < tally.refused <= tally.inputs == 40


def test_a_reader_with_a_fault_is_found_out_and_the_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(random: Random, folder: Path) -> None:
        kind = random.randrange(3)
        if kind == 0:
            raise UserError("refused")
        if kind == 1:
            raise KeyError("undeclared")
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass

    monkeypatch.setitem(fuzz.READERS, "reader", reader)
    monkeypatch.setattr(fuzz, "LONGEST", 0.01)
    tally = fuzz.fuzz("reader", 30, seed=1)
    assert tally.refused > 0
    assert sorted(place[:8] for place in tally.faults if not place[0].isdigit()) == ["KeyError"]
    assert any(place.endswith(" s") for place in tally.faults)
    assert all(which.startswith("reader/1/") for which in tally.faults.values())


def test_the_values_that_once_broke_a_reader_still_break_none(tmp_path: Path) -> None:
    texts = {
        "brackets": "x = " + "[" * 100_000,
        "dots": ".".join("a" * 100_000) + " = 1",
        "digits": "x = " + "9" * 5_000,
        "numbers": "[[grid]]\ndatasets=['digits']\nprotocols=['small-hard-v1']\nmethods=['random']\nreplicates=1"
        + "0" * 30,
        "label": "labels = 3.5",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text)
        for read in (read_all_trials, fuzz.read_claims, read_protocol):
            start = time.process_time()
            with pytest.raises(UserError):
                read(tmp_path / f"{name}.toml")
            assert time.process_time() - start < 2


def read_all_trials(path: Path) -> object:
    return fuzz.read_plan(path).trials(fuzz.registry())


def read_protocol(path: Path) -> object:
    return fuzz.definition.parse("a", fuzz.read_toml(path), path)
