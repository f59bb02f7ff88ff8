"""Canaries in a process of their own, so that whoever reads records or hands out stages does not load torch for them.

The lock goes to the process first, then one name a line; the findings of each come back, one line of JSON a name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType

from bench.errors import MachineError
from bench.finding import Finding
from bench.lock import differences
from bench.lock.lock_file import Lock
from bench.plugins.registry import ROOT


class CanaryProcess:
    """Tries canaries of a lock. Its process starts with the first; none is needed where torch is loaded already."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._process: subprocess.Popen[str] | None = None

    def moved(self, name: str) -> list[Finding]:
        """See bench.lock.differences.moved_canaries. Raises MachineError where the process dies."""
        if "torch" in sys.modules:
            return differences.moved_canaries(name, self._lock)
        if self._process is None:
            self._process = _start()
            self._send(self._lock.model_dump_json())
        self._send(json.dumps(name))
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise MachineError(
                f"the process that tries the canaries of {name} died (exit code {self._process.wait()}). Where memory "
                "is short, end other programs; then type the same command again."
            )
        return [Finding(**each) for each in json.loads(answer)]

    def _send(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died: reading its answer tells
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def __enter__(self) -> CanaryProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def _start() -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    # -P: nothing of the current folder is taken for a module of torch's.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.lock.canary_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        encoding="utf-8",
    )


def main() -> None:
    """Answer name by name, until the other side closes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    lines = iter(sys.stdin.readline, "")
    held = Lock.model_validate_json(next(lines))
    for line in lines:
        print(json.dumps([asdict(each) for each in differences.moved_canaries(json.loads(line), held)]), file=answers)
        answers.flush()


if __name__ == "__main__":
    main()
