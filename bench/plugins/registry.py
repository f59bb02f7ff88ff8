"""Names to modules: the folders of this project, installed entry points, and files given with --plugin.

Plugins are read, not imported: name, description, parameters and constants come from the syntax tree, so that
listing is fast and a broken plugin breaks nothing but itself. A duplicate name is an error.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from bench.errors import PluginError, UserError, unknown
from bench.places import absolute_path
from bench.plugins.code_digest import TEXTS, code_digest
from bench.texts import read_text, visible

ROOT = Path(__file__).resolve().parents[2]

# What a module must define to be of a kind, and the folder where the project keeps that kind.
ENTRY_FUNCTION = {
    "select": "method",
    "synthesize": "method",
    "encode": "compressor",
    "load": "dataset",
    "build": "network",
}
FOLDERS = {
    "methods/selection": "method",
    "methods/synthesis": "method",
    "methods/compressors": "compressor",
    "protocols/datasets": "dataset",
    "protocols/networks": "network",
}
ENTRY_POINT_GROUPS = {
    "condensebench.methods": "method",
    "condensebench.compressors": "compressor",
    "condensebench.datasets": "dataset",
}
CONSTANTS: dict[str, type | tuple[type, ...]] = {
    "NAME": str,
    "CITATION": str,
    "NUM_GPUS": (int, float),
    "GPU_MEMORY_GB": (int, float),  # what a call takes of a GPU, and
    "MEMORY_GB": (int, float),  # of the machine; see bench/driver/shares.py
    "PUBLISHED": dict,
    "TAKES_BUDGET": bool,
    "BACKBONES": (int, str),  # how many networks a method uses, or the parameter that tells which
    "TEACHER": (bool, dict),  # whether a method uses the teacher, see bench/plugins/context_use.py
    "CHECK_EXCEPTIONS": dict,  # rule of `check plugins` -> why it does not hold here
    "ARITHMETIC": str,  # of a data set: the arithmetic of its trials where none is asked for, see bench.machine
    "PLACES": dict,  # parameters that name files -> the one that gives their digest; see bench.foreign.named_files
    "UNBALANCED": bool,  # a method whose classes have different numbers of images
    "NAMED": bool,  # networks of a library: the spec goes on with the model's name
}
# What the harness uses of a plugin, by name.
CALLED = (*ENTRY_FUNCTION, "decode", "fit", "rows", "batches", "invalid", *(CONSTANTS.keys() - TEXTS))


class NameTaken(UserError):
    """A second plugin, protocol or teacher of one name. The message names both files."""


@dataclass(frozen=True)
class Plugin:
    """A module that was read but not imported. `source` travels with a file given by --plugin, so that a worker on
    another machine needs no copy of the file."""

    kind: str  # method | compressor | dataset | network
    name: str
    path: Path
    module_name: str | None  # importable name; None for a file given with --plugin
    description: str
    parameters: Mapping[str, Any]  # keyword-only arguments and their literal defaults
    deviations: str  # from its source: what its function's docstring says after "Deviations:", to the paragraph's end
    functions: frozenset[str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None

    @cached_property
    def module(self) -> types.ModuleType:
        """The module itself, imported on first use."""
        if self.module_name is not None:
            return importlib.import_module(self.module_name)
        assert self.source is not None
        module = types.ModuleType(f"condensebench_plugin.{self.kind}.{self.name}")
        module.__file__ = str(self.path)
        sys.modules[module.__name__] = module  # as an import does it: dataclasses look their module up by name
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)
        return module

    @property
    def foreign(self) -> bool:
        """Whether it does not come with this project: a file given by --plugin, or an installed package's."""
        folders = tuple(f"{folder.replace('/', '.')}." for folder in FOLDERS)
        return self.module_name is None or not self.module_name.startswith(folders)

    @property
    def unbalanced(self) -> bool:
        """Whether a method says that its classes have different numbers of images: it needs a protocol that lets them
        (recipe.class_balance = "free")."""
        return bool(self.constants.get("UNBALANCED", False))

    @cached_property
    def digest(self) -> str:
        """Changes when code changes that can change the plugin's result. See bench/plugins/code_digest.py."""
        return code_digest(self.path, self.source, called=CALLED)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "module"}  # a module does not travel to a worker


