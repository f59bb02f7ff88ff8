"""Kills at random moments: `python -m tests.stress [--kills 100] [--seed 0] [--into DIR] [--minutes M]`.

A plan of short trials runs again and again while its driver, its process group, a worker, Ray's raylet or Ray's
gcs_server is killed (SIGKILL), at a random moment: three in four after the run's first record. Whenever the plan is
complete, a new results folder begins. Every trial must then stand there once, no line torn, and all that a record says
of its result must be equal to a run that nobody disturbed. Every run must end as it should: with 0 where the plan was
completed, with 2 and one sentence where Ray was lost. Exit code 1 where anything is otherwise.

Nearly all that a kill takes is the start of Ray. So a run that goes on, as it does where a worker dies, has several
workers killed. With `--into` counts and records are kept in a folder, and the same command continues.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tests.worlds import ROOT
from tests.worlds.run import VARY, make_world

# Whom to kill -> the exit code of the run.
ENDS = {"driver": -signal.SIGKILL, "group": -signal.SIGKILL, "worker": 0, "raylet": 2, "gcs_server": 2}
VICTIMS = tuple(ENDS)
REPLICATES = 12  # of two methods
WORKERS = 2  # of one run that are killed, one after the other; a stage is tried once more often
LIMIT = 1800.0  # seconds for a run that is over in one minute on a machine that does nothing else
AFTER_FIRST = 0.75  # share of the kills that wait for a record of their run
SLOW = """
import time

import numpy as np


def select(train, ipc, ctx):
    rng = ctx.numpy("choice")
    time.sleep(0.3)
    return np.concatenate([rng.choice(train.class_indices(c), ipc, replace=False) for c in range(train.num_classes)])
