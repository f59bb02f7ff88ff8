"""The steps of a method in a process of its own, as the harness tells them and keeps their checkpoints.

The plugin's process reads and writes checkpoints (bench.stages.lent). The harness moves their files into the store, and
reads nothing of them.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from bench.errors import PluginError
from bench.training import checkpoint
from bench.training.course import Course
from bench.training.standing import Standing

SECONDS = "seconds.json"  # in the folder of the checkpoints: what the method took until the last of them
MOST = 1e12  # of anything that a plugin tells of its steps
MOST_LOOPS = 1000  # of a method


class KeptSteps:
    """The steps of one method: the harness's side. The time that the method takes begins here.

    Args:
        course: with the folder of the checkpoints, and who is told.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        self._before = 0.0  # seconds of killed runs that this one continues
        self._kept_before = self._seconds_on_disk()
        self._started = time.perf_counter()

    @property
    def checkpoints(self) -> Path | None:
        """The folder of the checkpoints; None: nothing is kept."""
        return None if self._course.folder is None else self._course.folder.resolve()

    @property
    def seconds(self) -> float:
        """What the method has taken, the killed runs that it continues included."""
        return self._before + time.perf_counter() - self._started

    def answers(self, exchange: Path) -> dict[str, Callable[..., None]]:
        """What the plugin's process may ask for. `exchange`: where it leaves a checkpoint."""

        def keep(number: int) -> None:
            self._keep(exchange / checkpoint.FILE, number)

        return {"steps_tell": self._tell, "steps_keep": keep, "steps_go_on": self._go_on}

    def end(self) -> None:
        """What was learnt lies in the store: the checkpoints go."""
        self._course.end()

    def _tell(self, *numbers: float) -> None:
        """Steps done, their count, their rate, seconds left: of a plugin, so they are held to what can be shown."""
        done, count, rate, left = (min(max(0.0, float(each)), MOST) for each in numbers)
        self._course.tell(Standing(self._course.name, done, int(count), rate, left, "step"))

    def _keep(self, file: Path, number: int) -> None:
        folder = self._course.folder
        if folder is None or not _is_file(file) or not 0 <= number < MOST_LOOPS:
            raise PluginError(f"ctx.steps: there is no checkpoint to keep, or loop {str(number)[:20]} is none.")
        place = folder / str(int(number))
        place.mkdir(parents=True, exist_ok=True)
        (folder / SECONDS).write_text(json.dumps(self.seconds), encoding="utf-8")
        os.replace(file, place / checkpoint.FILE)

    def _go_on(self) -> None:
        self._before = self._kept_before

    def _seconds_on_disk(self) -> float:
        try:
            return float(json.loads((self._course.folder or Path()).joinpath(SECONDS).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return 0.0


def _is_file(path: Path) -> bool:
    """Whether it is a file, and no link to one: a plugin left it."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
