"""The ranges of the arguments of recovery methods, and one message for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

_Rule = tuple[Callable[[float], bool], str]

_COUNT: _Rule = (lambda value: value >= 1, "at least 1")
_RATE: _Rule = (lambda value: 0 < value < math.inf, "above 0")
_WEIGHT: _Rule = (lambda value: 0 <= value < math.inf, "at least 0")
_SHARE: _Rule = (lambda value: 0 <= value <= 1, "a share, 0 to 1")
_PART: _Rule = (lambda value: 0 < value <= 1, "above 0 and at most 1")
_MEMORY: _Rule = (lambda value: 0 <= value < 1, "at least 0 and below 1")

_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("ipc", "iterations", "batch", "steps", "backbones", "patch"), _COUNT),
    "lr": _RATE,
    **dict.fromkeys(("r_bn", "r_var", "r_loss", "rho", "densify", "flatness"), _WEIGHT),
    **dict.fromkeys(("jitter", "category"), _SHARE),
    **dict.fromkeys(("crop_scale", "milestone"), _PART),
    **dict.fromkeys(("momentum", "drop", "ema"), _MEMORY),
}


def check(**values: float) -> None:
    """Refuse an argument out of its range, by its name.

    Raises:
        ValueError: the message tells name, value and range.
    """
    for name, value in values.items():
        allowed, told = _RULES[name]
        if not allowed(value):
            raise ValueError(f"{name} is {value}; it must be {told}")
