"""Protocols: one TOML file each, values may depend on data set, ipc and student, resolved to a Recipe.

    labels = "stored"                       # hard | stored
    teacher = "small-teacher-v1"            # a recipe in protocols/teachers/
    student = "convnet"                     # the default; --student names another
    [recipe]
    batch = 20
    [recipe.epochs]                         # a value that depends on something is a table with `by`
    by = "ipc"
    "1" = 300
    "2-10" = 150
    default = 100

The digest is that of the canonical JSON with every default written out: reordering or reformatting the file, or writing
a default down, changes nothing; any change of a value does.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.errors import UserError
from bench.fingerprint import digest
from bench.recipe import Recipe
from bench.registry import Registry, read_text, unknown

TOP_LEVEL = {"title", "source", "labels", "teacher", "student", "recipe", "notes"}
CONDITIONS = ("dataset", "ipc", "classes", "images", "student")  # images = ipc * classes


@dataclass(frozen=True)
class Protocol:
    """What one file fixes."""

    id: str
    title: str
    source: str
    notes: str
    labels: str  # hard | stored
    teacher: str
    student: str
    values: dict[str, Any]  # the recipe with defaults written out and `by` tables unresolved
    path: Path

    @property
    def digest(self) -> str:
        """sha256 of all that is fixed; title, source and notes may be reworded."""
        return digest({"labels": self.labels, "teacher": self.teacher, "student": self.student, "recipe": self.values})

    def recipe(self, *, dataset: str, ipc: int, student: str, classes: int) -> Recipe:
        """The values for one cell. Raises UserError where the protocol has none for it."""
        cell = {"dataset": dataset, "ipc": ipc, "classes": classes, "images": ipc * classes, "student": student}
        resolved = resolve(self.values, cell, f"protocol {self.id}")
        return validated({"labels": self.labels, **resolved}, self.path)


def load(registry: Registry, name: str) -> Protocol:
    """The protocol `name`: of this project, or of a file given with --plugin. Raises UserError."""
    path, text = registry.protocol_file(name)
    return parse(name, read_toml(path, text), path)


def read_toml(path: Path, text: str | None = None) -> dict[str, Any]:
    """A TOML file (or its text, read before) as a dict, with the file's name in a syntax error."""
    try:
        return tomllib.loads(read_text(path) if text is None else text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from None


def parse(name: str, content: dict[str, Any], path: Path) -> Protocol:
    """Check the content of a protocol file and write out its defaults."""
    for key in content:
        if key not in TOP_LEVEL:
            raise UserError(f"{path}: {unknown('key', key, TOP_LEVEL)}")
    for key in ("labels", "teacher", "student", "recipe"):
        if key not in content:
            raise UserError(f"{path}: '{key}' is missing.")
    for key in set(content) - {"recipe"}:
        if not isinstance(content[key], str):
            raise UserError(f"{path}: {key} = {content[key]!r} must be text in quotes.")
    labels = content["labels"]
    if isinstance(content["recipe"], dict) and "labels" in content["recipe"]:
        raise UserError(f"{path}: 'labels' stands at the top of the file, not in [recipe].")
    values = with_defaults(Recipe, content["recipe"], path, "recipe")
    for variant in range(most_branches(values)):
        validated({"labels": labels, **branch(values, variant)}, path)
    if labels == "stored" and values["views"] == 0:
        raise UserError(f"{path}: labels = 'stored' needs recipe.views, the number of stored views per image.")
    return Protocol(
        id=name,
        title=content.get("title", ""),
        source=content.get("source", ""),
        notes=content.get("notes", ""),
        labels=labels,
        teacher=content["teacher"],
        student=content["student"],
        values=values,
        path=path,
    )


def with_defaults(model: type[BaseModel], given: dict[str, Any], path: Path, where: str) -> dict[str, Any]:
    """`given` with every default of the model written out, in the branches of `by` tables as well."""
    if not isinstance(given, dict):
        raise UserError(f"{path}: [{where}] must be a table, not {given!r}.")
    for key in given:
        if key not in model.model_fields:
            raise UserError(f"{path}, [{where}]: {unknown('key', key, model.model_fields)}")
    written: dict[str, Any] = {}
    for key, info in model.model_fields.items():
        if key == "labels":
            continue  # stands at the top of the file
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            written[key] = _part(type(default), given.get(key, {}), path, f"{where}.{key}")
        elif key in given:
            written[key] = given[key]
        elif info.is_required():
            raise UserError(f"{path}, [{where}]: '{key}' is missing.")
        else:
            written[key] = list(default) if isinstance(default, tuple) else default
    return written


def _part(model: type[BaseModel], given: Any, path: Path, where: str) -> dict[str, Any]:
    if isinstance(given, dict) and "by" in given:
        return {key: inner if key == "by" else _part(model, inner, path, where) for key, inner in given.items()}
    return with_defaults(model, given, path, where)


def resolve(value: Any, cell: dict[str, Any], where: str) -> Any:
    """The value for one cell, every table with `by` replaced by its branch. Raises UserError where none fits."""
    if not isinstance(value, dict):
        return value
    if "by" not in value:
        return {key: resolve(inner, cell, f"{where}, {key}") for key, inner in value.items()}
    condition = value["by"]
    if condition not in CONDITIONS:
        raise UserError(f"{where}: by = {condition!r} is not one of {', '.join(CONDITIONS)}.")
    asked = cell[condition]
    # The order in the file tells nothing (it is not in the digest): the exact key wins, and ranges must not overlap.
    keys = [key for key in value if key not in ("by", "default") and _matches(key, asked)]
    exact = [key for key in keys if key == str(asked)]
    if len(exact or keys) > 1:
        raise UserError(f"{where}: {condition} = {asked} has more than one value: {', '.join(keys)}.")
    if keys:
        return resolve(value[(exact or keys)[0]], cell, where)
    if "default" in value:
        return resolve(value["default"], cell, where)
    has = ", ".join(k for k in value if k != "by")
    raise UserError(f"{where}: no value for {condition} = {asked}; it has {has}, and no default.")


def _matches(key: str, asked: Any) -> bool:
    """Exact ("10"), a range ("2-10"), a bound (">=50"), or a data set or network with any parameters ("glyphs")."""
    if isinstance(asked, int):
        if match := re.fullmatch(r"(\d+)-(\d+)", key):
            return int(match[1]) <= asked <= int(match[2])
        if match := re.fullmatch(r">=(\d+)", key):
            return asked >= int(match[1])
        return key == str(asked)
    return key in (asked, asked.partition(":")[0])


def most_branches(value: Any) -> int:
    """How many variants `branch` needs, so that every branch of every `by` table occurs in one of them."""
    if not isinstance(value, dict):
        return 1
    inner = [most_branches(v) for k, v in value.items() if k != "by"]
    return max(1, len(inner) * max(inner, default=1)) if "by" in value else max(inner, default=1)


def branch(value: Any, variant: int) -> Any:
    """One value for every `by` table, to check all of them when the file is read."""
    if not isinstance(value, dict):
        return value
    if "by" in value:
        branches = [inner for key, inner in value.items() if key != "by"]
        return branch(branches[variant % len(branches)], variant // len(branches)) if branches else None
    return {key: branch(inner, variant) for key, inner in value.items()}


def validated(values: dict[str, Any], path: Path) -> Recipe:
    """A Recipe, or a UserError that names the file, the key and what is wrong."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(f"{path}: {problems}") from None
