"""What a method asks its context for, so that the harness makes a teacher only where one is asked for.

It is read in the code that the method reaches, its own and what it shares with others. Whoever names `teacher` or one
of the other words below uses the teacher. So does whoever hands the context on to another package, whose code is not
read. The constant TEACHER says it where this reads wrong: True or False, or the values of parameters with which the
teacher is used, such as `{"order": "check"}`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

from bench.plugins.code_digest import reached_units
from bench.plugins.code_units import Module, Unit
from bench.plugins.registry import Plugin
from bench.plugins.spec import Spec

OF_TEACHER = frozenset({"teacher", "teachers", "features", "logits", "predict", "soft_labels"})  # of bench.api.Context
OF_DYNAMICS = frozenset({"dynamics", "dynamics_scores"})
CONTEXT = "ctx"  # what this project's methods call it


def uses_teacher(method: Spec) -> bool:
    """Whether a method with these parameters asks its context for the teacher or for what the teacher says."""
    declared = method.plugin.constants.get("TEACHER")
    if "BACKBONES" in method.plugin.constants:
        return True  # the first of them is the teacher
    if declared is None:
        return "teacher" in asked_for(method.plugin)
    if isinstance(declared, bool):
        return declared
    return all(method.parameters[name] == value for name, value in declared.items())


def asked_for(plugin: Plugin) -> frozenset[str]:
    """Of `teacher`, `dynamics` and `device`, those that a method's code asks its context for. Kept for the plugin's
    lifetime. `device` is also what a tensor has: whoever names it computes on one."""
    known: frozenset[str] | None = vars(plugin).get("asked_for")
    if known is None:
        known = frozenset(_asked_for(plugin))
        vars(plugin)["asked_for"] = known
    return known


def _asked_for(plugin: Plugin) -> Iterator[str]:
    names = {CONTEXT, _context_name(plugin)}
    for module, unit in reached_units(plugin.path, plugin.source):
        tree = json.loads(unit.text)
        for word in _words(tree):
            if word in OF_TEACHER:
                yield "teacher"
            elif word in OF_DYNAMICS:
                yield "dynamics"
            elif word == "device":
                yield word
        if _hands_on(module, unit, tree, names):
            yield from ("teacher", "dynamics")


def _context_name(plugin: Plugin) -> str:
    """What the plugin's function calls its third argument."""
    source = plugin.path.read_text(encoding="utf-8") if plugin.source is None else plugin.source
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name in ("select", "synthesize") and len(node.args.args) > 2:
            return node.args.args[2].arg
    return CONTEXT


def _words(tree: Any) -> Iterator[str]:
    """The attributes that a syntax tree (bench/plugins/code_units.py) reads, those by `getattr` with a text too."""
    for kind, fields in _nodes(tree):
        if kind == "Attribute":
            yield fields["attr"]
        elif kind == "Call" and fields["func"] == ["Name", {"id": "getattr", "ctx": ["Load", {}]}]:
            yield from (each[1]["value"] for each in fields["args"][1:2] if each[0] == "Constant")


def _hands_on(module: Module, unit: Unit, tree: Any, names: set[str]) -> bool:
    """Whether the context is an argument of a function of another package."""
    foreign = {name for name, bound in module.bindings.items() if _all_foreign(bound)}
    foreign |= {label.partition(":")[2] for label, bound in unit.imports.items() if _all_foreign(bound)}
    for kind, fields in _nodes(tree):
        if kind == "Call" and _root(fields["func"]) in foreign:
            given = [*fields.get("args", ()), *(each[1]["value"] for each in fields.get("keywords", ()))]
            if any(each[0] == "Name" and each[1]["id"] in names for each in given):
                return True
    return False


def _all_foreign(bound: tuple[Any, ...]) -> bool:
    return all(not isinstance(each, Unit) and each.is_foreign for each in bound)


def _root(tree: Any) -> str:
    """The name that a chain of attributes begins with."""
    while tree[0] == "Attribute":
        tree = tree[1]["value"]
    return str(tree[1]["id"]) if tree[0] == "Name" else ""


def _nodes(tree: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, fields) of every node of a syntax tree as JSON."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            if len(node) == 2 and isinstance(node[0], str) and isinstance(node[1], dict):
                yield node[0], node[1]
                pending += node[1].values()
            else:
                pending += node