class Registry:
    """All plugins by kind and name."""

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self._plugins: dict[tuple[str, str], Plugin] = {}
        self._protocols: dict[str, tuple[Path, str]] = {}
        self._teachers: dict[str, tuple[Path, str]] = {}
        for plugin in plugins:
            self.add(plugin)

    def add(self, plugin: Plugin) -> None:
        """Register; a second plugin of the same kind and name is refused with both places named, and so is a name that
        no terminal shows as it is."""
        if not plugin.name.strip() or visible(plugin.name) != plugin.name or set(plugin.name) & set("\n\t:,="):
            raise UserError(
                f"{plugin.path}: {plugin.name!r} cannot be the name of a {plugin.kind}: a name has no control "
                "characters, line breaks, colons, commas or equals signs. Rename the file, or change NAME in it."
            )
        known = self._plugins.get((plugin.kind, plugin.name))
        if known is not None:
            raise NameTaken(
                f"Two {plugin.kind}s are named '{plugin.name}': {known.path} and {plugin.path}.\n"
                f"Rename one of the files (the file stem is the name)."
            )
        self._plugins[plugin.kind, plugin.name] = plugin

    def add_protocol(self, path: Path) -> None:
        """Register a protocol file by its stem; a second one of that name is refused."""
        if path.stem in self._protocols:
            raise NameTaken(
                f"Two protocols are named '{path.stem}': {self._protocols[path.stem][0]} and {path}. Rename one file."
            )
        self._protocols[path.stem] = (path, read_text(path))

    def add_teacher(self, path: Path) -> None:
        """Register a teacher recipe by its stem; another file of that name is refused."""
        shipped = ROOT / "protocols" / "teachers" / path.name
        known = self._teachers.get(path.stem, (shipped if shipped.is_file() else path, ""))[0]
        if absolute_path(known) != absolute_path(path):
            raise NameTaken(f"Two teachers are named '{path.stem}': {known} and {path}. Rename one file.")
        if absolute_path(path) != absolute_path(shipped):
            self._teachers[path.stem] = (path, read_text(path))

    def teacher_names(self) -> list[str]:
        """Names of the teacher recipes that were given as files, sorted."""
        return sorted(self._teachers)

    def teacher_file(self, name: str) -> tuple[Path, str] | None:
        """Path and text of a teacher recipe that was given as a file."""
        return self._teachers.get(name)

    def protocol_names(self) -> list[str]:
        """Ids of all protocols, sorted."""
        return sorted(self._protocols)

    def protocol_file(self, name: str) -> tuple[Path, str]:
        """Path and text of a protocol, or an error that suggests the nearest names."""
        if name not in self._protocols:
            raise UserError(unknown("protocol", name, self._protocols))
        return self._protocols[name]

    def names(self, kind: str) -> list[str]:
        """Sorted names of one kind."""
        return sorted(name for k, name in self._plugins if k == kind)

    def all(self, kind: str) -> list[Plugin]:
        """Plugins of one kind, by name."""
        return [self._plugins[kind, name] for name in self.names(kind)]

    def get(self, kind: str, name: str) -> Plugin:
        """The plugin, or an error that suggests the nearest names."""
        try:
            return self._plugins[kind, name]
        except KeyError:
            raise UserError(unknown(kind, name, self.names(kind))) from None


def discover(plugin_files: Iterable[str | Path] = ()) -> Registry:
    """Everything this project, the installed packages and `plugin_files` offer."""
    registry = Registry()
    for folder, kind in FOLDERS.items():
        for path in sorted((ROOT / folder).glob("*.py")):
            if not path.stem.startswith("_"):
                module_name = f"{folder.replace('/', '.')}.{path.stem}"
                registry.add(read(path, kind=kind, module_name=module_name))
    for group, kind in ENTRY_POINT_GROUPS.items():
        for point in entry_points(group=group):
            registry.add(read(_entry_point_file(point), kind=kind, module_name=point.module, name=point.name))
    for path in sorted((ROOT / "protocols").glob("*.toml")):
        if path.name != "errata.toml":  # what was withdrawn
            registry.add_protocol(path)
    for file in plugin_files:
        for path in files_named_by(file):
            add_file(registry, path)
    return registry


def add_file(registry: Registry, path: Path) -> None:
    """Register what a file given with --plugin holds: a method, a compressor, a data set or a network (.py), a
    protocol or a teacher recipe (.toml).

    Raises:
        PluginError: the file is no plugin.
        UserError: its name is taken.
    """
    if path.suffix == ".toml":
        (registry.add_teacher if _is_teacher(path) else registry.add_protocol)(path)
    else:
        registry.add(read(path, kind=None, module_name=None))


def files_named_by(file: str | Path) -> list[Path]:
    """The files that one --plugin names: the file, or all .py and .toml files of the folder. Raises UserError where
    there is none."""
    path = absolute_path(file)
    if os.path.isdir(path):
        files = [each for each in sorted(path.iterdir()) if each.suffix in (".py", ".toml") and os.path.isfile(each)]
        if not files:
            raise UserError(f"--plugin {file}: the folder holds no .py and no .toml file.")
        return files
    if not os.path.isfile(path):
        raise UserError(f"--plugin {file}: there is no such file.")
    return [path]


def _is_teacher(path: Path) -> bool:
    """Whether a TOML file is a teacher recipe: it names a network, where a protocol names a student."""
    keys = set(re.findall(r"^(\w+)\s*=", read_text(path), flags=re.MULTILINE))
    return "network" in keys and not keys & {"student", "labels", "teacher", "extends"}


