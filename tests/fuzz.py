"""Fuzzers of every reader: `python -m tests.fuzz --inputs N [--seed S] [NAME ...]`.

An input is a good one with bytes or values changed. A reader may refuse it by the errors that it declares; any other
error is a fault, and so is an input that takes longer than a second. Exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from bench.artifacts import store
from bench.errors import UserError
from bench.labels.label_file import LabelFile
from bench.plugins.registry import Registry, discover
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
from tests.worlds import ROOT

LONGEST = 1.0  # seconds of process time that one input may take
ODD: tuple[Any, ...] = (
    None, True, "", "x", "\x1b[2J", "\u202e", "\ud800", "9" * 400 + "x", 0, -1, 2**53, 2**63, 10**400, 1.5, -0.0, 1e308,
    [], {}, [[]], {"by": "ipc"}, ["a", 1], "a:b=c,d=e", "../../x", "\x00",
)  # fmt: skip
Fuzzer = Callable[[Random, Path], None]


@dataclass
class Tally:
    """What the inputs of a fuzzer came to."""

    inputs: int = 0
    refused: int = 0
    slowest: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)  # the place of an error -> the seed that shows it


@cache
def registry() -> Registry:
    """Of the project, read once."""
    return discover()


@cache
def content(path: str) -> bytes:
    """A file of the project."""
    return (ROOT / path).read_bytes()


@cache
def committed() -> list[bytes]:
    """Lines of records of all schemas."""
    files = ("claims", "compressors", "default-plan", "full-data", "methods", "recipes")
    return [line for name in files for line in content(f"results/{name}/records.jsonl").splitlines()[::40]]


# --- changed inputs ---------------------------------------------------------------------------------------------------


def bytes_changed(data: bytes, random: Random) -> bytes:
    """A few bytes changed, cut out, doubled or put in."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, length = random.randrange(len(out) + 1), random.choice((1, 1, 2, 8, 64))
        kind = random.randrange(4)
        if kind == 0:
            out[at : at + length] = random.randbytes(min(length, len(out) - at))
        elif kind == 1:
            del out[at : at + length]
        elif kind == 2:
            out[at:at] = out[at : at + length] * random.choice((1, 2, 50))
        else:
            out[at:at] = random.choice((b"[", b"{", b'"', b"9", b".", b"-", b"\xff", b"\x00", b"e9")) * random.choice(
                (1, 9, 3000)
            )
    return bytes(out)


def value_changed(value: Any, random: Random) -> Any:
    """A JSON or TOML value with one part changed, left out or doubled."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(sorted(value))
        kind = random.random()
        if kind < 0.1:
            return {name: each for name, each in value.items() if name != key}
        if kind < 0.15:
            return {**value, str(random.choice(ODD)): random.choice(ODD)}
        return {**value, key: value_changed(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.8:
        at = random.randrange(len(value))
        return [*value[:at], value_changed(value[at], random), *value[at:][: random.randrange(3)]]
    return random.choice(ODD)


def as_toml(value: Any) -> str:
    """A value as TOML; what TOML lacks becomes text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(str(key))} = {as_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=True).replace("\\ud800", "?")


def toml_changed(path: str, random: Random, folder: Path) -> Path:
    """A TOML file of the project, changed."""
    target = folder / Path(path).name
    if random.random() < 0.5:
        target.write_bytes(bytes_changed(content(path), random))
    else:
        changed = value_changed(_toml(path), random)
        lines = (
            [f"{as_toml(str(key))} = {as_toml(each)}" for key, each in changed.items()]
            if isinstance(changed, dict)
            else ["x"]
        )
        target.write_text("\n".join(lines), encoding="utf-8")
    return target


@cache
def _toml(path: str) -> dict[str, Any]:
    return read_toml(ROOT / path)


# --- readers ----------------------------------------------------------------------------------------------------------


def record_bytes(random: Random, folder: Path) -> None:
    """A line of a record, bytes changed, by both readers, which must agree."""
    _both(bytes_changed(random.choice(committed()), random))


