"""Readers of texts: records, plans, protocols, claims, specifications, budgets."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from bench.errors import UserError
from bench.plugins.registry import Registry, discover, read
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.protocol.toml_file import read_toml
from bench.records.lean import LeanReader
from bench.records.lines import record_of, whole_fields
from bench.records.problems import Problem
from bench.records.schema import line_digest
from bench.reports.claims.claim_file import read_claims
from bench.reports.leaderboard.page import render
from bench.reports.leaderboard.rows import leaderboard
from bench.trials.budget import Budget
from bench.trials.plan import read_plan
from tests.fuzz.changes import bytes_changed, content, toml_changed, value_changed
from tests.fuzz.reader import Reader, of_bytes, of_file


@cache
def registry() -> Registry:
    """Of the project, read once."""
    return discover()


@cache
def committed() -> list[bytes]:
    """Lines of records of all schemas."""
    files = ("claims", "compressors", "default-plan", "full-data", "methods", "recipes")
    return [line for name in files for line in content(f"results/{name}/records.jsonl").splitlines()[::40]]


def record_with_values(random: Random) -> bytes:
    """A line with values changed and the digest that fits them."""
    fields = json.loads(random.choice(committed()))
    del fields["digest"]
    for _ in range(random.randint(1, 2)):
        fields = {**fields, **changed} if isinstance(changed := value_changed(fields, random), dict) else fields
    return json.dumps({**fields, "digest": line_digest(fields)}, separators=(",", ":")).encode()


def _read_record(line: bytes) -> None:
    """By both readers, which must agree; now and then a leaderboard is made of it."""
    record = _both(line)
    if zlib.crc32(line) % 50 == 0:
        table = leaderboard([record])
        for format in ("text", "md", "csv", "latex", "json"):
            render(table, format)


def _both(line: bytes) -> Any:
    place = "a.jsonl:1"
    lean = LeanReader().read(line, place)
    fields = whole_fields(line, place)
    whole = fields if isinstance(fields, Problem) else record_of(fields, place)
    assert isinstance(lean, Problem) == isinstance(whole, Problem), "one reader takes what the other refuses"
    if isinstance(lean, Problem):
        assert lean == whole
        raise UserError(str(lean))
    return lean


def read_all_trials(path: Path) -> object:
    """A plan, and its trials by arithmetic."""
    return read_plan(path).trials(registry())


def read_protocol(path: Path) -> object:
    """A protocol in all its branches."""
    return definition.parse("mine-v1", read_toml(path), path)


def _spec(random: Random) -> bytes:
    specs = (b"method rded:candidates=40", b"compressor svd:factor=int8", b"dataset glyphs:classes=9")
    kind, _, text = random.choice(specs).partition(b" ")
    return kind + b" " + bytes_changed(text, random)


def _read_spec(data: bytes) -> None:
    kind, _, text = data.decode("utf-8", "surrogateescape").partition(" ")
    str(parse(registry(), kind, text))


def _budget(random: Random) -> bytes:
    return bytes_changed(random.choice((b"30x", b"12.5x", b"20kB", b"1.5MiB")), random)


def _read_budget(data: bytes) -> None:
    """A budget, and its one spelling."""
    assert Budget.parse(str(once := Budget.parse(data.decode("utf-8", "replace")))) == once


PLUGINS = ("methods/selection/herding.py", "methods/compressors/svd.py", "protocols/datasets/digits.py")


def _plugin(random: Random) -> bytes:
    if random.random() < 0.1:
        return random.choice((b"(", b"[", b"-", b"not ", b"x.y")) * random.choice((50, 200, 5_000, 100_000))
    return bytes_changed(content(random.choice(PLUGINS)), random)


def _read_plugin(path: Path) -> None:
    """A file of `--plugin`: read for what it defines, never imported; its digest too."""
    read(path, kind=None, module_name=None).digest  # noqa: B018 (a property that is made when asked for)


def _protocol(random: Random) -> bytes:
    return toml_changed(random.choice(("protocols/rded-v1.toml", "protocols/edc-v1.toml")), random)


READERS: dict[str, Reader] = {
    "record-bytes": of_bytes(lambda random: bytes_changed(random.choice(committed()), random), _both),
    "record-values": of_bytes(record_with_values, _read_record),
    "plan": of_file(
        "plan.toml", lambda random: toml_changed("results/default-plan.toml", random), read_all_trials
    ),
    "protocol": replace(of_file("mine-v1.toml", _protocol, read_protocol), share=0.3),
    "plugin-file": of_file("mine.py", _plugin, _read_plugin),
    "claims": of_file("claims.toml", lambda random: toml_changed("results/claims.toml", random), read_claims),
    "spec": of_bytes(_spec, _read_spec),
    "budget": of_bytes(_budget, _read_budget),
}  # fmt: skip
