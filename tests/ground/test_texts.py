"""Text of others: read with or without a byte order mark, shown and never obeyed, and cut where it has no end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.driver.outcome import attempt, failure
from bench.errors import UserError
from bench.finding import Finding, as_text
from bench.plugins.registry import discover
from bench.texts import FILE_BYTES, MESSAGE, TRACEBACK, cut, read_text, visible, without_orders
from tests.worlds import ROOT
from tests.worlds.records import cell, record

ORDERS = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202egnp.exe\u2066 \x9b1m \x08\x08 \r \ufeff \u200b \udc80 \U000e0041"
HARMLESS = "a name, ± 3.1 %, Ж, 字, é, e\u0301, tab\tand\nline"


def test_what_a_terminal_would_obey_is_spelt_as_json_spells_it() -> None:
    shown = visible(ORDERS)
    assert shown.isprintable()
    assert json.loads(f'"{shown}"') == ORDERS
    assert visible(HARMLESS) == HARMLESS
    assert visible(shown) == shown


def test_colours_are_taken_out_and_what_they_coloured_stays() -> None:
    assert (
        without_orders("\x1b[1;31mValueError\x1b[0m: \x1b]8;;https://x.y\x1b\\link\x1b]8;;\x07") == "ValueError: link"
    )


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    text = "begin " + "x" * 10**6 + " end"
    assert cut(text).startswith("begin xxx")
    assert cut(text).endswith("xxx end")
    assert "998,010 characters left out" in cut(text)
    assert len(cut(text)) < MESSAGE + 60
    assert cut("short") == "short"


class Coloured(Exception):
    """As Ray's: its text has colours and an address, its cause the plugin's own."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("\x1b[36mray::_serve()\x1b[39m (pid=17, ip=10.0.0.1)")
        self.cause = cause


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_a_failure_has_a_size_and_no_colours() -> None:
    def shout() -> None:
        raise ValueError("\x1b[31m" + "no" * 10**6)

    outcome = attempt(shout)
    assert len(outcome.message) < MESSAGE + 60
    assert len(outcome.traceback) < TRACEBACK + 60
    assert "\x1b" not in outcome.message + outcome.traceback
    assert failure(Coloured(KeyError("width"))).message == "'width'"
    assert failure(Coloured(KeyError("width"))).error_type == "KeyError"
    assert failure(Unspeakable()).message == "its message cannot be read (RuntimeError)"


def test_a_finding_about_a_strangers_name_is_one_plain_text() -> None:
    text = as_text([Finding("rule", "place \x1b[2J", "message \u202e" + "x" * 10**6)], "1 record")
    assert "\\u001b[2J" in text
    assert "\\u202e" in text
    assert len(text) < 2 * MESSAGE


@pytest.mark.parametrize(("start", "newline"), [(b"\xef\xbb\xbf", "\n"), (b"", "\r\n"), (b"\xef\xbb\xbf", "\r\n")])
def test_a_byte_order_mark_and_line_ends_change_nothing(tmp_path: Path, start: bytes, newline: str) -> None:
    plugin = (
        (ROOT / "methods/selection/uniform.py").read_text(encoding="utf-8").replace('NAME = "random"', 'NAME = "mine"')
    )
    protocol = (ROOT / "protocols/small-hard-v1.toml").read_text(encoding="utf-8")
    places = [tmp_path / "mine.py", tmp_path / "mine-v1.toml"]
    plain = [tmp_path / "plain" / place.name for place in places]
    (tmp_path / "plain").mkdir()
    for place, like, text in zip(places, plain, (plugin, protocol), strict=True):
        like.write_text(text, encoding="utf-8")
        place.write_bytes(start + text.replace("\n", newline).encode())
        assert read_text(place) == text
    ours, theirs = discover(places), discover(plain)
    assert ours.get("method", "mine").digest == theirs.get("method", "mine").digest
    assert ours.protocol_file("mine-v1")[1] == theirs.protocol_file("mine-v1")[1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[recipe]".encode("utf-16"), "UTF-16.*Save it as UTF-8"),
        ("title = 'Résumé'".encode("cp1252"), "byte 10 is 0xe9"),
        (b"#" * (FILE_BYTES + 1), "more than 4 MiB"),
    ],
)
def test_a_file_that_is_no_text_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a-v1.toml").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        discover([tmp_path / "a-v1.toml"])


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nb", "a:b", "a,b", "\u202eb", " "])
def test_a_plugin_whose_name_is_an_order_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.py").write_text(f"NAME = {name!r}\n\ndef select(train, ipc, ctx):\n    return []\n")
    with pytest.raises(UserError, match="cannot be the name of a method"):
        discover([tmp_path / "mine.py"])


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "utf-8"])
def test_every_terminal_gets_the_tables_and_none_gets_an_order(tmp_path: Path, encoding: str) -> None:
    lines = [each.line() for each in cell(0.4, method="x\x1b[31m") + cell(0.4, method='é"') + cell(0.5)]
    lines.append(record(None, method="y", status="infeasible").line())
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + "\n")
    answer = subprocess.run(
        [sys.executable, "-m", "bench", "leaderboard", "--results", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}, capture_output=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    shown = answer.stdout.decode(encoding)
    assert ("≥ 220 B" if encoding == "utf-8" else ">= 220 B") in shown
    assert ("±" if encoding != "ascii" else "+-") in shown
    assert ("é" if encoding != "ascii" else "\\xe9") in shown
    assert b"\x1b" not in answer.stdout + answer.stderr
    assert r"x\u001b[31m" in shown
