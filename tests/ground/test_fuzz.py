"""The fuzzers: a few inputs of every reader, and a reader with a fault is found out."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest

from bench.errors import UserError
from tests.fuzz import __main__ as program
from tests.fuzz import tallies
from tests.fuzz.reader import Reader, of_bytes
from tests.fuzz.readers import READERS
from tests.fuzz.texts import read_all_trials, read_claims, read_protocol
from tests.fuzz.watchdog import watched

pytestmark = [  # of decoders, at numbers beyond all bounds, and of torch, at kinds of tensors that it gives up
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
FEW = {"record-folder": 4, "command-line": 10}  # readers whose inputs take longer; of the others 40 are read


@pytest.fixture(autouse=True)
def _folder() -> Iterator[None]:
    with tallies.laid_out():
        yield


@pytest.mark.parametrize("name", READERS)
def test_no_reader_ends_in_an_error_that_it_does_not_declare(name: str) -> None:
    inputs = FEW.get(name, 40)
    tally = tallies.read_inputs(READERS[name], name, 7, range(inputs))
    assert tally.faults == {}
    assert 0 < tally.refused <= tally.inputs == inputs


def test_an_input_is_decided_by_its_name_alone() -> None:
    for name, reader in READERS.items():
        assert tallies.input_of(reader, name, 3, 5) == tallies.input_of(reader, name, 3, 5), name
        assert tallies.input_of(reader, name, 3, 5) != tallies.input_of(reader, name, 4, 5), name


def faulty(random: Random) -> bytes:
    return random.choice((b"refused", b"undeclared", b"slow", b"fine"))


def read_faulty(data: bytes) -> None:
    if data == b"refused":
        raise UserError("refused")
    if data == b"undeclared":
        raise KeyError("undeclared")
    while data == b"slow":
        pass


def test_a_reader_with_a_fault_is_found_out_and_the_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "LONGEST", 0.02)
    tally = tallies.read_inputs(of_bytes(faulty, read_faulty), "reader", 1, range(30))
    assert tally.refused > 0
    assert sorted(place[:8] for place in tally.faults) == ["KeyError", "no end a"]
    assert all(which.startswith("reader/1/") for which in tally.faults.values())


def test_a_reader_that_waits_for_what_never_comes_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "WAITING", 0.05)
    pipe, _ = os.pipe()
    fault, refused = tallies.fault_of(of_bytes(faulty, lambda _: os.read(pipe, 1)), {"input": b""})
    assert fault.startswith("no end at ")
    assert not refused


def deadly(data: bytes) -> None:
    """Ends its process, or takes more memory than there is for it, at one input in four each."""
    if data == b"undeclared":
        os.kill(os.getpid(), signal.SIGKILL)
    if data == b"slow":
        bytearray(2 * 2**30)
    if data == b"refused":
        raise UserError("refused")


def test_an_input_that_its_process_does_not_survive_costs_no_other() -> None:
    tally = watched(of_bytes(faulty, deadly), "reader", 1, range(20))
    assert tally.inputs == 20
    assert tally.refused > 0
    assert [fault.partition(" at ")[0] for fault in sorted(tally.faults)] == ["MemoryError", "died of SIGKILL"]


def test_counts_are_kept_and_the_next_call_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(random: Random) -> bytes:
        return random.randbytes(50)

    def read(data: bytes) -> None:
        if b"a" in data:
            raise KeyError

    monkeypatch.setattr(program, "READERS", {"reader": of_bytes(make, read)})
    other = {"other": asdict(tallies.Tally(inputs=3))}  # a reader that was named before, and is not named now
    (tmp_path / "tallies-0.json").write_text(json.dumps(other))
    monkeypatch.setattr(program, "CHUNK", 20)
    asked: list[range] = []

    def seen(reader: Reader, name: str, seed: int, numbers: range) -> tallies.Tally:
        asked.append(numbers)
        return tallies.read_inputs(reader, name, seed, numbers)

    monkeypatch.setattr(program, "watched", seen)
    for inputs in ("30", "50", "50"):
        monkeypatch.setattr("sys.argv", ["fuzz", "--inputs", inputs, "--into", str(tmp_path)])
        assert program.main() == 1
    assert asked == [range(20), range(20, 30), range(30, 50)]
    assert "| all | 50 | 0 | 1 |" in capsys.readouterr().out
    kept = json.loads((tmp_path / "tallies-0.json").read_text())
    assert {name: tally["inputs"] for name, tally in kept.items()} == {"other": 3, "reader": 50}
    (saved,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert (saved / "input").read_bytes() == b"a"  # all that is at fault about it
    assert program.again(saved).startswith("KeyError at ")


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
        for read in (read_all_trials, read_claims, read_protocol):
            start = time.process_time()
            with pytest.raises(UserError):
                read(tmp_path / f"{name}.toml")
            assert time.process_time() - start < 2
