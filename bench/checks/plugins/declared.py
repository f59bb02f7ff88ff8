"""What a plugin says of itself: its description and citation, and parameters that a spec can spell."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from bench.checks.plugins.kit import Subject, error_text, is_clear, survives_json
from bench.errors import UserError
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec, parse

# The function that takes the parameters, and its arguments before them.
_LEADING = {"method": 3, "compressor": 3, "dataset": 1}
_NONSENSE = "no_such_word"


def is_described(subject: Subject) -> Iterator[str]:
    """The first line of the docstring is what `condensebench list` shows."""
    if not subject.plugin.description.strip():
        yield "its docstring has no first line, which `condensebench list` shows as its description."


def is_cited(subject: Subject) -> Iterator[str]:
    """Plugins of this project say where they come from."""
    in_project = (subject.plugin.module_name or "").startswith(("methods.", "protocols."))
    if in_project and not str(subject.plugin.constants.get("CITATION", "")).strip():
        yield "it has no CITATION, which every plugin of this project has."


def takes_what_it_declares(subject: Subject) -> Iterator[str]:
    """Parameters are keyword-only; nothing else is swallowed."""
    functions = [name for name in ("select", "synthesize", "encode", "fit", "load") if name in subject.plugin.functions]
    for name in functions:
        signature = inspect.signature(getattr(subject.plugin.module, name))
        parameters = list(signature.parameters.values())
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            yield f"{name}(...) takes **keywords: a mistyped parameter would be swallowed. List the parameters."
        leading = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        extra = [p.name for p in leading[_LEADING[subject.plugin.kind] :]]
        if extra:
            yield f"{name}(...) takes {', '.join(extra)} by position, where no spec can set them. Put * before them."


def parameters_survive_a_spec_and_json(subject: Subject) -> Iterator[str]:
    """Every default written out, and every parameter set to something else, is read back as it was."""
    plugin = subject.plugin
    registry = Registry([plugin])
    for name, default in plugin.parameters.items():
        for value in (default, _other(default)):
            spec = Spec(plugin, {name: value})
            try:
                back = parse(registry, plugin.kind, str(spec)).parameters
            except UserError as error:
                yield f"parameter {name}={value!r}: the spec '{spec}' is not read back: {error}"
                continue
            if back != spec.parameters:
                yield f"parameter {name}={value!r}: the spec '{spec}' is read back as {back[name]!r}."
            if (wrong := survives_json(spec.parameters)) is not None:
                yield f"parameter {name}={value!r} does not survive JSON: {wrong}"


def unknown_parameters_are_refused(subject: Subject) -> Iterator[str]:
    """By the spec, with the parameters that there are; a mistyped name never runs as the default."""
    plugin = subject.plugin
    try:
        parse(Registry([plugin]), plugin.kind, f"{plugin.name}:{_NONSENSE}=1")
    except UserError as error:
        missing = [name for name in plugin.parameters if name not in str(error)]
        if missing:
            yield f"the error for an unknown parameter does not name {', '.join(missing)}: {error}"
    else:
        yield f"the spec {plugin.name}:{_NONSENSE}=1 is accepted."


def mistyped_words_are_refused(subject: Subject) -> Iterator[str]:
    """A parameter that takes a word refuses a word that it does not know, and names it."""
    for name in (name for name, default in subject.plugin.parameters.items() if isinstance(default, str)):
        other = subject.with_parameters(**{name: _NONSENSE})
        try:
            with other.call() as call:
                call.run()
        except Exception as error:
            if not is_clear(error) or not (_NONSENSE in str(error) or name in str(error)):
                ended = error_text(error)
                yield f"{name}={_NONSENSE} ends with {ended}; say that {name} is wrong, and what is allowed."
        else:
            yield f"{name}={_NONSENSE} is accepted in silence. Refuse what is none of the allowed words."


def _other(default: Any) -> Any:
    if isinstance(default, bool):
        return not default
    if isinstance(default, (int, float)):
        return default + 1
    return f"{default}_" if isinstance(default, str) else 1
