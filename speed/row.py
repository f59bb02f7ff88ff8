"""One line of the speed table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NO_CONTEXT: Any = None  # for compressors that ask it for nothing


@dataclass(frozen=True)
class Row:
    """A measured figure beside the bar that it has to clear.

    `value` is a ratio measured in one run wherever the figure is a speed (machines differ, ratios less), `bar` the
    project's own requirement (None: printed for information), `note` the limit or the raw times behind the ratio. A
    value of NaN with no bar stands for what this machine cannot measure; the note says why.
    """

    what: str
    value: float
    unit: str
    bar: float | None
    higher_is_better: bool
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the bar is cleared; None without a bar."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.higher_is_better else self.value <= self.bar
