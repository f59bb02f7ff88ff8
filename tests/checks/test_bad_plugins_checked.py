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
from tests.worlds.planted import COMPRESSOR
from tests.worlds.plugins import write
from tests.worlds.run import DATASET

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
    "forks": (FIRST, "6 processes at once"),  # its own error, or the limit, whichever comes first
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


# --- compressors and data sets ---------------------------------------------------------------------------------------

ELSE = {  # what its code does -> rule, and what is found
    "sys.exit(0)": ("its first", "SystemExit"),
    "os._exit(0)": ("its first", "ended its process with exit code 0"),
    "time.sleep(60)": ("its first", "had not ended after 4 s"),
    "torch.set_default_dtype(torch.float64)": ("leaves-the-process-as-it-was", "it changed torch's default dtype."),
    "np.random.seed(0)": ("leaves-global-generators-alone", "moved the global generator of numpy.random"),
    "np.argsort = torch.Tensor.topk = len": (
        "leaves-the-process-as-it-was",
        "it changed torch.Tensor.topk, numpy.argsort.",
    ),
}
HEADS = {"compressor": "def encode(labels, budget_bytes, ctx):\n", "dataset": "def load(root):\n"}
SOURCES = {"compressor": COMPRESSOR, "dataset": f'"""A data set of a test."""\n{DATASET}'}


@pytest.mark.parametrize("kind", HEADS)
def test_compressors_and_data_sets_that_misbehave_are_found_too(folder, kind):
    files, names = [], {}
    for number, line in enumerate(ELSE):
        head = HEADS[kind]
        source = SOURCES[kind].replace('log("read", self.split)', "pass").replace(head, f"{head}    {line}\n")
        source = source.replace(
            "import numpy as np\n", "import os\nimport sys\nimport time\n\nimport numpy as np\nimport torch\n"
        )
        names[line] = f"bad-{kind}-{number}"
        files.append(write(folder / "more" / f"{names[line]}.py", source))
    registry = discover(files)
    checker = Apart(registry, folder, replace(apart.LIMITS, processes=6))

    for line, (rule, message) in ELSE.items():
        plugin = registry.get(kind, names[line])
        rules = rules_of(plugin)
        wanted = [each for each in rules if each == rule] or rules[4:8]
        checker._limits = replace(checker._limits, seconds=4.0 if "sleep" in line else 300.0)
        findings = checker.findings(plugin, wanted)
        assert any(message in each.message and each.severity == "error" for each in findings), (line, findings)


def test_what_the_import_of_a_plugin_changes_is_found(checker, folder):
    source = SOURCES["compressor"].replace(
        "import torch\n", "import torch\n\ntorch.manual_seed(1)\ntorch.matmul = max\n", 1
    )
    file = write(folder / "more" / "at-import.py", source)
    plugin = discover([file]).get("compressor", "at-import")
    rules = ["leaves-global-generators-alone", "leaves-the-process-as-it-was"]
    findings = Apart(discover([file]), folder).findings(plugin, rules)
    assert [each.message.partition(". ")[0] for each in findings] == [
        "its import moved the global generator of torch",
        "its import changed torch.matmul",
    ]