def record_values(random: Random, folder: Path) -> None:
    """A line with values changed and the digest that fits them; now and then a leaderboard is made of it."""
    fields = json.loads(random.choice(committed()))
    del fields["digest"]
    for _ in range(random.randint(1, 2)):
        fields = {**fields, **changed} if isinstance(changed := value_changed(fields, random), dict) else fields
    line = json.dumps({**fields, "digest": line_digest(fields)}, separators=(",", ":")).encode()
    record = _both(line)
    if record is not None and random.random() < 0.02:
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


def plan(random: Random, folder: Path) -> None:
    """A plan, and its trials by arithmetic."""
    read_plan(toml_changed("results/default-plan.toml", random, folder)).trials(registry())


def protocol(random: Random, folder: Path) -> None:
    """A protocol in all its branches."""
    path = toml_changed(random.choice(("protocols/rded-v1.toml", "protocols/edc-v1.toml")), random, folder)
    definition.parse("mine-v1", read_toml(path), path)


def claims(random: Random, folder: Path) -> None:
    """A claims file."""
    read_claims(toml_changed("results/claims.toml", random, folder))


def spec(random: Random, folder: Path) -> None:
    """A specification of a method, compressor or data set."""
    specs = (("method", "rded:candidates=40"), ("compressor", "svd:factor=int8"), ("dataset", "glyphs:classes=9"))
    kind, text = random.choice(specs)
    str(parse(registry(), kind, bytes_changed(text.encode(), random).decode("utf-8", "surrogateescape")))


def budget(random: Random, folder: Path) -> None:
    """A budget, and its one spelling."""
    text = bytes_changed(random.choice((b"30x", b"12.5x", b"20kB", b"1.5MiB")), random).decode("utf-8", "replace")
    assert Budget.parse(str(once := Budget.parse(text))) == once


def label_file(random: Random, folder: Path) -> None:
    """The file of a set's labels."""
    data = LabelFile(random.randbytes(9), random.randbytes(300), (random.randbytes(20), b"")).to_bytes()
    LabelFile.from_bytes(bytes_changed(data, random))


def artifact(random: Random, folder: Path) -> None:
    """A file of the store."""
    path = folder / "a.safetensors"
    path.write_bytes(bytes_changed(_artifact(), random))
    for array in store.read(path).arrays.values():
        array.sum()


@cache
def _artifact() -> bytes:
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        store.write(path, {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros((0, 4), np.uint8)}, {"inputs": {"x": 1}})
        return path.read_bytes()


READERS: dict[str, Fuzzer] = {
    reader.__name__: reader
    for reader in (record_bytes, record_values, plan, protocol, claims, spec, budget, label_file, artifact)
}


# --- counting ---------------------------------------------------------------------------------------------------------


def fuzz(name: str, inputs: int, seed: int) -> Tally:
    """So many inputs of one reader, from the seed that is named."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for number in range(inputs):
            which = f"{name}/{seed}/{number}"
            start = time.process_time()
            try:
                READERS[name](Random(which), Path(folder))
            except UserError:
                tally.refused += 1
            except Exception as error:
                tally.faults.setdefault(_place(error), which)
            seconds = time.process_time() - start
            tally.inputs += 1
            tally.slowest = max(tally.slowest, seconds)
            if seconds > LONGEST:
                tally.faults.setdefault(f"{seconds:.1f} s", which)
    return tally


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    line = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__} at {line}"


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB


def rows(names: list[str], inputs: int, seed: int) -> Iterator[tuple[str, Tally]]:
    """(reader, what its share of the inputs came to)."""
    for name in names:
        yield name, fuzz(name, -(-inputs // len(names)), seed)


def main() -> int:
    """Fuzz and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="NAME", help=f"of {', '.join(READERS)} (default: all)")
    parser.add_argument("--inputs", type=int, default=9_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start, faults = _peak(), 0
    print("| reader | inputs | refused | undeclared errors | slowest, s |\n|---|---|---|---|---|")
    for name, tally in rows(options.readers or list(READERS), options.inputs, options.seed):
        faults += len(tally.faults)
        print(
            f"| {name} | {tally.inputs:,} | {tally.refused:,} | {len(tally.faults)} | {tally.slowest:.2f} |", flush=True
        )
        for place, which in tally.faults.items():
            print(f"  {which}: {place}", file=sys.stderr)
    print(f"\npeak: {_peak() - start:.2f} GiB above the start")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
