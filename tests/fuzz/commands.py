"""The command line: words changed, left out, doubled or taken from another command.

Verbs that read are carried out. Of those that train, write or fetch, what they make of their options is tried: a run is
prepared, and the others end where their work would begin.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import click
from click.testing import CliRunner

from bench.cli import cli, read_verb
from bench.errors import UserError
from bench.plugins.registry import Registry, discover
from tests.fuzz.changes import MOST, bytes_changed
from tests.fuzz.reader import Reader, folder, of_bytes
from tests.fuzz.texts import committed, registry

RESULTS = "RESULTS"  # stands for a folder of records
LINES = (
    f"leaderboard --results {RESULTS} --format md",
    f"leaderboard --results {RESULTS} --by protocol",
    f"leaderboard --results {RESULTS} --scores dd-ranking --unaugmented small-hard-v1=small-soft-v1",
    f"compare random herding --results {RESULTS}",
    f"compare random el2n:end=hard --results {RESULTS} --format json",
    "show score", "show small-soft-v1:recipe.batch=100 rded-v1 --side-by-side --dataset cifar10 --ipc 10 --json",
    "show digits svd --json",
    "run --dataset digits --protocol small-soft-v1 --method random --method el2n:end=hard --compressor rpca "
    f"--budget 10x --ipc 10 --replicates 3 --results {RESULTS} --jobs 2 --stage-timeout 60 --limit 5 --dry-run",
    f"run --plan results/default-plan.toml --results {RESULTS} --rerun stale --ray-address auto --arithmetic native",
    "sweep --dataset digits --method rded --ipc 1 --over candidates=10,20 --protocol small-hard-v1",
    "labels --dataset digits --ipc 10 --compressor svd --budget 10x --set-size 100 --project 50000 --format csv",
    f"report --results {RESULTS} --out site", f"check records {RESULTS} --baseline {RESULTS}", "check plugins score",
    f"verify {RESULTS} --sample 3", f"merge {RESULTS} {RESULTS} --into other", "new method sharpest",
    "lock --release mine-v1", "data get cifar10", "data check mnist", "cost --dataset digits", "storage imagenet-1k",
    "picture random --dataset digits", f"plot --results {RESULTS} --out plots", "published", "claims", "teacher list",
    "list methods --json",
)  # fmt: skip
CARRIED_OUT = ("compare", "leaderboard", "run", "show")


def _line(random: Random) -> bytes:
    _warm()
    words = random.choice(LINES[:10] if random.random() < 0.7 else LINES).split()
    for _ in range(random.randint(1, 3)):
        at, kind = random.randrange(len(words)), random.randrange(8)
        if kind < 4:
            word = bytes_changed(words[at].encode("utf-8", "surrogateescape"), random, 2)[: MOST // 100]
            words[at] = word.decode("utf-8", "surrogateescape").replace("\0", "")  # no program is ever handed a NUL
        elif kind == 4:
            del words[at]
        elif kind == 5:
            words.insert(at, words[random.randrange(len(words))])
        elif kind == 6:
            words.insert(at, random.choice(random.choice(LINES).split()))
        else:
            words.insert(at, random.choice(("", "-", "--", "-h", "--help", "=", ".", "..", "\u202e", "-1", "9" * 400)))
        if not words:
            break
    return json.dumps(words).encode()


@cache
def _results(place: Path) -> str:
    path = place / "results"
    path.mkdir()
    (path / "records.jsonl").write_bytes(b"\n".join(committed()[::9]) + b"\n")
    return str(path)


@cache
def _warm() -> None:
    """Import what the verbs import when they are called: a second that no input takes."""
    for line in (LINES[0], LINES[5], LINES[8]):
        _invoke(json.dumps(line.split()).encode())


@cache
def _command(verb: str) -> click.Command | None:
    return cli.get_command(click.Context(cli), verb)


def _leaves(command: click.Command) -> list[click.Command]:
    if isinstance(command, click.Group):
        return [leaf for name in command.list_commands(click.Context(command))
                if (each := command.get_command(click.Context(command), name)) for leaf in _leaves(each)]  # fmt: skip
    return [command]


def _discover(plugins: Iterable[str | Path] = ()) -> Registry:
    files = tuple(plugins)
    return discover(files) if files else registry()


def _nothing(*_: object, **__: object) -> int:
    """Stands for what would train, write or fetch."""
    return 0


# A run ends before it begins; the project's own files, which are no input, are read once.
_REPLACED: dict[str, Any] = {
    "bench.cli.run.carry_out": _nothing,
    "bench.cli.read_verb": cache(read_verb),
    "bench.driver.prepared.discover": _discover,
    "bench.plugins.registry.discover": _discover,
}


def _invoke(data: bytes) -> None:
    """As `condensebench` does it, but for what would train, write or fetch."""
    words = [word.replace(RESULTS, _results(folder())) for word in json.loads(data)]
    verb = words[0] if words else ""
    command = _command(verb) if verb and not verb.startswith("-") else None
    with ExitStack() as replaced:
        if verb not in CARRIED_OUT and command is not None:
            for leaf in _leaves(command):
                replaced.enter_context(mock.patch.object(leaf, "callback", _nothing))
        for name, other in _REPLACED.items():
            replaced.enter_context(mock.patch(name, other))
        target, rest = (cli, words) if command is None else (command, words[1:])
        result = CliRunner().invoke(target, rest, standalone_mode=False)
    error = result.exception
    if isinstance(error, UserError):
        raise error
    if isinstance(error, click.ClickException | click.Abort | OSError):  # each ends with a sentence and exit code 2
        raise UserError(f"{type(error).__name__}: {error}")
    if error is not None and not isinstance(error, SystemExit):
        raise error


READERS: dict[str, Reader] = {"command-line": replace(of_bytes(_line, _invoke), share=0.3)}
