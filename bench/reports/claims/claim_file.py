"""Claims of the literature, read from a TOML file: who is said to be better than whom, where, and by whose account.

    records = ["default-plan"]              # folders of records, beside the file; --results names others
    reading = "What a reader should believe, in a paragraph."  # optional

    [[claim]]
    id = "easy-end"
    title = "The easy end of EL2N is better than the hard end under class labels"
    says = "EL2N 12.2 against 4.6 of random images at ipc 10, ..."
    source = "Xiao et al., arXiv 2502.06434, table 5"
    note = "What is different here."         # optional
    rule = "order"                           # or "most", see bench/reports/claims/verdict.py

    [[claim.contrast]]
    where = { protocol = "small-hard-v1" }   # rows of both sides, which agree in whatever neither side names
    better = { method = "el2n" }
    worse = { method = "el2n:end=hard" }     # or "chance": one over the number of classes
    minus = { compressor = "none", budget = "-" }  # optional: compare what rows gain on such rows, not accuracies
    margin = 0                               # points by which `better` must lead; below 0: by which it may trail

A selector names coordinates of a row; each is a text or a list of texts, in which * and ? are wildcards, and "-" stands
for none. The verb `claims` prints the page that bench/reports/claims/claims_page.py makes of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.errors import UserError, unknown
from bench.plugins.registry import Registry
from bench.protocol.toml_file import read_toml
from bench.records import files as storage
from bench.reports.leaderboard.entries import Entry
from bench.reports.quantities import MISSING

COORDINATES = ("dataset", "ipc", "protocol", "labels", "student", "method", "compressor", "budget")
CHANCE = "chance"
_PLUGINS = ("dataset", "method", "compressor")  # what of a row is the name of a plugin
_EXAMPLE = 'better = { method = "el2n" }'


def _patterns(given: Any) -> Any:
    """Coordinate -> patterns, whether one or a list of them was written."""
    if not isinstance(given, dict):
        raise ValueError(f"{given!r} is no table of coordinates, for instance {_EXAMPLE}")
    for key, value in given.items():
        if key not in COORDINATES:
            raise ValueError(unknown("coordinate", key, COORDINATES))
        values = value if isinstance(value, list) else [value]
        if not values or any(isinstance(each, bool) or not isinstance(each, str | int) for each in values):
            raise ValueError(f"{key} = {value!r} must be a name or a list of names, for instance {_EXAMPLE}")
    return {key: [str(each) for each in (v if isinstance(v, list) else [v])] for key, v in given.items()}


Selector = Annotated[dict[str, list[str]], BeforeValidator(_patterns)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Contrast(_Part):
    """Rows that are said to be better than others."""

    title: str = ""
    where: Selector = {}
    better: Selector
    worse: Selector | Literal["chance"]
    # Of the rows that are the same but for these coordinates: what is compared is the accuracy of a row less theirs.
    minus: Selector = {}
    margin: float = 0.0  # points

    @field_validator("worse", mode="before")
    @classmethod
    def _selector_or_chance(cls, given: Any) -> Any:
        return given if given == CHANCE else _patterns(given)

    @field_validator("margin")
    @classmethod
    def _is_points(cls, value: float) -> float:
        if not math.isfinite(value) or abs(value) >= 100:
            raise ValueError(f"{value} is no difference of accuracies in points")
        return value

    @model_validator(mode="after")
    def _has_two_sides(self) -> Contrast:
        if self.minus and self.worse == CHANCE:
            raise ValueError("`minus` compares what two rows gain: `worse` must name rows, not chance")
        if self.worse != CHANCE and not (self.better and self.worse):
            raise ValueError(f"`better` and `worse` must each name what they stand for, for instance {_EXAMPLE}")
        return self

    @property
    def free(self) -> tuple[str, ...]:
        """The coordinates in which the two sides may differ: those that a side names, in the order of `COORDINATES`.
        The label regime is the protocol's."""
        named = {*self.better, *(self.worse if isinstance(self.worse, dict) else ())}
        named |= {"labels"} if "protocol" in named else set()
        return tuple(each for each in COORDINATES if each in named)

    def side(self, better: bool) -> Mapping[str, list[str]]:
        """What a row of this side must match, beside `where`."""
        side = self.better if better else self.worse
        return side if isinstance(side, dict) else {}


