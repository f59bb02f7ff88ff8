"""Protocols: one TOML file each; values may depend on data set, ipc and student (bench/protocol/conditions.py).

    labels = "stored"                       # hard | stored | online | learned
    teacher = "small-teacher-v1"            # a recipe in protocols/teachers/, or a list of them
    student = "convnet"                     # the default; --student names another
    [recipe]
    batch = 20
    [recipe.epochs]                         # a value that depends on something is a table with `by`
    by = "ipc"
    "1" = 300
    "2-10" = 150
    default = 100

`labels`, `teacher` and `student` may be tables by data set as well. The digest is that of the canonical JSON of all
values: reordering or reformatting the file, or writing a default down, changes nothing; any change of a value does.

`extends = "edc-v1"` at the top of a file inherits all values of another protocol (bench/protocol/inherit.py).
`NAME:recipe.batch=100` is the protocol with another value (bench/protocol/options.py), and `NAME:scale=0.01` is it in
miniature (bench.protocol.recipe.scaled), to exercise it; results of both are unofficial. A value that is typed beside a
scale is not scaled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.errors import UserError, unknown
from bench.fingerprint import digest
from bench.plugins.registry import Registry
from bench.plugins.spec import letters
from bench.protocol.conditions import CONDITIONS, OTHER, NoValue, cells, names, resolve
from bench.protocol.inherit import Find, beside, resolved, written_names
from bench.protocol.options import AS_WRITTEN, Options, as_toml, parse_options
from bench.protocol.own_teacher import with_canonical_teacher
from bench.protocol.recipe import Recipe, scaled
from bench.protocol.toml_file import read_toml

TOP_LEVEL = {"title", "source", "labels", "teacher", "student", "recipe", "notes", "extends"}
TEXTS = {"title", "source", "notes"}
REGIMES = ("hard", "stored", "online", "learned")


@dataclass(frozen=True)
class Protocol:
    """What one file fixes."""

    name: str  # the file's stem, which carries the version
    title: str
    source: str
    notes: str
    values: dict[str, Any]  # labels, teacher, student and recipe: defaults written out, `by` tables unresolved
    path: Path
    options: Options = AS_WRITTEN  # other values than the file's (they stand in `values`), and the scale of a miniature
    parents: tuple[str, ...] = ()  # that the file extends, the nearest first
    written: tuple[str, ...] = ()  # dotted names of what the file writes itself

    @property
    def id(self) -> str:
        """The name, and what differs: `rded-v1`, `rded-v1:scale=0.01`, `rded-v1:recipe.batch=50`."""
        return ":".join(filter(None, (self.name, self.options.text())))

    @property
    def scale(self) -> float | None:
        """Of a miniature; None: none."""
        return self.options.scale

    @property
    def digest(self) -> str:
        """sha256 of all that is fixed; title, source and notes may be reworded."""
        fixed = {**self.values, "recipe": without_defaults(Recipe, self.values["recipe"])}
        return digest(fixed if self.scale is None else {**fixed, "scale": self.scale})

    @property
    def regimes(self) -> tuple[str, ...]:
        """The label regimes that occur, over all data sets."""
        given = self.values["labels"]
        used = {given} if isinstance(given, str) else {regime for key, regime in given.items() if key != "by"}
        return tuple(regime for regime in REGIMES if regime in used)

    def labels(self, dataset: str) -> str:
        """The label regime: hard, stored, online or learned."""
        return str(self._named("labels", dataset))

    def asks_teachers(self, dataset: str) -> bool:
        """Whether every trial uses the teachers, whatever its method: they label the images, or are slimmed."""
        return self.labels(dataset) in ("stored", "online") or bool(self.values["recipe"]["kept_channels"])

    def teachers(self, dataset: str) -> tuple[str, ...]:
        """Names of the teacher recipes. The first one is the teacher that methods see. A miniature's teachers are
        miniatures as well: `cifar-resnet18-v1:scale=0.01`."""
        named = self._named("teacher", dataset)
        names = (named,) if isinstance(named, str) else tuple(named)
        return names if self.scale is None else tuple(f"{name}:scale={self.scale!r}" for name in names)

    def student(self, dataset: str) -> str:
        """The student where the plan names none."""
        return str(self._named("student", dataset))

    def has_entry(self, dataset: str) -> bool:
        """Whether its values are meant for a data set: some table by data set names it, or there is no such table.
        Where not, all that depends on the data set is the protocol's default."""
        named = names(self.values, "dataset")
        return not named or dataset in named or dataset.partition(":")[0] in named

    def near_entry(self, dataset: str) -> str | None:
        """The data set that a name without an entry was probably meant for: `tiny_imagenet` is near `tiny-imagenet`."""
        plain = letters(dataset.partition(":")[0])
        return next((name for name in sorted(names(self.values, "dataset")) if letters(name) == plain), None)

    def _named(self, key: str, dataset: str) -> Any:
        return resolve(self.values[key], {"dataset": dataset}, f"protocol {self.name}, {key}")

    def recipe(self, *, dataset: str, ipc: int, student: str, classes: int) -> Recipe:
        """The values for one cell. Raises UserError where the protocol has none for it."""
        cell = {"dataset": dataset, "ipc": ipc, "classes": classes, "images": ipc * classes, "student": student}
        resolved = resolve(self.values["recipe"], cell, f"protocol {self.name}")
        recipe = validated({"labels": self.labels(dataset), **resolved}, self.path)
        if self.scale is None:
            return recipe
        typed = {name.removeprefix("recipe.") for name, _ in self.options.values}
        return validated(scaled(recipe, self.scale, typed).model_dump(), f"protocol {self.id}")


