"""The verb `reference`: every verb with its options, and every plugin with its parameters, as one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import PLUGIN

if TYPE_CHECKING:
    from bench.plugins.registry import Plugin, Registry

GROUP = "look"
HEAD = """\
# Reference

This page is for looking up. `condensebench reference` prints it from the program and its plugins; a test holds it so.
[commands.md](commands.md) shows each verb at work."""
EXAMPLES = "\b"  # how click marks a paragraph whose lines stay as they are: examples, which docs/commands.md has
NUMBERS = {"INTEGER RANGE": "N", "FLOAT RANGE": "X", "INTEGER": "N", "FLOAT": "X"}  # as click calls them
KINDS = {  # of plugins -> the heading, and the folder of this project's own
    "method": "Methods",
    "compressor": "Compressors",
    "dataset": "Data sets",
    "network": "Students",
}


@click.command()
@PLUGIN
def command(plugins: tuple[str, ...]) -> None:
    """Print the reference as Markdown: every verb with its options, every plugin with its parameters.

    Plugins of installed packages are left out; those of --plugin are named with the project's own.
    """
    from bench.plugins.registry import discover

    click.echo(page(click.get_current_context().find_root(), discover(plugins)))


def page(root: click.Context, registry: Registry) -> str:
    """The page, without a line break at its end."""
    verbs = (block for name, verb in _verbs(root) for block in _verb(name, verb))
    lists = (block for kind, title in KINDS.items() for block in _plugins(title, registry.all(kind)))
    return "\n\n".join([HEAD, "## Verbs", *verbs, *lists, *_protocols(registry)])


def _verbs(root: click.Context) -> Iterator[tuple[str, click.Command]]:
    """(name as it is typed, command) of every verb, in order, and of the commands of those that are groups."""
    assert isinstance(root.command, click.Group)
    for name in root.command.list_commands(root):
        verb = root.command.get_command(root, name)
        assert verb is not None, name
        if isinstance(verb, click.Group):
            if verb.invoke_without_command:
                yield name, verb
            yield from ((f"{name} {below}", verb.commands[below]) for below in sorted(verb.commands))
        else:
            yield name, verb


def _verb(name: str, verb: click.Command) -> Iterator[str]:
    context = click.Context(verb, info_name=name)
    arguments = [each for each in verb.params if isinstance(each, click.Argument)]
    typed = " ".join([f"condensebench {name}", *(each.make_metavar(context) for each in arguments), "[OPTIONS]"])
    yield f"### {name}"
    yield f"`{typed}`"
    paragraphs = cleandoc(verb.help or "").split("\n\n")
    yield from (" ".join(part.split()) for part in paragraphs if not part.startswith(EXAMPLES))
    options = [each for each in verb.params if isinstance(each, click.Option)]
    rows = [(_spelt(option, context), _help(option, context)) for option in options]
    if rows:
        yield _table(("option", "what it does"), rows)


def _spelt(option: click.Option, context: click.Context) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    metavar = NUMBERS.get(option.make_metavar(context), option.make_metavar(context))
    return f"`{names}`" if option.is_flag else f"`{names} {metavar}`"


def _help(option: click.Option, context: click.Context) -> str:
    """The help, with what it says beside: repeatable, required, the default."""
    text = " ".join((option.help or "").split())
    extra = option.get_help_extra(context)
    marks = [f"default: {extra['default']}"] if "default" in extra else []
    marks += ["required"] if "required" in extra else []
    return " ".join([text, *(f"[{mark}]" for mark in marks)]).strip()


def _plugins(title: str, plugins: Sequence[Plugin]) -> Iterator[str]:
    shipped = [plugin for plugin in plugins if not plugin.foreign or plugin.module_name is None]
    yield f"## {title}"
    rows = [(f"`{each.name}`", _cell(each.description), _parameters(each.parameters)) for each in shipped]
    yield _table(("name", "what it does", "parameters and their defaults"), rows)


def _parameters(parameters: Any) -> str:
    return ", ".join(f"`{name}={_value(value)}`" for name, value in parameters.items()) or "-"


def _value(value: Any) -> str:
    """As a spec spells it."""
    return {True: "true", False: "false", None: "none", "": '""'}.get(value, str(value)) if _word(value) else str(value)


def _word(value: Any) -> bool:
    return value is None or isinstance(value, bool | str)


def _protocols(registry: Registry) -> Iterator[str]:
    from bench.protocol import definition

    yield "## Protocols"
    fixed = [definition.load(registry, name) for name in registry.protocol_names()]
    yield _table(("name", "what it is", "labels"), [(f"`{p.id}`", _cell(p.title), ", ".join(p.regimes)) for p in fixed])


def _cell(text: str) -> str:
    return " ".join(text.split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(head), f"|{'---|' * len(head)}", *map(line, rows)])
