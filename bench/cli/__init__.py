"""The command line: a verb is a file of this folder.

A verb's file holds a constant GROUP (a key of `GROUPS`) and a click command named `command`, whose docstring is the
help text. A new verb is one new file; nothing else lists it. What a verb prints and its exit code stand in its file;
the other folders of `bench` return values.

Files are read, not imported, until a verb is called: `condensebench --help` is built from their syntax trees. Heavy
imports stand inside functions, so that `condensebench VERB --help` loads none of them either.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path

import click

# In the order of `condensebench --help`; each says what one wants to do.
GROUPS = {
    "run": "Run and measure",
    "look": "Look at what there is and at what came out",
    "check": "Check",
    "extend": "Extend",
    "publish": "Share",
}


@dataclass(frozen=True)
class Verb:
    """What the file of a verb says of it: its group and the first paragraph of its help."""

    name: str
    group: str
    summary: str


def read_verb(file: Path) -> Verb | None:
    """The verb of a file, which is not imported; None where the file holds no verb."""
    group, summary = None, ""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GROUP":
            group = ast.literal_eval(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name == "command":
            summary = first_paragraph(ast.get_docstring(node) or "")
    return None if group is None else Verb(file.stem, group, summary)


def first_paragraph(help: str) -> str:
    """The first paragraph of a help text, on one line."""
    return " ".join(cleandoc(help).partition("\n\n")[0].split())


class WholeSentences(click.Group):
    """A group whose help shows the first paragraph of every command in full; click cuts it where a line ends."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands and what they do."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, first_paragraph(each.help or "")) for name, each in commands if each])


class Verbs(WholeSentences):
    """The verbs of a folder, each imported when it is called."""

    def __init__(self, folder: Path, package: str, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._folder, self._package = folder, package

    def verbs(self) -> list[Verb]:
        """All verbs in alphabetical order."""
        read = (read_verb(file) for file in sorted(self._folder.glob("*.py")))
        return [verb for verb in read if verb is not None]

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """The names of all verbs."""
        return [verb.name for verb in self.verbs()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """The command of a verb, imported now; None where no file holds it."""
        file = self._folder / f"{name}.py"
        if file not in self._folder.glob("*.py") or read_verb(file) is None:  # looked up: a typed word is never a path
            return None
        command = importlib.import_module(f"{self._package}.{name}").command
        assert isinstance(command, click.Command), file
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that was typed; an error names the nearest, which click looks up among `commands`."""
        if self.get_command(ctx, args[0]) is None:
            self.commands = {name: click.Command(name) for name in self.list_commands(ctx)}
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The verbs under what one wants to do; nothing is imported."""
        verbs = self.verbs()
        width = max(len(verb.name) for verb in verbs)
        for group, title in GROUPS.items():
            if members := [(verb.name.ljust(width), verb.summary) for verb in verbs if verb.group == group]:
                with formatter.section(title):
                    formatter.write_dl(members)


@click.group(
    cls=Verbs,
    folder=Path(__file__).parent,
    package=__name__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="condensebench", message="%(package)s %(version)s")
def cli() -> None:
    """Compare dataset-condensation methods and soft-label compressors under fixed protocols.

    \b
    condensebench list                          what there is
    condensebench show score                    one of them: parameters, source, file
    condensebench run --dataset digits --protocol small-soft-v1 --method random --method herding \\
                      --compressor svd --budget 10x --ipc 10 --results results/mine
    condensebench leaderboard --results results/mine
    condensebench check records results/mine    is the comparison fair?
    """


@cli.result_callback()
def end(code: int | None) -> None:
    """End with the exit code that a verb returned; None is 0."""
    raise SystemExit(code)
