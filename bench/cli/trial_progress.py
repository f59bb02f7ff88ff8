"""What a person sees of trials that run: bars or lines, what has been running for long, failures as they happen."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.cli.terminal import unread
from bench.texts import cut, visible

LINES_EVERY = 15.0  # seconds between progress lines where there is no terminal,
TRAINING_EVERY = 60.0  # and between those of one stage or training
WATCH_EVERY = 2.0  # seconds between looks at what runs
SEEN_AFTER = 8.0  # seconds for which a stage runs before it is named


class _Console(Console):
    """A console on standard error; where that is a pipe that nobody reads any more, the run goes on without a word."""

    def on_broken_pipe(self) -> None:
        """Called by rich, which would end the program."""
        self.quiet = True
        unread(sys.stderr)


class TrialProgress:
    """Trials as they end and stages as they run, whichever verb runs them: bars on a terminal, lines elsewhere."""

    def __init__(self) -> None:
        self._console = _Console(stderr=True)
        self._progress: Progress | None = None
        self._watcher: threading.Thread | None = None
        self._ended = threading.Event()
        self._count = self._planned = self._total = 0
        self._begun = self._last_line = time.monotonic()

    def watch(self, total: int, folder: Path) -> None:
        """Show trials from now on.

        Args:
            total: how many run; 0: none, there are stages alone. Where more end than were foreseen, the total grows.
            folder: where it stands which stages run (bench.driver.running_stages); it need not be there yet.
        """
        self._planned = self._total = total
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),  # names of plugins stand in it
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            if total:
                self._task = self._progress.add_task("trials", total=total)
            self._progress.start()
        self._watcher = threading.Thread(target=self._watch, args=(folder,), daemon=True)
        self._watcher.start()

    def _watch(self, folder: Path) -> None:
        """Show what has been running for long, and how far trainings are, until the run ends."""
        shown: dict[str, float] = {}
        begun: dict[str, float] = {}
        bars: dict[str, TaskID] = {}
        while not self._ended.wait(WATCH_EVERY):
            now = long_stages(folder, begun)
            for key, (text, epoch, epochs) in now.items():
                if self._progress is not None:
                    if key not in bars:
                        bars[key] = self._progress.add_task(text, total=epochs)
                    self._progress.update(bars[key], description=text, completed=epoch, total=epochs)
                elif time.monotonic() - shown.get(key, -TRAINING_EVERY) >= TRAINING_EVERY:
                    shown[key] = time.monotonic()
                    self.print(text)
            for key in [key for key in bars if key not in now]:
                if self._progress is not None:
                    self._progress.remove_task(bars.pop(key))

    def step(self, trial: str, accuracy: float | None) -> None:
        """A trial has ended."""
        self._count += 1
        self._total = max(self._total, self._count)
        if self._progress is not None:
            self._progress.update(self._task, advance=1, total=self._total)
            return
        if self._count == self._planned or time.monotonic() - self._last_line >= LINES_EVERY:
            self._last_line = time.monotonic()
            result = f", last: {trial}{f' {100 * accuracy:.1f} %' if accuracy is not None else ''}"
            self.print(f"{self._count}/{self._total} trials after {duration(self._last_line - self._begun)}{result}")

    def print(self, text: str) -> None:
        """Show a line above the bars."""
        console = self._progress.console if self._progress else self._console
        console.print(
            visible(cut(text)), highlight=False, soft_wrap=True, markup=False
        )  # a method's message is no markup

    def close(self) -> None:
        """Take the bars away."""
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def long_stages(folder: Path, begun: dict[str, float]) -> dict[str, tuple[str, int, int | None]]:
    """(text, epochs done, epochs) of every stage that has been seen for SEEN_AFTER seconds, and of every training;
    the two are one where a stage trains.

    Args:
        folder: where stages and trainings tell of themselves.
        begun: when each stage was first seen, kept from look to look.
    """
    from bench.driver.running_stages import running_stages
    from bench.training.progress_files import standings_by_teller

    trainings = standings_by_teller(folder)
    stages = running_stages(folder)
    moment = time.monotonic()
    for ticket in stages:
        begun.setdefault(ticket, moment)
    now: dict[str, tuple[str, int, int | None]] = {}
    for ticket, stage in stages.items():
        if (training := trainings.pop(stage.teller, None)) is not None:
            same = training.name.partition(" ")[0] == stage.name.partition(" ")[0]  # both a teacher's, a student's
            text = str(training) if same else f"{stage.name}: {training}"
            now[ticket] = text, int(training.epoch), training.epochs
        elif moment - begun[ticket] >= SEEN_AFTER:
            now[ticket] = f"{stage.name}: for {duration(moment - begun[ticket])}", 0, None
    return now | {key: (str(each), int(each.epoch), each.epochs) for key, each in trainings.items()}


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
