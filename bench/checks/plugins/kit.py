"""What a conformance check is: a small function, named after its rule, that yields what is wrong with a plugin."""

from __future__ import annotations

import json
import re
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.checks.plugins.process_state import GENERATORS, Snapshot
from bench.checks.plugins.workshop import Workshop
from bench.errors import UserError
from bench.finding import Finding
from bench.plugins.registry import FOLDERS, ROOT, Plugin
from bench.plugins.spec import Spec
from bench.stages.context import HarnessContext

WATCH = "stays-within-its-task"  # the rule that `check plugins` itself holds a plugin to, by an audit hook
LARGEST = {"iterations": 4, "steps": 4, "rounds": 4, "epochs": 3, "candidates": 50, "num_crops": 5}


class NotApplicable(Exception):
    """The rule cannot be checked on this plugin; the message says why. It becomes a note."""


@dataclass(frozen=True)
class Call:
    """One call of a plugin, ready to be made."""

    ctx: HarnessContext
    arguments: Mapping[str, Any]  # what the plugin is handed, by name
    run: Callable[[], str]  # makes the call; a digest of all that came back
    lent: Callable[[], Mapping[str, str]]  # what the plugin must leave as it was: its name, a digest of its content


class Subject(ABC):
    """A plugin under check, with what several checks ask of it."""

    def __init__(self, plugin: Plugin, shop: Workshop) -> None:
        self.plugin, self.shop = plugin, shop
        self.where = f"{plugin.kind} '{plugin.name}'"
        # Long runs prove nothing more here: what counts is the contract, not the quality of the images.
        self.shrunk = {
            name: LARGEST[name]
            for name, value in plugin.parameters.items()
            if name in LARGEST and isinstance(value, int) and value > LARGEST[name]
        }
        self.spec = Spec(plugin, self.shrunk)
        self.import_moved: list[str] = []  # global generators
        self.import_changed: list[str] = []  # settings of the process, and functions that were replaced

    def watch_import(self) -> None:
        """Import the plugin, and note what that changes of the process. Errors are told by the rules that call it."""
        before, known = Snapshot(), set(sys.modules)
        states = {name: read() for name, (read, _) in GENERATORS.items()}
        try:
            _ = self.plugin.module
        except KeyboardInterrupt:
            raise
        except BaseException:
            return
        self.import_moved, self.import_changed = before.moved_generators(), before.changed_settings()
        if self.import_moved:  # a package may do so when it is loaded for the first time: no doing of the plugin's
            for name, (_, put) in GENERATORS.items():  # a seed that is set once more would move nothing
                put(states[name])
            with suppress(Exception):  # what cannot be run twice is told as it was seen
                self.import_moved = self._moved_again(known)

    def _moved_again(self, known: set[str]) -> list[str]:
        """The global generators that the plugin's code moves where the packages that it imports are loaded already.

        Args:
            known: modules that were loaded before the plugin's import; of the others, those of the plugin's own package
                and of the project's folders of plugins are run once more.
        """
        module = self.plugin.module
        roots = {module.__name__.partition(".")[0], *(folder.partition("/")[0] for folder in FOLDERS)}
        others = [each for name, each in list(sys.modules.items()) if name not in known and name.split(".")[0] in roots]
        before = Snapshot()
        for each in [module, *(other for other in others if other is not module)]:
            if each.__file__ is None:  # a folder
                continue
            source = self.plugin.source if each is module else None
            if source is None:
                source = Path(each.__file__).read_text(encoding="utf-8")
            names = {"__name__": each.__name__, "__file__": each.__file__, "__package__": each.__package__}
            exec(compile(source, each.__file__, "exec"), names)
        return before.moved_generators()

    def with_parameters(self, **values: Any) -> Subject:
        """The same plugin with other parameters."""
        other = type(self)(self.plugin, self.shop)
        other.spec = replace(self.spec, given={**self.spec.given, **values})
        return other

    @abstractmethod
    def call(self, replicate: int = 0) -> AbstractContextManager[Call]:
        """An ordinary call, its arguments made anew."""


Check = Callable[[Any], Iterator[str]]


def rule(check: Check) -> str:
    """The rule that a check holds plugins to: its name, with hyphens."""
    return check.__name__.replace("_", "-")


def findings(check: Check, subject: Subject) -> list[Finding]:
    """What one check finds. A rule that the plugin declares as an exception gives a note with the reason; an exception
    for a rule that is kept is itself an error."""
    name, excuse = rule(check), subject.plugin.constants.get("CHECK_EXCEPTIONS", {}).get(rule(check))
    try:
        messages = list(check(subject))
    except NotApplicable as reason:
        return [Finding(name, subject.where, f"not checked: {reason}", "note")]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() in a plugin ends no check
        messages = [f"the call ended with {error_text(error, subject.plugin)}"]
    if excuse is None:
        return [Finding(name, subject.where, message) for message in messages]
    if messages:
        return [Finding(name, subject.where, f"declared exception: {excuse} (found: {messages[0]})", "note")]
    needless = f"CHECK_EXCEPTIONS excuses '{name}', but the rule is kept. Remove the entry."
    return [Finding("needless-exception", subject.where, needless)]


def error_text(error: BaseException, plugin: Plugin | None = None) -> str:
    """An error in one line, and where in the plugin's file it arose."""
    text = f"{type(error).__name__}: {' '.join(str(error).split()) or '(no message)'}"
    frames = traceback.extract_tb(error.__traceback__) if plugin else ()
    lines = [frame.lineno for frame in frames if plugin and frame.filename == str(plugin.path)]
    if not plugin or not lines:
        return text
    path = plugin.path.relative_to(ROOT) if plugin.path.is_relative_to(ROOT) else plugin.path
    return f"{text} ({path}, line {lines[-1]})"


def is_clear(error: BaseException, *numbers: int) -> bool:
    """Whether an error is meant for a reader: ValueError or UserError, and it names one of these numbers."""
    named = {int(word) for word in re.findall(r"\d+", str(error))}
    return isinstance(error, (ValueError, UserError)) and (not numbers or bool(named & set(numbers)))


def survives_json(value: Any) -> str | None:
    """None if a value comes back from JSON as it was (tuples as lists), else what goes wrong."""
    try:
        back = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        return str(error)
    return None if back == _lists(value) else f"{value!r} comes back as {back!r}"


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
