"""Protocols with other values: `small-soft-v1:recipe.batch=100,recipe.schedule.zeta=1`, any value by its dotted name.
A pair is written `[0.08,1]` or, where a shell would read the brackets, `0.08..1`.

What comes of it is unofficial, like a miniature (`scale=`): its id has a colon, so that no official table holds it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from bench.errors import UserError, unknown
from bench.protocol.recipe import SCALED, Recipe

SCALE = "scale"
TOP = ("labels", "teacher", "student")


@dataclass(frozen=True)
class Options:
    """What stands after the colon of a protocol."""

    values: tuple[tuple[str, Any], ...] = ()  # dotted name -> value as TOML would write it, by name
    scale: float | None = None  # of a miniature

    def text(self) -> str:
        """The one spelling; empty where nothing differs."""
        written = [f"{name}={_spelling(value)}" for name, value in self.values]
        return ",".join(written + ([f"{SCALE}={self.scale!r}"] if self.scale is not None else []))

    def applied(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a protocol (defaults written out) with these in their place, in every branch of `by` tables."""
        whole: dict[str, Any] = dict(values)
        for name, value in self.values:
            whole = _replaced(whole, name.split("."), value)
        return whole

    def effective(self, values: Mapping[str, Any]) -> Options:
        """Only what changes the program, so that one program has one id.

        That is what differs from the values of a protocol and, beside a scale, what the scale would make less of.
        """
        whole = {f"recipe.{name}" for name in SCALED} if self.scale is not None else set()
        kept = tuple(
            each for each in self.values if each[0] in whole or Options((each,)).applied(values) != dict(values)
        )
        return Options(kept, self.scale)


AS_WRITTEN = Options()


def parse_options(protocol: str, text: str) -> Options:
    """`key=value,key=value` after the colon of a protocol.

    Raises:
        UserError: a key is no value of a protocol, or the value is none that it takes.
    """
    given: dict[str, Any] = {}
    scale = None
    for piece in pieces(text):
        key, equals, value = (part.strip() for part in piece.partition("="))
        where = f"protocol '{protocol}:{text}'"
        if not equals or not key or not value:
            raise UserError(f"{where}: '{piece}' is not key=value. Type {protocol}:recipe.batch=100, for instance.")
        if key in given or (key == SCALE and scale is not None):
            raise UserError(f"{where}: '{key}' is given twice.")
        if key == SCALE:
            scale = _scale(value, where, protocol)
        else:
            given[key] = _value(key, value, where)
    return Options(tuple(sorted(given.items())), scale)


def seeded_as(protocol: str) -> str:
    """The name that seeds are drawn by: without the teacher, so that students of one protocol under two teachers start
    from the same weights and see the same order."""
    name, _, options = protocol.partition(":")
    kept = [piece for piece in pieces(options) if piece and not piece.startswith("teacher=")]
    return f"{name}:{','.join(kept)}" if kept else name


def with_teacher(protocol: str, teacher: str) -> str:
    """The name of a protocol with another teacher. Raises UserError where it names one already."""
    name, _, options = protocol.partition(":")
    if seeded_as(protocol) != protocol:
        raise UserError(f"--teacher {teacher} and protocol '{protocol}' are two teachers: type one of them.")
    return f"{name}:{','.join(filter(None, (options, f'teacher={teacher}')))}"


def pieces(text: str) -> Iterator[str]:
    """Pieces between commas that stand neither in brackets nor in quotes."""
    depth, quote, piece = 0, "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[]":
            depth += 1 if letter == "[" else -1
        elif letter == "," and depth == 0:
            yield piece.strip()
            piece = ""
            continue
        piece += letter
    yield piece.strip()


def _scale(text: str, where: str, protocol: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < 1:
        raise UserError(
            f"{where}: only a scale between 0 and 1 may stand here, for instance {protocol}:scale=0.01 (an unofficial "
            "miniature with 1/100 of the epochs and views)."
        )
    return scale


def _value(key: str, text: str, where: str) -> Any:
    """The text as the value of a field, in the field's own type, as TOML would write it."""
    annotation = _annotation(key, where)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = _without_quotes(text)
    try:
        return as_toml(TypeAdapter(annotation).validate_python(value))
    except ValidationError as error:
        problem = "; ".join(each["msg"] for each in error.errors())
        raise UserError(f"{where}: {key} = {text}: {problem}.") from None


def _without_quotes(text: str) -> Any:
    """What a shell lets through: `0.08..1` as the pair [0.08, 1], `[a,b]` as a list of words, else one word."""
    if text.startswith("[") and text.endswith("]"):
        return [*pieces(text[1:-1])]
    low, dots, high = text.partition("..")
    try:
        return tomllib.loads(f"value = [{low}, {high}]")["value"] if dots else text
    except (ValueError, RecursionError):
        return text


def _annotation(key: str, where: str) -> Any:
    if key in TOP:
        return str | list[str] if key == "teacher" else str
    fields = dict(_fields(Recipe, "recipe"))
    if key not in fields:
        nearest = next((name for name in fields if name.endswith(f".{key}")), None)
        hint = f"no value is named '{key}'. Did you mean '{nearest}'?" if nearest else ""
        raise UserError(f"{where}: {hint or unknown('value', key, [*TOP, *fields, SCALE])}")
    field = fields[key]
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _fields(model: type[BaseModel], at: str) -> Iterator[tuple[str, FieldInfo]]:
    """Dotted names of the single values of a recipe."""
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{at}.{key}")
        elif not (model is Recipe and key == "labels"):
            yield f"{at}.{key}", field


def _replaced(values: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    if "by" in values:
        return {key: inner if key == "by" else _replaced(inner, path, value) for key, inner in values.items()}
    first, *rest = path
    return {**values, first: _replaced(values[first], rest, value) if rest else value}


def as_toml(value: Any) -> Any:
    """A value as TOML would write it: lists for tuples."""
    return [as_toml(each) for each in value] if isinstance(value, list | tuple) else value


def _spelling(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_spelling, value))}]"
    if isinstance(value, str) and not set(value) & set("\"',[]= "):
        return value
    return json.dumps(value, ensure_ascii=False)