def read(path: Path, *, kind: str | None, module_name: str | None, name: str | None = None) -> Plugin:
    """Read a plugin's syntax tree. Raises PluginError where the contract is not met."""
    source = read_text(path)
    try:
        tree = ast.parse(source, filename=str(path))
    except SyntaxError as error:
        raise PluginError(f"{path}, line {error.lineno}: {error.msg}. The plugin is not valid Python.") from None
    except ValueError as error:  # null bytes
        raise PluginError(f"{path}: {error}. The plugin is not valid Python.") from None
    except (RecursionError, MemoryError):
        raise PluginError(f"{path} is nested too deeply. The plugin is not valid Python.") from None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    entries = [f for f in ENTRY_FUNCTION if f in functions and (kind is None or ENTRY_FUNCTION[f] == kind)]
    if len(entries) != 1:
        expected = [f for f, k in ENTRY_FUNCTION.items() if kind is None or k == kind]
        raise PluginError(
            f"{path} must define exactly one of {', '.join(f'{f}(...)' for f in expected)}; it defines "
            f"{', '.join(entries) or 'none of them'}. bench/api.py shows the contracts."
        )
    kind = ENTRY_FUNCTION[entries[0]]
    if kind == "compressor" and "decode" not in functions:
        raise PluginError(
            f"{path} defines encode(...) but no decode(blob, rows=None). bench/api.py shows the contract."
        )
    constants = _constants(tree, path)
    parameters = _parameters(functions[entries[0]], path)
    counted = constants.get("BACKBONES")
    if isinstance(counted, str) and not re.fullmatch(r"all|[1-9]\d?", str(parameters.get(counted))):
        raise PluginError(
            f"{path}: BACKBONES = {counted!r} names no parameter of {entries[0]} whose default is a whole number "
            "(or, where names of networks are allowed too, the string of one)."
        )
    teacher = constants.get("TEACHER")
    if isinstance(teacher, dict) and not teacher.keys() <= parameters.keys():
        raise PluginError(
            f"{path}: TEACHER = {teacher!r} must be True, False, or parameters of {entries[0]} with the values with "
            f"which it uses the teacher."
        )
    documentation = (ast.get_docstring(tree) or "").strip().splitlines()
    return Plugin(
        kind=kind,
        name=name or constants.get("NAME") or path.stem,
        path=path,
        module_name=module_name,
        description=documentation[0] if documentation else "",
        parameters=parameters,
        deviations=_deviations(ast.get_docstring(functions[entries[0]]) or ""),
        functions=frozenset(functions),
        constants=constants,
        source=source if module_name is None else None,
    )


def _deviations(docstring: str) -> str:
    match = re.search(r"\bDeviations:(.*?)(?:\n\n|\Z)", docstring, flags=re.DOTALL)
    return " ".join(match[1].split()) if match else ""


def _parameters(function: ast.FunctionDef, path: Path) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if (argument.arg == "seed" and default is None) or argument.arg in ("shared", "survey"):
            continue  # the harness gives these: a network's seed; what `fit` of a compressor returned, and is given
        try:
            parameters[argument.arg] = ast.literal_eval(default) if default is not None else ...
        except (ValueError, TypeError):
            parameters[argument.arg] = ...
        if not isinstance(parameters[argument.arg], (str, int, float, type(None))):  # what a spec can spell
            raise PluginError(
                f"{path}, line {argument.lineno}: parameter '{argument.arg}' of {function.name} needs a literal "
                f"default (a number, a string, True, False or None)."
            )
    return parameters


def _constants(tree: ast.Module, path: Path) -> dict[str, Any]:
    constants: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, assigned = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, assigned = node.target, node.value
        else:
            continue
        if isinstance(target, ast.Name):
            name = target.id
            if name in CONSTANTS:
                try:
                    value = ast.literal_eval(assigned)
                except (ValueError, TypeError):
                    raise PluginError(f"{path}, line {node.lineno}: {name} must be a literal.") from None
                if not isinstance(value, CONSTANTS[name]):
                    raise PluginError(f"{path}, line {node.lineno}: {name} = {value!r} has the wrong type.")
                constants[name] = value
    return constants


def _entry_point_file(point: EntryPoint) -> Path:
    relative = point.module.replace(".", "/")
    for candidate in (f"{relative}.py", f"{relative}/__init__.py"):
        if point.dist is not None:
            path = Path(str(point.dist.locate_file(candidate)))
            if path.is_file():
                return path
    # An editable install keeps its files elsewhere; the import system knows where.
    try:
        spec = importlib.util.find_spec(point.module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise UserError(f"The installed entry point '{point.name}' ({point.group}) names no module: {point.value}.")
    return Path(spec.origin)
