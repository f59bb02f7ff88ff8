"""Sweeps: one cell with several values of its parameters, as ordinary trials of a plan.

    method.alpha=1,3,5            a parameter of the method
    compressor.rank=4,8           of the compressor
    protocol.recipe.batch=20,50   any value of the protocol (bench/protocol/options.py); pairs as 0.08..1,0.2..1

Several axes make a grid of every combination, or, paired, the first values together, the second values together. Random
images run under every protocol and compressor of the sweep: without them nobody can tell what a method adds.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.errors import UserError
from bench.plugins.registry import Registry
from bench.plugins.spec import named_by_content, parse
from bench.protocol import definition
from bench.protocol.options import pieces

PARTS = ("method", "compressor", "protocol")
RANDOM, RANDOM_WITH_LABELS = "random", "random-soft"  # what every sweep is held to
EXAMPLE = "--over method.alpha=1,3,5"


@dataclass(frozen=True)
class Axis:
    """A parameter and its values as they were typed."""

    part: str  # of PARTS
    key: str
    values: tuple[str, ...]

    @property
    def name(self) -> str:
        """`method.alpha`."""
        return f"{self.part}.{self.key}"


@dataclass(frozen=True)
class Cell:
    """What a sweep varies, in the one spelling of each name."""

    method: str
    compressor: str | None
    protocol: str

    def with_values(self, values: Mapping[Axis, str], registry: Registry) -> Cell:
        """The cell with these values. Raises UserError where a name or value is not known."""
        texts = {part: getattr(self, part) for part in PARTS}
        for axis, value in values.items():
            text = texts[axis.part]
            if text is None:
                raise UserError(f"--over {axis.name}: no compressor is named. Type --compressor NAME.")
            texts[axis.part] = f"{text}{',' if ':' in text else ':'}{axis.key}={value}"
        compressor = texts["compressor"]
        return Cell(
            str(named_by_content(parse(registry, "method", texts["method"]))),
            None if compressor is None else str(parse(registry, "compressor", compressor)),
            definition.load(registry, texts["protocol"]).id,
        )

    def of_random(self, registry: Registry) -> Cell:
        """The same cell with random images, and with labels of their own where the protocol takes no others."""
        learned = definition.load(registry, self.protocol).regimes == ("learned",)
        return replace(self, method=RANDOM_WITH_LABELS if learned else RANDOM)


@dataclass(frozen=True)
class Point:
    """One combination of values, and the cell that it makes."""

    values: tuple[str, ...]  # in the order of the axes
    cell: Cell
    ground: Cell  # the same with random images


def parse_axis(text: str) -> Axis:
    """`part.key=value,value`. Raises UserError."""
    name, equals, values = text.partition("=")
    part, dot, key = name.strip().partition(".")
    if part not in PARTS or not dot or not key or not equals:
        raise UserError(f"--over {text}: type a part, a parameter and its values, as in {EXAMPLE}. Parts: {PARTS}.")
    listed = tuple(filter(None, pieces(values)))
    if len(set(listed)) < 2 or len(set(listed)) < len(listed):
        raise UserError(f"--over {text}: at least two different values are needed, as in {EXAMPLE}.")
    return Axis(part, key, listed)


def points(base: Cell, axes: Sequence[Axis], registry: Registry, *, paired: bool = False) -> list[Point]:
    """The combinations of the values of the axes, each with its cell.

    Raises:
        UserError: no axis, two of one name, paired ones of different lengths, an unknown name or value; or two
            combinations that are the same cell.
    """
    if not axes:
        raise UserError(f"sweep: nothing varies. Type {EXAMPLE}, for instance.")
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names):
        raise UserError(f"sweep: {', '.join(names)}: one parameter is given twice.")
    lengths = {len(axis.values) for axis in axes}
    if paired and len(lengths) > 1:
        raise UserError(f"sweep --paired: the axes have {sorted(lengths)} values; they need as many each.")
    combinations = (
        zip(*(a.values for a in axes), strict=True) if paired else itertools.product(*(a.values for a in axes))
    )
    swept = []
    for values in combinations:
        cell = base.with_values(dict(zip(axes, values, strict=True)), registry)
        swept.append(Point(values, cell, cell.of_random(registry)))
    seen: dict[Cell, Point] = {}
    for point in swept:
        if (same := seen.setdefault(point.cell, point)) is not point:
            raise UserError(
                f"sweep: {', '.join(same.values)} and {', '.join(point.values)} are the same trials "
                f"({point.cell.method}, {point.cell.protocol}). Leave one out."
            )
    return swept


def plan_text(swept: Sequence[Point], fixed: Mapping[str, object], title: str) -> str:
    """The plan of a sweep as TOML: a grid for each combination, and one for each cell of random images.

    Args:
        swept: the combinations.
        fixed: keys of bench.trials.plan.Grid that are the same in all.
        title: of the plan.
    """
    lines = [f"title = {json.dumps(title, ensure_ascii=False)}"]
    for cell in dict.fromkeys([point.cell for point in swept] + [point.ground for point in swept]):
        keys = {"methods": [cell.method], "protocols": [cell.protocol]}
        if cell.compressor is not None:
            keys["compressors"] = [cell.compressor]
        lines += ["", "[[grid]]", *(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in {**fixed, **keys}.items())]
    return "\n".join(lines) + "\n"
