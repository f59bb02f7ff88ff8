"""A plugin that keeps every rule, spoilt in one place: the rule that it breaks is found, by name."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from bench.checks.plugins.check_plugins import CHECKS, checks_for, errors
from bench.checks.plugins.kit import rule as as_rule
from bench.finding import Finding
from bench.plugins.registry import read
from tests.worlds.planted import DATASET, METHOD
from tests.worlds.plugins import write
from tests.worlds.spoilt import SPOILT, Spoilt, does

EXCUSE = '\nCHECK_EXCEPTIONS = {"class-numbers-do-not-matter": "the first class goes first"}\n'


def found(source: str, tmp_path: Path, rule: str) -> list[Finding]:
    """What one check says of a plugin."""
    checks = dict(checks_for(write(tmp_path / "mine.py", source)))
    return checks[rule]()


@pytest.mark.parametrize("name", SPOILT)
def test_a_plugin_that(name: str, tmp_path: Path) -> None:
    spoilt = SPOILT[name]
    messages = [finding.message for finding in found(spoilt.source(), tmp_path, spoilt.rule)]
    assert messages
    assert spoilt.told in messages[0]


def test_every_rule_has_a_plugin_that_breaks_it() -> None:
    rules = {rule for checks in CHECKS.values() for rule in map(as_rule, checks)}
    by_other_tests = {"is-cited", "digest-is-the-released-one"}
    by_the_spec = {"unknown-parameters-are-refused"}  # the harness's own parser refuses; see tests/plugins/test_spec.py
    assert {spoilt.rule for spoilt in SPOILT.values()} | by_other_tests | by_the_spec == rules


def test_a_plugin_of_the_project_without_a_citation_is_found_and_a_strangers_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", METHOD)
    own = read(path, kind="method", module_name="methods.selection.mine")
    assert [f.severity for f in dict(checks_for(own))["is-cited"]()] == ["error"]
    assert dict(checks_for(path))["is-cited"]() == []


def test_a_data_set_that_is_not_what_was_released_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "digits.py", DATASET.replace(", *, contrast: float = 1.0", ""))
    sys.modules["protocols.datasets.digits_of_another"] = module = ModuleType("protocols.datasets.digits_of_another")
    exec(path.read_text(), module.__dict__)
    try:
        other = read(path, kind="dataset", module_name=module.__name__)
        messages = errors(dict(checks_for(other))["digest-is-the-released-one"]())
    finally:
        del sys.modules[module.__name__]
    assert [message.split(":")[0] for message in messages] == ["train", "test"]


def test_a_declared_exception_becomes_a_note_with_its_reason(tmp_path: Path) -> None:
    source = SPOILT["picks by the class's number"].source() + EXCUSE
    (note,) = found(source, tmp_path, "class-numbers-do-not-matter")
    assert note.severity == "note"
    assert note.message.startswith("declared exception: the first class goes first (found: of the class called 0")


def test_an_exception_for_a_rule_that_is_kept_is_itself_found(tmp_path: Path) -> None:
    (finding,) = found(METHOD + EXCUSE, tmp_path, "class-numbers-do-not-matter")
    assert (finding.rule, finding.severity) == ("needless-exception", "error")


def test_an_exception_for_no_rule_is_found_with_a_suggestion(tmp_path: Path) -> None:
    source = METHOD + EXCUSE.replace("do-not-matter", "dont-matter")
    (finding,) = found(source, tmp_path, "known-exceptions")
    assert "Did you mean 'class-numbers-do-not-matter'" in finding.message


def test_an_exception_without_a_reason_is_found(tmp_path: Path) -> None:
    (finding,) = found(METHOD + EXCUSE.replace("the first class goes first", ""), tmp_path, "known-exceptions")
    assert finding.message == "CHECK_EXCEPTIONS['class-numbers-do-not-matter'] must give a reason."


def test_a_broken_import_is_found_by_every_check_that_needs_the_module_and_hides_no_other(tmp_path: Path) -> None:
    plugin = read(
        write(tmp_path / "mine.py", METHOD.replace("import numpy", "import nompy")), kind=None, module_name=None
    )
    messages = [message for _, check in checks_for(plugin) for message in errors(check())]
    assert any("ModuleNotFoundError: No module named 'nompy'" in message for message in messages)


def test_an_error_is_told_with_its_line_in_the_plugin(tmp_path: Path) -> None:
    source = SPOILT["needs two classes"].source()
    path, line = tmp_path / "mine.py", source.lstrip("\n").splitlines().index("    ctx.logits()[:, 1]") + 1
    (finding, _) = found(source, tmp_path, "one-class-is-enough")
    assert f"({path}, line {line})" in finding.message


def test_what_a_plugin_changed_is_put_back_after_the_check(tmp_path: Path) -> None:
    lines = "os.chdir('..'); os.environ['MINE'] = '1'; torch.set_default_dtype(torch.float64); torch.manual_seed(0); "
    source = Spoilt("", METHOD, does(lines + "random.seed(0); np.random.seed(0); np.seterr(all='ignore')")).source()

    def state() -> list[str]:
        legacy = np.random.get_state()[1].tolist()  # noqa: NPY002 (the global generator is what is watched)
        generators = (random.getstate(), legacy, torch.get_rng_state().tolist())
        return [
            repr(part) for part in (Path.cwd(), dict(os.environ), torch.get_default_dtype(), np.geterr(), generators)
        ]

    before = state()
    for rule in ("leaves-the-process-as-it-was", "leaves-global-generators-alone"):
        assert errors(found(source, tmp_path, rule))
    assert state() == before
