"""Specs: `name:key=value,key=value`, parsed against a plugin's parameters and written in one canonical form.

The canonical form names only the values that differ from the defaults, sorted by key: `score:order=global,alpha=5` and
`score:alpha=5.0,order=global` are the same spec, and a value that equals its default is left out.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench.errors import UserError
from bench.foreign.named_files import name_content
from bench.plugins.registry import Plugin, Registry


@dataclass(frozen=True)
class Spec:
    """A plugin with its parameters resolved."""

    plugin: Plugin
    given: Mapping[str, Any]  # only those that differ from the default
    variant: str = ""  # the model's name for `timm:NAME` and `torchvision:NAME`

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters, defaults included."""
        return {**self.plugin.parameters, **self.given}

    @property
    def name(self) -> str:
        """The plugin's name, with the model's for networks of a library."""
        return f"{self.plugin.name}:{self.variant}" if self.variant else self.plugin.name

    def __str__(self) -> str:
        if not self.given:
            return self.name
        values = ",".join(f"{k}={_text(v)}" for k, v in sorted(self.given.items()))
        return f"{self.name}{',' if self.variant else ':'}{values}"


def parse(registry: Registry, kind: str, text: str) -> Spec:
    """Parse and check a spec. Raises UserError with what was asked, what is allowed and what to type."""
    name, _, rest = text.strip().partition(":")
    plugin = registry.get(kind, name)
    pieces = [piece.strip() for piece in rest.split(",")] if rest else []
    variant = ""
    if plugin.constants.get("NAMED"):
        if not pieces or "=" in pieces[0] or not pieces[0]:
            raise UserError(f"{kind} '{text}': say which model, for instance '{name}:resnet18'.")
        variant = pieces.pop(0)
    given: dict[str, Any] = {}
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if not equals or not key:
            raise UserError(f"{kind} '{text}': '{piece}' is not key=value. Type {name}:key=value,key=value.")
        if key not in plugin.parameters:
            raise UserError(_unknown_key(kind, plugin, key))
        if key in given:
            raise UserError(f"{kind} '{text}': '{key}' is given twice.")
        given[key] = _convert(value, plugin.parameters[key], f"{kind} '{plugin.name}', parameter '{key}'")
    return Spec(plugin, {k: v for k, v in given.items() if v != plugin.parameters[k]}, variant)


def named_by_content(spec: Spec) -> Spec:
    """The spec with NAME@DIGEST for each path in it: where files lie is no part of a trial, nor of what is kept of it.

    Raises:
        UserError: there are no such files, or their content is not that of the digest that is given.
    """
    given = dict(spec.given)
    for parameter, digest in spec.plugin.constants.get("PLACES", {}).items():
        if text := given.get(parameter):
            try:
                given[parameter] = name_content(text, given.pop(digest, ""))
            except UserError as error:
                raise UserError(f"method '{spec.plugin.name}', {parameter}={text}: {error}") from None
    return replace(spec, given=given)


def letters(name: str) -> str:
    """What a name is read as by a hasty eye: `tiny_imagenet` and `Tiny-ImageNet` are the same letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _unknown_key(kind: str, plugin: Plugin, key: str) -> str:
    if not plugin.parameters:
        return f"{kind} '{plugin.name}' takes no parameters; '{key}' was given."
    near = difflib.get_close_matches(key, plugin.parameters, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    allowed = ", ".join(f"{k}={_text(v)}" for k, v in plugin.parameters.items())
    return f"{kind} '{plugin.name}' has no parameter '{key}'.{hint}\nIts parameters and defaults: {allowed}."


def _convert(text: str, default: Any, where: str) -> Any:
    """The text as a value of the default's type; `none` is allowed where the default is None."""
    if isinstance(default, str):
        return text  # `none` is a word like any other here
    if text.lower() == "none":
        if default is not None:
            raise UserError(f"{where}: none is not allowed; the default is {_text(default)}.")
        return None
    if default is None:
        return _guess(text, where)
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            value = float(text)
            if not math.isfinite(value):
                raise ValueError
            return value + 0.0  # -0.0 is 0.0
    except (ValueError, KeyError):
        expected = {bool: "true or false", int: "a whole number", float: "a finite number"}[type(default)]
        raise UserError(f"{where}: '{text}' is not {expected}; the default is {_text(default)}.") from None
    raise TypeError(f"{where}: a default of type {type(default).__name__}")  # the registry admits none


def _guess(text: str, where: str) -> Any:
    """The type that the text looks like, for a default of None. One value has one spelling: 5.0 is 5."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return {"true": True, "false": False}.get(text.lower(), text)
    if not math.isfinite(value):
        raise UserError(f"{where}: '{text}' is not a finite number; the default is none.")
    return int(value) if value.is_integer() else value


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)