"""


@dataclass
class Tally:
    """What was done, and what was not as it should be."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)  # (victim, before or after the first record)
    ends: Counter[tuple[str, int | None]] = field(default_factory=Counter)  # (victim, exit code)
    plans: int = 0
    trials: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Of all kills."""
        return sum(self.kills.values())

    def to_json(self) -> dict[str, Any]:
        """All of it, as `from_json` reads it."""
        counts = {name: [[*key, count] for key, count in getattr(self, name).items()] for name in ("kills", "ends")}
        return {**counts, "plans": self.plans, "trials": self.trials, "faults": self.faults}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Tally:
        """The inverse of to_json."""
        counts = {name: Counter({(each[0], each[1]): each[2] for each in kept[name]}) for name in ("kills", "ends")}
        return cls(**{**kept, **counts})


class Stress:
    """One world, its undisturbed records, and the runs that are killed.

    Args:
        root: an empty folder, or that of a `Stress` which ended; this one continues it.
        seed: of the moments and the victims.
        report: called with a line for every kill and every fault.
    """

    def __init__(self, root: Path, seed: int, report: Any = print) -> None:
        self._seed, self._report = seed, report
        self._world = make_world(root)
        self._world.add("slow.py", SLOW)
        (root / "home").mkdir(exist_ok=True)
        self._kept = root / f"tally-{seed}.json"
        kept = json.loads(self._kept.read_text()) if self._kept.exists() else {"tally": Tally().to_json(), "runs": 0}
        self.tally, self._runs = Tally.from_json(kept["tally"]), kept["runs"]
        self._results = 0
        self._reference, self._until_first, self._until_end = self._undisturbed()
        self._results = 1 + self.tally.plans

    def kill(self, victim: str | None = None, most: int = WORKERS) -> None:
        """Start or continue the plan, and kill once, a worker up to `most` times; the run is waited for.

        Args:
            victim: of `VICTIMS`; None: drawn, as are the moments, from the seed and the number of runs before.
            most: times.
        """
        self._random = random.Random(f"{self._seed}/{self._runs}")
        victim = victim or self._random.choice(VICTIMS)
        before = len(self._lines())
        driver = self._start()
        wait_for_record = self._random.random() < AFTER_FIRST
        self._wait(driver, before + 1 if wait_for_record else 0)
        longest = (self._until_end - self._until_first) / 2 if wait_for_record else self._until_first
        for _ in range(min(most, WORKERS) if victim == "worker" else 1):
            deadline = time.monotonic() + self._random.uniform(0, longest)
            struck = False
            while driver.poll() is None and not struck:
                struck = time.monotonic() > deadline and self._kill(victim, driver)
                time.sleep(0.01)
            if not struck:
                break
            self.tally.kills[victim, "after" if len(self._lines()) > before else "before"] += 1
            longest = (self._until_end - self._until_first) / WORKERS
        _, error = driver.communicate(timeout=LIMIT)
        self._runs += 1
        self.tally.ends[victim, driver.returncode] += 1
        self._report(f"{victim}: exit code {driver.returncode}, {len(self._lines())} records", file=sys.stderr)
        self._judge(victim, driver.returncode, error)
        self._check_lines()
        if len(self._lines()) == len(self._reference):
            self._check_plan()
        self._kept.write_text(json.dumps({"tally": self.tally.to_json(), "runs": self._runs}))

    def _undisturbed(self) -> tuple[dict[str, dict[str, Any]], float, float]:
        """(the records of a run that nobody disturbs, by trial; seconds until its first record, and until its end)."""
        times = self._world.root / "times.json"
        if not times.exists():
            began = time.monotonic()
            driver = self._start()
            self._wait(driver, 1)
            first = time.monotonic() - began
            _, error = driver.communicate(timeout=LIMIT)
            if driver.returncode != 0:
                raise SystemExit(f"the undisturbed run ended with {driver.returncode}:\n{error}")
            times.write_text(json.dumps([first, time.monotonic() - began]))
        first, end = json.loads(times.read_text())
        return {line["id"]: line for line in map(json.loads, self._lines())}, first, end

    def _start(self) -> subprocess.Popen[str]:
        world, root = self._world, self._world.root
        # The stores differ too, so that the condensed sets and teachers of every plan are made anew.
        places = {"--results": root / f"results-{self._results}", "--store": root / f"store-{self._results}"}
        flags = [flag for flag in world.flags(methods=("slow", "first")) if not flag.startswith(tuple(places))]
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *flags, *(f"{name}={place}" for name, place in places.items()),
             f"--replicates={REPLICATES}", "--jobs=2"],
            env={**os.environ, "HOME": str(root / "home"), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )  # fmt: skip

    def _wait(self, driver: subprocess.Popen[str], records: int) -> None:
        deadline = time.monotonic() + LIMIT
        while len(self._lines()) < records and driver.poll() is None:
            if time.monotonic() > deadline:
                raise SystemExit("no record came")
            time.sleep(0.02)

    def _kill(self, victim: str, driver: subprocess.Popen[str]) -> bool:
        """Whether there was a process to kill."""
        if victim == "driver":
            driver.kill()
        elif victim == "group":
            os.killpg(driver.pid, signal.SIGKILL)
        else:
            candidates = [process for process, line in self._processes() if _is(victim, line)]
            if not candidates:
                return False
            os.kill(self._random.choice(candidates), signal.SIGKILL)
        return True

    def _processes(self) -> list[tuple[int, str]]:
        """(id, command line) of the living processes of this world: they inherit its home folder."""
        marker = f"HOME={self._world.root / 'home'}".encode()
        alive = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if marker in (folder / "environ").read_bytes().split(b"\0"):
                    alive.append((int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")))
            except OSError:
                continue  # it ended meanwhile, or belongs to somebody else
        return alive

    def _lines(self) -> list[str]:
        """Every whole line of the records."""
        path = self._world.root / f"results-{self._results}" / "records.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def _judge(self, victim: str, code: int | None, error: str) -> None:
        """Whether a run ended as it should."""
        if code not in (ENDS[victim], 0):  # 0: the plan was complete before
            self._fault(f"{victim} killed: exit code {code}, {error[-2000:]}")
        if code == 2 and (error.count("Error: ") != 1 or not error.rstrip().endswith(".")):
            self._fault(f"{victim} killed: not one sentence at the end: {error[-2000:]}")
        if "Traceback" in error:
            self._fault(f"{victim} killed: {error[-2000:]}")

    def _check_lines(self) -> None:
        """No trial twice, no line torn, no failure."""
        lines = []
        for line in self._lines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                self._fault(f"a torn line: {line[:100]}")
        if twice := [name for name, number in Counter(line["id"] for line in lines).items() if number > 1]:
            self._fault(f"{len(twice)} trials stand there twice")
        if other := Counter(line["status"] for line in lines if line["status"] != "ok"):
            self._fault(f"statuses that no method earned: {dict(other)}")

    def _check_plan(self) -> None:
        """All is equal to the undisturbed run; then a new plan begins."""
        for line in map(json.loads, self._lines()):
            reference = self._reference.get(line["id"], {})
            moved = [
                key for key in line.keys() | reference.keys() if key not in VARY and line.get(key) != reference.get(key)
            ]
            if moved:
                self._fault(f"{line['trial']}: {', '.join(sorted(moved))} differ from the undisturbed run")
        self.tally.plans += 1
        self.tally.trials += len(self._reference)
        self._results += 1

    def _fault(self, text: str) -> None:
        self.tally.faults.append(text)
        self._report(f"FAULT: {text}", file=sys.stderr)


def _is(victim: str, line: str) -> bool:
    program = line.split(" ")[0]
    if victim == "worker":  # or a process that it forked: the fork server, a warden, a plugin
        return program.startswith("ray::") and "Agent" not in program
    return program.endswith(f"/{victim}")


def table(tally: Tally) -> str:
    """Kills by victim and moment, exit codes, and what was not as it should be."""
    rows = [
        [
            victim,
            tally.kills[victim, "before"] + tally.kills[victim, "after"],
            tally.kills[victim, "after"],
            ", ".join(
                f"{code}: {number}" for (name, code), number in sorted(tally.ends.items(), key=str) if name == victim
            ),
        ]
        for victim in VICTIMS
    ]
    body = tabulate(rows, ["killed", "times", "after a record", "exit codes"])
    kills, after = (sum(row[column] for row in rows) for column in (1, 2))
    return (
        f"{body}\n\n{kills} kills, {after} of them after the first record of their run; {tally.plans} plans of "
        f"{tally.trials // max(1, tally.plans)} trials completed; {len(tally.faults)} faults"
    )


def main() -> None:
    """Kill, check, print. Exit code 1 where something was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=VICTIMS, help="kill nothing else")
    parser.add_argument("--into", type=Path, metavar="DIR", help="keep counts and records here, and continue")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so long")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="condensebench-stress-", ignore_cleanup_errors=True) as temporary:
        folder = options.into or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        stress = Stress(folder, options.seed)
        while stress.tally.number < options.kills and time.monotonic() < until:
            stress.kill(options.only, options.kills - stress.tally.number)
        print(table(stress.tally))
        sys.exit(1 if stress.tally.faults else 0)


if __name__ == "__main__":
    main()