def default_recipes(registry: Registry, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """A sentence for each data set that has no entry of its own in some of the protocols that it is to be run under.

    Args:
        registry: that knows the protocols.
        pairs: (protocol, data set).
    """
    lacking: dict[str, dict[str, str | None]] = {}
    for protocol, dataset in dict.fromkeys(pairs):
        fixed = load(registry, protocol)
        if not fixed.has_entry(dataset):
            lacking.setdefault(dataset, {})[protocol] = fixed.near_entry(dataset)
    notes = []
    for dataset, protocols in lacking.items():
        near = sorted({name for name in protocols.values() if name})
        hint = f" Did you mean '{near[0]}'?" if near else ""
        notes.append(
            f"default recipe: {', '.join(protocols)} has no entry for the data set '{dataset}'.{hint} Its default "
            "values are used; the results are unofficial, and every record and table says so."
        )
    return notes


def load(registry: Registry, text: str) -> Protocol:
    """The protocol NAME or NAME:key=value,...: of this project, or of a file given with --plugin. Raises UserError."""
    name, colon, options = text.partition(":")
    path, content = find_in(registry)(name)
    given = with_canonical_teacher(registry, parse_options(name, options)) if colon else AS_WRITTEN
    return parse(name, content, path, given, find_in(registry))


def find_in(registry: Registry) -> Find:
    """Protocols by the names of a registry."""

    def find(name: str) -> tuple[Path, dict[str, Any]]:
        path, source = registry.protocol_file(name)
        return path, read_toml(path, source)

    return find


def parse(
    name: str, content: dict[str, Any], path: Path, options: Options = AS_WRITTEN, find: Find | None = None
) -> Protocol:
    """Check the content of a protocol file in all its branches, and write out its defaults.

    Args:
        name: of the protocol.
        content: of the file.
        path: of the file, for messages.
        options: values that replace those of the file.
        find: where the protocols are that a file extends; None: beside the file.

    Raises:
        UserError: a key or value is none that a protocol has.
    """
    as_written = content
    content, parents = resolved(content, path, find or beside(path, read_toml))
    for key in content:
        if key not in TOP_LEVEL:
            raise UserError(f"{path}: {unknown('key', key, TOP_LEVEL)}")
    for key in ("labels", "teacher", "student", "recipe"):
        if key not in content:
            raise UserError(f"{path}: '{key}' is missing.")
    for key in TEXTS & set(content):
        if not isinstance(content[key], str):
            raise UserError(f"{path}: {key} = {content[key]!r} must be text in quotes.")
    if isinstance(content["recipe"], dict) and "labels" in content["recipe"]:
        raise UserError(f"{path}: 'labels' stands at the top of the file, not in [recipe].")
    values = {key: content[key] for key in ("labels", "teacher", "student")}
    values["recipe"] = with_defaults(Recipe, content["recipe"], path, "recipe")
    check_branches(values, path)
    options = options.effective(values)
    if options.values:
        values = options.applied(values)
        check_branches(values, f"protocol '{name}:{options.text()}'")
    texts = {key: content.get(key, "") for key in TEXTS}
    return Protocol(
        name=name,
        values=values,
        path=path,
        options=options,
        parents=parents,
        written=tuple(written_names(as_written)),
        **texts,
    )


def check_branches(values: dict[str, Any], path: Path | str) -> None:
    """Validate every branch of every `by` table. Raises UserError."""
    try:
        every = list(cells(values))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    varied = [key for key in CONDITIONS if len({cell[key] for cell in every}) > 1]
    missing: NoValue | None = None
    resolved = 0
    for cell in every:
        by_dataset = {"dataset": cell["dataset"]}
        try:
            named = {
                key: resolve(values[key], by_dataset, f"{path}, {key}") for key in ("labels", "teacher", "student")
            }
            recipe = resolve(values["recipe"], cell, str(path))
        except NoValue as error:
            missing = error  # a cell that the protocol does not have
            continue
        resolved += 1
        if named["labels"] not in REGIMES:
            raise UserError(f"{path}: {unknown('label regime', named['labels'], REGIMES)}")
        teachers = [named["teacher"]] if isinstance(named["teacher"], str) else named["teacher"]
        if not isinstance(teachers, list) or not teachers or not all(isinstance(each, str) for each in teachers):
            raise UserError(f"{path}: teacher = {named['teacher']!r} must be a name in quotes or a list of names.")
        if twice := [name for name, times in Counter(teachers).items() if times > 1]:
            raise UserError(f"{path}: teacher names '{twice[0]}' twice; one network's answers do not count double.")
        if not isinstance(named["student"], str):
            raise UserError(f"{path}: student = {named['student']!r} must be a name in quotes.")
        met = ", ".join(f"{key} = {cell[key]}" for key in varied if cell[key] != OTHER)
        validated({"labels": named["labels"], **recipe}, f"{path} ({met})" if met else path)
    if not resolved:
        raise UserError(f"{path}: no cell at all has every value it needs; for instance {missing}")


def with_defaults(model: type[BaseModel], given: dict[str, Any], path: Path, where: str) -> dict[str, Any]:
    """`given` with every default of the model written out, in the branches of `by` tables as well."""
    if not isinstance(given, dict):
        raise UserError(f"{path}: [{where}] must be a table, not {given!r}.")
    for key in given:
        if key not in model.model_fields:
            raise UserError(f"{path}, [{where}]: {unknown('key', key, model.model_fields)}")
    written: dict[str, Any] = {}
    for key, default in defaults(model).items():
        if isinstance(default, type):
            written[key] = _part(default, given.get(key, {}), path, f"{where}.{key}")
        elif key in given:
            written[key] = given[key]
        elif default is REQUIRED:
            raise UserError(f"{path}, [{where}]: '{key}' is missing.")
        else:
            written[key] = default
    return written


def _part(model: type[BaseModel], given: Any, path: Path, where: str) -> dict[str, Any]:
    if isinstance(given, dict) and "by" in given:
        return {key: inner if key == "by" else _part(model, inner, path, where) for key, inner in given.items()}
    return with_defaults(model, given, path, where)


REQUIRED = object()


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Field -> default as TOML would write it; REQUIRED where there is none; for a part, its class. Without `labels`,
    which stands at the top of a file."""
    values: dict[str, Any] = {}
    for key, info in model.model_fields.items():
        default = REQUIRED if info.is_required() else info.get_default(call_default_factory=True)
        if key != "labels":
            values[key] = type(default) if isinstance(default, BaseModel) else as_toml(default)
    return values


def without_defaults(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `with_defaults`: what is not at its default. A field that a later version adds, switched off,
    changes no digest."""
    if "by" in values:
        return {key: inner if key == "by" else without_defaults(model, inner) for key, inner in values.items()}
    kept: dict[str, Any] = {}
    for key, default in defaults(model).items():
        if isinstance(default, type):
            if part := without_defaults(default, values[key]):
                kept[key] = part
        elif as_toml(values[key]) != default:
            kept[key] = values[key]
    return kept


def validated(values: dict[str, Any], path: Path | str) -> Recipe:
    """A Recipe, or a UserError that names the file (`path`), the key and what is wrong."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in error.errors())
        raise UserError(f"{path}: {problems}") from None
