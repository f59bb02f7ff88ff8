"""Units: the pieces that a module's code is made of, without the words that cannot change what it does.

A unit is a function, a class or an assignment of a module; all other statements are one unit together, in their order.
A unit's text has no comments, formatting or docstrings, no imports for type checkers, and says of an import which names
it binds, not from where: that is kept beside the text, to be followed.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

PACKAGES = ("bench", "methods", "protocols")  # whose code is followed by name; others have versions of their own
ACTS = ""  # the name of the unit of all statements that are neither definitions nor assignments
STAR = "*"  # the name that `from module import *` binds
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SCOPES = (*_DEFINITIONS, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Import:
    """What a name is bound to by an import statement: `name` of a module, or (None) the module itself."""

    module: str  # dotted; what follows the dots of a relative import
    level: int  # of a relative import: the number of dots; 0 is an absolute one
    name: str | None

    @property
    def is_foreign(self) -> bool:
        """Whether it is from another package, which is not followed."""
        return not self.level and self.module.partition(".")[0] not in PACKAGES


@dataclass(frozen=True, eq=False)
class Unit:
    """A piece of a module's code."""

    names: frozenset[str]  # that it binds in the module
    text: str
    uses: frozenset[str]  # names that it reads, its own local ones among them
    imports: Mapping[str, tuple[Import, ...]]  # label in `text` -> what an import inside of the unit binds
    acts: bool = False  # whether an import of the module may do something here: call code that is not foreign


@dataclass(frozen=True, eq=False)
class Module:
    """A module's code: its units, and what each of its names is bound to."""

    units: tuple[Unit, ...]
    bindings: Mapping[str, tuple[Unit | Import, ...]]

    @property
    def imports(self) -> Iterator[Import]:
        """All that the module or one of its functions imports when it runs."""
        for bound in self.bindings.values():
            yield from (each for each in bound if isinstance(each, Import))
        for unit in self.units:
            for several in unit.imports.values():
                yield from several


@lru_cache(maxsize=1024)
def read_module(source: str) -> Module:
    """The units of a module's source. Raises SyntaxError."""
    imports: list[ast.Import | ast.ImportFrom] = []
    statements: list[tuple[ast.stmt, frozenset[str]]] = []
    for node in _running(ast.parse(source).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        else:
            statements.append((node, frozenset(_bound(node))))
    imported = _bindings(imports)
    times = Counter(name for _, names in statements for name in names)
    plain = [each for each in statements if _is_plain(each[0]) and all(times[name] == 1 for name in each[1])]
    rest = [each for each in statements if each not in plain]
    # What is neither a builtin nor from another package.
    followed = {*times, *(name for name, bound in imported.items() if not all(each.is_foreign for each in bound))}
    units = [_unit([node], names, acts=bool(followed & _called(node))) for node, names in plain]
    if rest:
        names = frozenset({ACTS}).union(*(names for _, names in rest))
        units.append(_unit([node for node, _ in rest], names, acts=True))
    bindings: dict[str, tuple[Unit | Import, ...]] = dict(imported)
    for unit in units:
        for name in unit.names:
            bindings[name] = (*bindings.get(name, ()), unit)
    return Module(tuple(units), bindings)


def _unit(nodes: list[ast.stmt], names: frozenset[str], *, acts: bool) -> Unit:
    reader = _Reader()
    tree = reader.tree(nodes)
    return Unit(names, json.dumps(tree), frozenset(reader.uses), reader.imports, acts)


def _called(node: ast.stmt) -> set[str]:
    """The names in what may call something when the statement is executed: decorators, base classes, calls."""
    parts: list[ast.AST] = []
    if isinstance(node, _DEFINITIONS):
        parts += node.decorator_list
        if isinstance(node, ast.ClassDef):
            parts += [*node.bases, *node.keywords]
            return _names(parts).union(*map(_called, node.body))
        calling: list[ast.AST] = [*node.args.defaults, *(each for each in node.args.kw_defaults if each)]
    else:
        calling = [node]
    parts += [each for each in calling if any(isinstance(below, ast.Call) for below in ast.walk(each))]
    return _names(parts)


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    return {each.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name)}


class _Reader:
    """Syntax trees as JSON, and what they use and import."""

    def __init__(self) -> None:
        self.uses: set[str] = set()
        self.imports: dict[str, tuple[Import, ...]] = {}
        self._runs = 0

    def tree(self, node: Any) -> Any:
        """A syntax tree without positions, docstrings and empty fields (whose set differs between Pythons)."""
        if isinstance(node, list):
            return self._list(node)
        if not isinstance(node, ast.AST):
            return node if isinstance(node, (str, int, float, bool, type(None))) else [type(node).__name__, repr(node)]
        if isinstance(node, ast.Name):
            self.uses.add(node.id)
        fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
        return [type(node).__name__, {name: self.tree(value) for name, value in fields.items()}]

    def _list(self, nodes: list[Any]) -> list[Any]:
        """Imports that follow each other are one entry: their order is that of the modules' names, nothing more."""
        out: list[Any] = []
        run: list[ast.Import | ast.ImportFrom] = []
        for node in [*_running(nodes), None]:
            if isinstance(node, ast.Import | ast.ImportFrom):
                run.append(node)
                continue
            if run:
                labels = {f"{self._runs}:{name}": bound for name, bound in _bindings(run).items()}
                self.imports |= labels
                out.append(["imports", sorted(labels)])
                self._runs, run = self._runs + 1, []
            if node is not None:
                out.append(self.tree(node))
        return out


def _running(nodes: Iterable[Any]) -> Iterator[Any]:
    """The statements that do something: neither texts nor what only type checkers see."""
    for node in nodes:
        if isinstance(node, ast.If) and getattr(node.test, "id", getattr(node.test, "attr", "")) == "TYPE_CHECKING":
            yield from _running(node.orelse)
        elif not (isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)):
            yield node


def _is_plain(node: ast.stmt) -> bool:
    """Whether the statement only binds names: a definition, or an assignment to names."""
    if isinstance(node, ast.Assign):
        parts = [each for t in node.targets for each in (t.elts if isinstance(t, ast.Tuple | ast.List) else [t])]
        return bool(parts) and all(isinstance(each, ast.Name) for each in parts)
    return isinstance(node, _DEFINITIONS) or (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name))


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement binds in its own scope."""
    if isinstance(node, _DEFINITIONS):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from _bindings([node])
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.id
    if not isinstance(node, _SCOPES):
        for child in ast.iter_child_nodes(node):
            yield from _bound(child)


def _bindings(statements: Iterable[ast.Import | ast.ImportFrom]) -> dict[str, tuple[Import, ...]]:
    """Name -> what it is bound to after the statements: several modules where `import a.b` and `import a.c` bind a."""
    out: dict[str, tuple[Import, ...]] = {}
    for node in statements:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                bound = Import(node.module or "", node.level, None if alias.name == STAR else alias.name)
                before = out.get(STAR, ()) if alias.name == STAR else ()
                out[alias.asname or alias.name] = (*before, bound)
            elif alias.asname:
                out[alias.asname] = (Import(alias.name, 0, None),)
            else:
                first = alias.name.partition(".")[0]
                before = tuple(each for each in out.get(first, ()) if each.name is None and not each.level)
                out[first] = (*before, Import(alias.name, 0, None))
    return out
