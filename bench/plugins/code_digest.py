"""Code digest: changes with the code that can change a plugin's result, and with nothing else.

What counts:

- everything in the plugin's file but comments, formatting, docstrings and imports for type checkers. Annotations count:
  dataclasses read them. Texts for readers (`TEXTS`) count only where code reads them.
- of other files of bench/, methods/ and protocols/, and of those that are imported relatively: the functions, classes
  and assignments that these reach by their names, and outside bench/ also what may act when it is imported. So the
  bytes of `bench.varint`, the views of `bench.augment` and the streams of `bench.seeds` count where they are used. The
  contracts (`CONTRACTS`) count by the names that are imported from them.
- which definition each name is bound to, and the names that the harness calls a plugin by.

Where a definition stands does not count: files may be moved, renamed, split and joined, in bench/ and in methods/.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.fingerprint import digest
from bench.plugins.code_units import ACTS, STAR, Import, Module, Unit, read_module

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ("bench/api.py", "bench/errors.py", "bench/places.py")  # places: where data lie is no part of a result
# ARITHMETIC: records tell it. TEACHER: a set is kept by the teacher that its method was lent.
TEXTS = frozenset({"CITATION", "PUBLISHED", "CHECK_EXCEPTIONS", "ARITHMETIC", "TEACHER", "__all__"})
WHOLE = "module"  # the text of the unit that stands for a whole module: the module's units are reached through it

Node = tuple[Path, Unit]  # a unit where it stands
Edge = tuple[str, Node | str]  # a name in the unit, and the unit that it is bound to; a text where that is not followed


def code_digest(path: Path, source: str | None = None, *, called: Iterable[str] = (), root: Path = ROOT) -> str:
    """sha256 of the code behind a plugin.

    Args:
        path: the plugin's file.
        source: its content, where the file itself is not there.
        called: the names in it that the harness uses.
        root: where bench/, methods/ and protocols/ lie.
    """
    code = _Code(root, {} if source is None else {path: source})
    edges, words = code.reached_from(path)
    keys = _keys(edges)
    bound = ((name, [_key(each, keys) for each in code.resolved(path, name)]) for name in sorted(called))
    # A name that the file does not have stays out: the harness may learn to ask for another one.
    return digest({"called": {name: each for name, each in bound if each}, "code": sorted({*keys.values(), *words})})


def reached_units(path: Path, source: str | None = None, *, root: Path = ROOT) -> list[tuple[Module, Unit]]:
    """The units of a method's side that are behind a plugin, each with its module: those of its file and of the code
    that it shares with others, not those of bench/ and protocols/. Arguments as of `code_digest`."""
    code = _Code(root, {} if source is None else {path: source})
    edges, _ = code.reached_from(path)
    fixed = (root / "bench", root / "protocols")
    return [
        (code.module(file), unit)
        for file, unit in edges
        if unit.text != WHOLE and (file == path or not any(file.is_relative_to(each) for each in fixed))
    ]


class _Code:
    """The code of this project, and of a plugin."""

    def __init__(self, root: Path, sources: dict[Path, str]) -> None:
        self._root = root
        self._contracts = {root / each for each in CONTRACTS}
        self._sources = dict(sources)
        self._wholes: dict[Path, Unit] = {}

    def reached_from(self, plugin: Path) -> tuple[dict[Node, list[Edge]], set[str]]:
        """All units that count, with their edges, and what the plugin's file imports of other packages."""
        module = self._module(plugin)
        pending = [(plugin, unit) for unit in module.units if not unit.names <= TEXTS]
        for file in self._imported_by(plugin):
            pending += [(file, unit) for unit in self._module(file).units if unit.acts]
        words = {f"{each.module}:{each.name}" for each in module.imports if each.is_foreign}
        edges: dict[Node, list[Edge]] = {}
        while pending:
            node = pending.pop()
            if node not in edges:
                edges[node] = list(self._edges(*node))
                pending += [target for _, target in edges[node] if not isinstance(target, str)]
        return edges, words

    def module(self, file: Path) -> Module:
        """A file that was read."""
        return self._module(file)

    def resolved(self, file: Path, name: str) -> Iterator[Node | str]:
        """What a name of a module is bound to; nothing where it is not bound."""
        yield from self._resolved(file, name, frozenset())

    def _resolved(self, file: Path, name: str, seen: frozenset[tuple[Path, str]]) -> Iterator[Node | str]:
        if (file, name) in seen:
            return
        seen |= {(file, name)}
        bindings = self._module(file).bindings
        for bound in bindings.get(name, ()):
            if isinstance(bound, Unit):
                yield file, bound
            else:
                yield from self._imported(file, bound, seen)
        if name not in bindings and name != STAR:
            for star in bindings.get(STAR, ()):
                if isinstance(star, Import) and (origin := self._module_file(star, file)) is not None:
                    yield from self._resolved(origin, name, seen)

    def _imported(self, file: Path, what: Import, seen: frozenset[tuple[Path, str]]) -> Iterator[Node | str]:
        origin = self._module_file(what, file)
        if origin is not None and what.name is not None:
            if origin in self._contracts:
                yield f"contract:{what.name}"
                return
            nodes = list(self._resolved(origin, what.name, seen))
            if nodes:
                yield from nodes
                return
        if what.name is not None:  # a module of a package
            below = Import(f"{what.module}.{what.name}".strip("."), what.level, None)
            within = self._module_file(below, file)
            origin = within if within is not None else origin
        if origin is None:
            yield f"{what.module}:{what.name}"
        elif origin in self._contracts:
            yield f"contract:{origin.stem}"
        else:
            yield origin, self._whole(origin)

    def _edges(self, file: Path, unit: Unit) -> Iterator[Edge]:
        bindings = self._module(file).bindings
        for name in sorted((unit.uses | {ACTS, STAR}) & bindings.keys()):
            for target in self.resolved(file, name):
                yield name, target
        for label, imports in unit.imports.items():
            for each in imports:
                for target in self._imported(file, each, frozenset()):
                    yield label, target

    def _whole(self, file: Path) -> Unit:
        """A module as a whole, where it is not told what is used of it."""
        if file not in self._wholes:
            uses = frozenset(self._module(file).bindings)
            self._wholes[file] = Unit(frozenset(), WHOLE, uses, {})
        return self._wholes[file]

    def _imported_by(self, plugin: Path) -> set[Path]:
        """All files that are executed with the plugin's, those of bench/ left out."""
        pending, files = [plugin], set[Path]()
        while pending:
            file = pending.pop()
            for each in self._module(file).imports:
                new = {f for f in self._imported_files(each, file) if not f.is_relative_to(self._root / "bench")}
                new -= files
                files |= new
                pending += new
        return files - {plugin}

    def _imported_files(self, what: Import, file: Path) -> Iterator[Path]:
        names = [what.module] if what.name is None else [what.module, f"{what.module}.{what.name}".strip(".")]
        for name in names:
            if (origin := self._module_file(Import(name, what.level, None), file)) is not None:
                yield origin

    def _module_file(self, what: Import, file: Path) -> Path | None:
        """The file of the module that an import in `file` names; None for other packages."""
        if what.level > len(file.parents):
            return None
        if what.level:
            base = file.parents[what.level - 1].joinpath(*filter(None, what.module.split(".")))
        elif not what.is_foreign:
            base = self._root.joinpath(*what.module.split("."))
        else:
            return None
        candidates = (base.parent / f"{base.name}.py", base / "__init__.py")
        return next((each for each in candidates if os.path.isfile(each)), None)

    def _module(self, file: Path) -> Module:
        if file not in self._sources:
            self._sources[file] = file.read_text(encoding="utf-8-sig")
        return read_module(self._sources[file])


def _keys(edges: dict[Node, list[Edge]]) -> dict[Node, str]:
    """A name for each unit that tells its text and, through its edges, all that it is bound to, wherever it stands.

    Names are refined until no two units that differ share one (colour refinement).
    """
    texts = {node: hashlib.sha256(node[1].text.encode()).hexdigest() for node in edges}
    keys = texts
    while True:
        finer = {
            node: digest([texts[node], sorted([label, _key(target, keys)] for label, target in each)])
            for node, each in edges.items()
        }
        if len(set(finer.values())) == len(set(keys.values())):
            return finer
        keys = finer


def _key(target: Node | str, keys: dict[Node, str]) -> str:
    return target if isinstance(target, str) else keys[target]
