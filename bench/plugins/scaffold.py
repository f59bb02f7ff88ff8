"""`condensebench new`: a working, documented plugin and its test, from the files in bench/templates."""

from __future__ import annotations

import keyword
import re
import sys
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from string import Template

from bench.errors import UserError
from bench.plugins.registry import ROOT, discover
from bench.plugins.spec import letters

TEMPLATES = Path(__file__).resolve().parent / "templates"
KINDS = ("method", "compressor", "dataset", "protocol")
PLACES = {  # template -> the folder of such plugins
    "select": "methods/selection",
    "synthesize": "methods/synthesis",
    "compressor": "methods/compressors",
    "dataset": "protocols/datasets",
    "dataset_files": "protocols/datasets",
    "protocol": "protocols",
}
DOES = {"method": ("select", "synthesize"), "dataset": ("arrays", "files")}  # the first is the default
WHAT = {"method": "method", "compressor": "compressor", "dataset": "data set", "protocol": "protocol"}
_PROTOCOL = "[a-z][a-z0-9]*(-[a-z0-9]+)*-v[1-9][0-9]*"


@dataclass(frozen=True)
class Scaffold:
    """The files of a new plugin and what to type next."""

    files: dict[Path, str]  # the plugin, then its test
    commands: tuple[str, str, str]

    def write(self) -> None:
        """Write the files, all or none. Raises UserError where one is there already."""
        for path in self.files:
            if path.exists():
                raise UserError(f"{path} is there already, and nothing is overwritten. Choose another name or folder.")
        for path, text in self.files.items():
            path.write_text(text, encoding="utf-8")


def scaffold(kind: str, name: str, *, does: str | None = None, folder: Path | None = None) -> Scaffold:
    """The files of a new plugin; nothing is written.

    Args:
        kind: one of KINDS.
        name: of the plugin.
        does: of a method: select (the default) or synthesize; of a data set: arrays (the default) or files.
        folder: where the files go; None: to their places in this project.

    Raises:
        UserError: the name cannot be one, or is taken; `does` is not one of this kind.
    """
    if does is not None and does not in DOES.get(kind, ()):
        of = next((each for each, allowed in DOES.items() if does in allowed), kind)
        allowed = f"type {' or '.join(DOES[kind])}" if kind in DOES else "leave it out"
        raise UserError(f"--kind {does} is for {WHAT[of]}s; {allowed} for a {WHAT[kind]}.")
    _check_name(kind, name)
    template = (does or "select") if kind == "method" else "dataset_files" if does == "files" else kind
    suffix = ".toml" if kind == "protocol" else ".py"
    home = folder if folder is not None else ROOT / PLACES[template]
    tests = folder if folder is not None else ROOT / "tests"
    stem = name.replace("-", "_")
    plugin, test = home / f"{name if kind == 'protocol' else stem}{suffix}", tests / f"test_{stem}.py"
    if folder is None and not tests.is_dir():
        raise UserError(f"--in-tree needs a checkout of this project; {ROOT} has no tests. Leave it out.")
    named = f'NAME = "{name}"  # no file can be called so\n' if stem != name else ""
    values = {
        "name": name,
        "stem": stem,
        "named": named,
        "what": WHAT[kind],
        **_test_values(kind, name, in_tree=folder is None),
    }
    files = {
        plugin: _filled(f"{template}{suffix}", values),
        test: _filled("test_protocol.py" if kind == "protocol" else "test_plugin.py", values),
    }
    return Scaffold(files, _commands(kind, name, "" if folder is None else f" --plugin {plugin}"))


def _check_name(kind: str, name: str) -> None:
    if kind == "protocol":
        if not re.fullmatch(_PROTOCOL, name):
            raise UserError(
                f"'{name}' cannot be the id of a protocol: small letters and digits in words joined by -, and the "
                f"version at the end, which a change would raise. For instance: my-protocol-v1"
            )
    elif (
        not re.fullmatch("[a-z][a-z0-9_]*(-[a-z0-9_]+)*", name)
        or keyword.iskeyword(name)
        or keyword.issoftkeyword(name)
    ):
        raise UserError(
            f"'{name}' cannot be the name of a {WHAT[kind]}: it becomes a Python file, so small letters, digits and _, "
            f"a letter first, and no word of Python's own; words may be joined by -. For instance: my_{kind}"
        )
    elif name in sys.stdlib_module_names or name in _installed():
        raise UserError(
            f"'{name}' is a module of Python or of a package, which {name}.py would hide. Choose another name."
        )
    registry = discover()
    names = registry.protocol_names() if kind == "protocol" else registry.names(kind)
    if name in names:
        raise UserError(f"There is a {WHAT[kind]} '{name}' already: condensebench show {name}. Choose another name.")
    if near := [each for each in names if letters(each) == letters(name)]:
        raise UserError(
            f"There is a {WHAT[kind]} '{near[0]}' already, which '{name}' would be taken for: condensebench show "
            f"{near[0]}. Choose another name."
        )


def _installed() -> set[str]:
    return {"bench", "methods", "protocols", *packages_distributions()}


def _test_values(kind: str, name: str, *, in_tree: bool) -> dict[str, str]:
    if kind == "protocol":
        prefix = 'Path(__file__).resolve().parent.parent / "protocols" /' if in_tree else "Path(__file__).with_name("
        file = f'{prefix} "{name}.toml"' if in_tree else f'{prefix}"{name}.toml")'
        return {"file": file, "plugins": "" if in_tree else "[FILE]"}
    if in_tree:
        return {
            "paths": "",
            "imports": "checks_for, discover, errors",
            "place": "",
            "plugin": f'discover().get("{kind}", "{name}")',
        }
    return {
        "paths": "from pathlib import Path\n\n",
        "imports": "checks_for, errors",
        "place": f'\nPLUGIN = Path(__file__).with_name("{name.replace("-", "_")}.py")\n',
        "plugin": "PLUGIN",
    }


def _filled(file: str, values: dict[str, str]) -> str:
    return Template((TEMPLATES / f"{file}.txt").read_text(encoding="utf-8")).substitute(values)


def _commands(kind: str, name: str, plugin: str) -> tuple[str, str, str]:
    check = f"condensebench check plugins {name}{plugin}"
    results = f"results/{name}"
    options = {
        "method": f"--dataset digits --protocol small-hard-v1 --ipc 1 --method random --method {name}",
        "compressor": f"--dataset digits --ipc 1 --method random --compressor none --compressor {name} --budget 10x",
        "dataset": f"--dataset {name} --protocol small-hard-v1 --ipc 1 --method random --method herding",
        "protocol": f"--dataset digits --protocol {name} --ipc 1 --method random --method herding",
    }[kind]
    if kind == "protocol":
        check = f"condensebench check protocols{plugin}"
    return (
        check,
        f"condensebench run{plugin} {options} --results {results}",
        f"condensebench leaderboard --results {results}",
    )
