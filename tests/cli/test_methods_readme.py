"""The example in methods/README.md runs as it is written there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.artifacts.opened import Data
from bench.cli import cli
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages.method_call import build_condensed
from tests.worlds import ROOT

README = ROOT / "methods" / "README.md"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's first Python block, in a file of the name that the README gives it."""
    text = README.read_text(encoding="utf-8")
    source, _ = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    path = tmp_path_factory.mktemp("readme") / re.findall(r"^`(\w+\.py)` picks", text, re.MULTILINE)[0]
    path.write_text(source, encoding="utf-8")
    return path


def test_the_example_is_as_short_as_the_readme_says(example: Path) -> None:
    lines = [line for line in example.read_text().splitlines() if line.strip()]
    assert len(lines) <= 15


def test_the_example_picks_what_it_says(example: Path) -> None:
    registry = discover([example])
    train = Data(parse(registry, "dataset", "digits"), example.parent).train
    ink = train.images(np.arange(len(train))).double().mean(dim=(1, 2, 3)).numpy()
    for spec, order in (("brightest", -1), ("brightest:most=false", 1)):
        condensed = build_condensed(parse(registry, "method", spec), train, 3, None)
        assert condensed.images.shape == (30, 1, 8, 8)
        assert condensed.indices is not None
        for label in range(10):
            own = train.class_indices(label)
            best = sorted(own, key=lambda index: (order * ink[index], index))[:3]
            assert condensed.indices[3 * label : 3 * label + 3].tolist() == best


@pytest.mark.trains
def test_the_commands_beside_the_example_are_understood(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(example.parent)
    text = README.read_text(encoding="utf-8").replace("\\\n", " ")
    text = text[text.index("## A method in fifteen lines") : text.index("## Three ways to add one")]
    commands = [shlex.split(line)[1:] for line in re.findall(r"^    (condensebench .*)$", text, re.MULTILINE)]
    assert [command[0] for command in commands] == ["show", "run", "check"]
    shown = CliRunner().invoke(cli, commands[0])
    assert shown.exit_code == 0
    assert "The images of each class with the most ink." in shown.output
    planned = CliRunner().invoke(cli, [*commands[1], "--dry-run"])
    assert planned.exit_code == 0
    assert "9 trials: 0 done, 9 missing" in planned.output
    checked = CliRunner().invoke(cli, commands[2])
    assert checked.exit_code == 0
    assert "of 1 plugin" in checked.output


@pytest.mark.trains
def test_the_test_beside_the_example_checks_every_rule(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, source = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(example.parent)
    names: dict = {}
    exec(source, names)
    test = names["test_brightest_keeps_the_rule"]
    (mark,) = test.pytestmark
    assert len(mark.args[1]) > 20
    for rule, check in mark.args[1]:
        test(rule, check)
