"""How far a training or a method is, and who is told of it in this process. Nothing here loads torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """How far a training is, or a method that learns in steps."""

    name: str  # what is trained, or the method
    epoch: float  # epochs done, the share of the present one included; of a method: steps
    epochs: int
    rate: float  # images a second; of a method: steps
    seconds_left: float
    unit: str = "epoch"  # or "step", of a method

    def __str__(self) -> str:
        hours, rest = divmod(round(self.seconds_left), 3600)
        left = f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
        if self.unit == "epoch":
            return f"{self.name}: epoch {self.epoch:.1f} of {self.epochs}, {self.rate:,.0f} images/s, {left} left"
        rate = f"{self.rate:,.0f}" if self.rate >= 10 else f"{self.rate:.2g}"
        return f"{self.name}: step {self.epoch:.0f} of {self.epochs}, {rate} steps/s, {left} left"


Watch = Callable[[Standing | None], None]
_watch: Watch | None = None  # of this process, see `watch_trainings`


def watch_of_this_process() -> Watch | None:
    """Who is told of the trainings that begin now; None: nobody."""
    return _watch


def watch_trainings(watch: Watch | None) -> None:
    """Have all courses of this process told to `watch`; with None where one has ended."""
    global _watch
    _watch = watch
