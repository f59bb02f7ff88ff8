"""`check plugins` over plugins that misbehave: none of them ends the check, holds it up, floods it, or passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from bench.checks.plugins import apart
from bench.checks.plugins.apart import Apart
from bench.checks.plugins.check_plugins import rules_of
from bench.checks.plugins.kit import WATCH
from bench.cli import cli
from bench.finding import Finding
from bench.plugins.registry import discover
from tests.worlds.bad_plugins import bad_plugin

FIRST = "keeps-the-contract"  # the first rule that makes a call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def checker(folder: Path) -> Apart:
    limits = replace(apart.LIMITS, processes=6, output=2**22)
    return Apart(discover([bad_plugin(folder / "plugins", name) for name in (*BAD, "catches_forks")]), folder, limits)


def found(checker: Apart, name: str) -> list[Finding]:
    """What the rules up to the first three that call a method find."""
    plugin = checker._registry.get("method", name)
    rules = rules_of(plugin)
    return checker.findings(plugin, rules[: rules.index(FIRST) + 3])


BAD = {
    "exits": (FIRST, "the call ended with SystemExit: 0"),
    "exits_at_import": (FIRST, "SystemExit: 0"),
    "raises_base": (FIRST, "BaseException"),
    "interrupts": (FIRST, "[KeyboardInterrupt]"),
    "ends_process": (FIRST, "[died] method 'ends_process' ended its process with exit code 0. 2 more rules were not"),
    "segfaults": (FIRST, "[died] the process of method 'segfaults' died (SIGSEGV). 2 more rules were not checked."),
    "loops": (FIRST, "[timeout] method 'loops' had not ended after 8 s."),
    "forks": (FIRST, "BlockingIOError: the harness allows a plugin 6 processes at once"),
    "prints": (FIRST, "[output] method 'prints' printed more than 4194304 bytes."),
    "leaves_daemon": (WATCH, "while it was checked, it left"),
    "imports_dataset": (WATCH, "while it was checked, it imported protocols.datasets"),
    "opens_file": (WATCH, "while it was checked, it opened sklearn/datasets/data/digits.csv.gz."),
    "reads_at_import": (WATCH, "while it was checked, it opened sklearn/datasets/data/digits.csv.gz."),
    "walks_frames": (WATCH, "while it was checked, it called sys._getframe."),
    "starts_program": (WATCH, "while it was checked, it started python"),
    "writes_results": (WATCH, "while it was checked, it changed results/more.jsonl."),
}


@pytest.mark.parametrize("name", BAD)
def test_a_plugin_that_misbehaves_is_found(checker, folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "results").mkdir(exist_ok=True)
    monkeypatch.setenv("RESULTS", "results")
    monkeypatch.setenv("PIDS", str(folder / "pids"))
    if name == "loops":
        monkeypatch.setattr(checker, "_limits", replace(checker._limits, seconds=8.0))
    rule, message = BAD[name]
    findings = found(checker, name)
    assert any(finding.rule == rule and message in finding.message for finding in findings), findings
    assert {finding.severity for finding in findings if finding.rule == rule} & {"error", "warning"}


def test_a_plugin_that_catches_the_refusal_of_a_process_is_found_all_the_same(checker):
    messages = [finding.message for finding in found(checker, "catches_forks")]
    assert any("[processes] method 'catches_forks' took more than 6 processes at once." in each for each in messages)


def test_rules_after_one_that_a_plugin_tried_to_end_are_checked(checker):
    assert [finding.rule for finding in found(checker, "exits")] == [
        FIRST,
        "exact-images-per-class",
        "one-class-is-enough",
    ]


def test_nothing_that_a_checked_plugin_started_is_left(checker, folder, monkeypatch):
    monkeypatch.setenv("PIDS", str(folder / "pids-left"))
    found(checker, "leaves_daemon")
    pids = (folder / "pids-left").read_text().split()
    assert len(pids) >= 3
    assert not any(psutil.pid_exists(int(pid)) for pid in pids)


def test_the_verb_ends_with_a_summary_and_exit_code_1(folder):
    bad = bad_plugin(folder, "ends_process")
    answer = CliRunner().invoke(cli, ["check", "plugins", "ends_process", f"--plugin={bad}"])
    assert answer.exit_code == 1
    assert "error: [keeps-the-contract] method 'ends_process': [died] " in answer.stdout
    assert " checks of 1 plugin: 1 error" in answer.stdout.splitlines()[-1]