class Claim(_Part):
    """One claim, with what its source reports."""

    id: str
    title: str
    says: str
    source: str
    note: str = ""
    rule: Literal["order", "most"] = "order"
    contrast: Annotated[list[Contrast], Field(min_length=1)]


class Claims(_Part):
    """A claims file."""

    records: list[str] = []  # folders, relative to the file
    reading: str = ""  # a paragraph: what a reader should believe
    claim: Annotated[list[Claim], Field(min_length=1)]


def coordinates(entry: Entry) -> dict[str, str]:
    """What selectors and tables call a row by; "-" where there is none."""
    values = {**entry.trial, "labels": entry.labels}
    return {key: MISSING if values[key] is None else str(values[key]) for key in COORDINATES}


def matches(entry: Entry, *selectors: Mapping[str, list[str]]) -> bool:
    """Whether a row has one of the patterns in every coordinate that is named."""
    row = coordinates(entry)
    return all(
        any(fnmatchcase(row[key], pattern) for pattern in patterns)
        for selector in selectors
        for key, patterns in selector.items()
    )


def read_claims(path: str | Path) -> Claims:
    """Read and check a claims file. Raises UserError naming the file, the claim, the key and what is allowed."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such claims file. The project's own, results/claims.toml, lies in its checkout: it "
            "is not installed. Type `condensebench claims` in the checkout. Or type `condensebench claims FILE "
            "--results DIR`, with a claims file and records of your own."
        )
    content = read_toml(path)
    try:
        claims = Claims(**content)
    except ValidationError as error:
        # A misspelt key is missing as well: what was written is told first.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        raise UserError(f"{path}: {_told(first, content)}") from None
    names = [claim.id for claim in claims.claim]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: two claims have the id '{twice[0]}'. Ids are links: give each its own.")
    return claims


def _told(error: Any, content: Any) -> str:
    """A sentence of one of pydantic's errors: where, by the names of claims and contrasts, and what is wrong."""
    place: list[str] = []
    for key in error["loc"]:
        content = content[key] if isinstance(content, list) or key in content else None
        name = content.get("id") or content.get("title") if isinstance(content, dict) else None
        place.append(key if isinstance(key, str) else f"'{name}'" if name else f"number {key + 1}")
    where = " ".join(place)
    if error["type"] == "extra_forbidden":
        owner: type[BaseModel] = (Claims, Claim, Contrast)[sum(isinstance(key, int) for key in error["loc"])]
        return f"{where}: {unknown('key', place[-1], owner.model_fields)}"
    if error["type"] == "missing":
        return f"{where} is missing."
    return f"{where}: {error['msg'].removeprefix('Value error, ')}."


def check_names(claims: Claims, entries: Sequence[Entry], registry: Registry, path: str | Path) -> None:
    """Refuse names of data sets, methods and compressors that neither the project nor the records know.

    Protocols are left alone: a recipe of one's own is a file that only the run was given.
    """
    for claim in claims.claim:
        for contrast in claim.contrast:
            for selector in (contrast.where, contrast.side(True), contrast.side(False), contrast.minus):
                for kind in _PLUGINS:
                    seen = {coordinates(entry)[kind].partition(":")[0] for entry in entries}
                    known = seen | set(registry.names(kind))
                    for name in (pattern.partition(":")[0] for pattern in selector.get(kind, [])):
                        if name != MISSING and not any(fnmatchcase(each, name) for each in known):
                            raise UserError(f"{path}, claim '{claim.id}': {unknown(kind, name, known - {MISSING})}")


def load_folders(folders: Iterable[str | Path]) -> tuple[dict[str, storage.Loaded[storage.Record]], list[str]]:
    """Records by folder, as it was named, and the folders that are not there."""
    by_folder, absent = {}, []
    for folder in map(Path, folders):
        if folder.is_file() or any(folder.glob("*.jsonl")):
            by_folder[str(folder)] = storage.load(folder)
        else:
            absent.append(str(folder))
    return by_folder, absent
