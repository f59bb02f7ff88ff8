"""The stress script, on a driver that only writes lines: it kills, continues, and finds what is not as it should be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import stress
from tests.stress import Stress, Tally, table

TRIALS = 6
DRIVER = """
import json, os, sys, time
folder, trials, odd = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.makedirs(folder, exist_ok=True)
file = os.path.join(folder, "records.jsonl")
done = len(open(file).readlines()) if os.path.exists(file) else 0
for number in range(done, trials):
    time.sleep(0.02)
    line = {"id": str(number), "trial": number, "status": "ok", "accuracy": number / 10, "finished": time.time()}
    if odd == "twice" and number == 3:
        line["id"] = "2"
    if odd == "moved" and number == 3:
        line["accuracy"] = 1.0
    with open(file, "a") as opened:
        opened.write(json.dumps(line) + "\\n")
time.sleep(0.1)
"""


class Scripted(Stress):
    """Its driver is the script above. `odd`: what the script does wrong, once the undisturbed run is over."""

    odd = ""

    def _start(self) -> subprocess.Popen[str]:
        folder = self._world.root / f"results-{self._results}"
        odd = self.odd if self._results else ""
        command = [sys.executable, "-c", DRIVER, str(folder), str(TRIALS), odd]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def silent(*_: Any, **__: Any) -> None:
    """No line for every kill."""


def test_kills_are_counted_and_the_next_call_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stress, "AFTER_FIRST", 1.0)
    first = Scripted(tmp_path, 0, silent)
    while first.tally.number < 2:
        first.kill("driver")
    second = Scripted(tmp_path, 0, silent)
    assert second.tally == first.tally
    while second.tally.plans < 1 or second.tally.number < 4:
        second.kill("group" if second.tally.number % 2 else "driver")
    assert second.tally.faults == []
    assert second.tally.trials == TRIALS * second.tally.plans
    assert {code for _, code in second.tally.ends} <= {-9, 0}
    assert all(moment == "after" for _, moment in second.tally.kills)
    assert f"{second.tally.number} kills, {second.tally.number} of them after the first record" in table(second.tally)
    assert Tally.from_json(json.loads(json.dumps(second.tally.to_json()))) == second.tally


@pytest.mark.parametrize(("odd", "fault"), [("twice", "stand there twice"), ("moved", "3: accuracy differ")])
def test_what_is_not_as_it_should_be_is_a_fault(odd: str, fault: str, tmp_path: Path) -> None:
    run = Scripted(tmp_path, 1, silent)
    run.odd = odd
    while not run.tally.plans:
        run.kill("driver")
    assert any(fault in each for each in run.tally.faults)
    assert "Traceback" not in "".join(run.tally.faults)
