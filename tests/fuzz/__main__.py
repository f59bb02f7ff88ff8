"""Fuzz readers: `python -m tests.fuzz --inputs N [--into DIR] [--minutes M] [NAME ...]`.

Inputs are called READER/SEED/NUMBER, and that name alone decides what they are. With `--into` the counts are kept in a
folder, the same command continues, and inputs at fault are saved there, made as small as they stay at fault:

    python -m tests.fuzz --inputs 1000000 --into DIR --minutes 9      # again and again, until all are done
    python -m tests.fuzz --again DIR/READER-SEED-NUMBER               # read a saved input once more

Exit code 1 if there is any fault.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tests.fuzz.changes import Files
from tests.fuzz.readers import READERS
from tests.fuzz.tallies import Tally, fault_of, input_of, laid_out, shrunk
from tests.fuzz.watchdog import watched

CHUNK = 500  # inputs between two looks at the clock, of a reader that has a whole share
DIED = "died", "ended", "no end"  # how the fault of an input begins that its process did not survive
FAULT = "fault.txt"  # beside the files of a saved input


class Campaign:
    """Counts of inputs so far, in memory or in a folder.

    Args:
        names: of the readers.
        inputs: of all readers together.
        seed: of all inputs.
        into: a folder for counts and inputs at fault; None: nowhere.
    """

    def __init__(self, names: list[str], inputs: int, seed: int, into: Path | None) -> None:
        self.names, self.seed, self.into = names, seed, into
        whole = sum(READERS[name].share for name in names)
        self.shares = {name: ceil(inputs * READERS[name].share / whole) for name in names}
        self.tallies = {name: Tally() for name in names}
        self._kept: dict[str, Any] = {}
        if into is not None:
            into.mkdir(parents=True, exist_ok=True)
            if self._file.is_file():
                self._kept = json.loads(self._file.read_text())  # of other readers too, which are not named now
                self.tallies |= {name: Tally(**tally) for name, tally in self._kept.items() if name in self.tallies}

    @property
    def _file(self) -> Path:
        assert self.into is not None
        return self.into / f"tallies-{self.seed}.json"

    def run(self, until: float) -> None:
        """Read what is left, all readers in turn, until a moment of the monotonic clock."""
        pending = list(self.names)
        while pending:
            for name in list(pending):
                done = self.tallies[name].inputs
                if done >= self.shares[name] or time.monotonic() > until:
                    pending.remove(name)
                    continue
                chunk = ceil(CHUNK * READERS[name].share)
                part = watched(READERS[name], name, self.seed, range(done, min(done + chunk, self.shares[name])))
                for fault, which in part.faults.items():
                    if fault not in self.tallies[name].faults:
                        print(f"{which}: {fault}", file=sys.stderr, flush=True)
                        self._save(name, fault, int(which.rpartition("/")[2]))
                self.tallies[name].add(part)
                if self.into is not None:
                    counts = {each: asdict(tally) for each, tally in self.tallies.items()}
                    self._file.write_text(json.dumps({**self._kept, **counts}))

    def _save(self, name: str, fault: str, number: int) -> None:
        if self.into is None:
            return
        target = self.into / f"{name}-{self.seed}-{number}"
        target.mkdir(exist_ok=True)
        with laid_out():
            files = input_of(READERS[name], name, self.seed, number)
            if not fault.startswith((*DIED, "MemoryError")):  # those would harm this process
                files = shrunk(READERS[name], files, fault)
        for each, data in files.items():
            (target / quote(each, safe="", errors="surrogateescape")[:250]).write_bytes(data)
        (target / FAULT).write_text(f"{name}\n{fault}\n")

    def table(self) -> str:
        """A row for each reader, and the sum."""
        columns = ("reader", "inputs", "refused", "undeclared", "slowest, s", "inputs a core second")
        lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        whole = Tally()
        for name, tally in [*self.tallies.items(), ("all", whole)]:
            rate = tally.inputs / tally.seconds if tally.seconds else 0
            counts = f"{tally.inputs:,} | {tally.refused:,} | {len(tally.faults)}"
            lines.append(f"| {name} | {counts} | {tally.slowest:.2f} | {rate:,.0f} |")
            if tally is not whole:
                whole.add(tally)
        return "\n".join(lines) + f"\n\npeak: {whole.peak:.2f} GiB above the start"


def again(folder: Path) -> str:
    """The fault of a saved input, read once more; "" where there is none now."""
    name = (folder / FAULT).read_text().splitlines()[0]
    files: Files = {
        unquote(path.name, errors="surrogateescape"): path.read_bytes()
        for path in folder.iterdir()
        if path.name != FAULT
    }
    with laid_out():
        return fault_of(READERS[name], files)[0]


def main() -> int:
    """Fuzz and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("readers", nargs="*", metavar="NAME", help=f"of {', '.join(READERS)} (default: all)")
    parser.add_argument("--inputs", type=int, default=9_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, metavar="DIR", help="keep counts and inputs at fault here, and continue")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after so long")
    parser.add_argument("--again", type=Path, metavar="DIR", help="read one saved input, and nothing else")
    options = parser.parse_args()
    if options.again:
        print(fault := again(options.again))
        return int(bool(fault))
    if unknown := set(options.readers) - set(READERS):
        parser.error(f"no readers: {', '.join(sorted(unknown))}; there are {', '.join(READERS)}")
    campaign = Campaign(options.readers or list(READERS), options.inputs, options.seed, options.into)
    campaign.run(time.monotonic() + 60 * options.minutes)
    print(campaign.table())
    return int(any(tally.faults for tally in campaign.tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
