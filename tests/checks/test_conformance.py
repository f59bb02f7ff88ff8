"""Every rule of the conformance kit, held to every plugin of the project: a test for each rule and plugin."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.checks.plugins import worlds
from bench.checks.plugins.check_plugins import (
    CHECKS,
    SMALL_DATASETS,
    check_plugins,
    checks_for,
    chosen,
    errors,
)
from bench.checks.plugins.methods import MethodSubject
from bench.checks.plugins.reach import ways_to_the_test_split
from bench.checks.plugins.workshop import workshop
from bench.cli import cli
from bench.errors import PluginError, UserError
from bench.finding import Finding
from bench.plugins.registry import discover
from tests.worlds.planted import COMPRESSOR, DATASET, DRAWN, LABELLED, MADE, METHOD, SHARED
from tests.worlds.plugins import write

REGISTRY = discover()
OWN = chosen(REGISTRY, ())
EVERY = [
    pytest.param(check, id=f"{plugin.kind}-{plugin.name}-{rule}")
    for plugin in OWN
    for rule, check in checks_for(plugin)
]
GOOD = {
    "drawn": DRAWN,
    "made": MADE,
    "labelled": LABELLED,
    "chosen": METHOD,
    "sealed": COMPRESSOR,
    "common": SHARED,
    "noise": DATASET,
}


@pytest.mark.parametrize("check", EVERY)
def test_every_plugin_of_the_project_keeps_every_rule(check: Callable[[], list[Finding]]) -> None:
    assert not errors(check())


def test_all_methods_and_compressors_and_the_small_data_sets_are_checked_by_default() -> None:
    named = {(plugin.kind, plugin.name) for plugin in OWN}
    everything = {(kind, name) for kind in ("method", "compressor") for name in REGISTRY.names(kind)}
    assert named == everything | {("dataset", name) for name in SMALL_DATASETS}


@pytest.mark.parametrize("name", GOOD)
def test_a_strangers_good_plugin_keeps_every_rule(name: str, tmp_path: Path) -> None:
    found = [finding for _, check in checks_for(write(tmp_path / f"{name}.py", GOOD[name])) for finding in check()]
    assert not errors(found)


def test_every_check_is_named_once_and_says_what_it_asks() -> None:
    for checks in CHECKS.values():
        assert len({check.__name__ for check in checks}) == len(checks)
        assert all((check.__doc__ or "").strip() for check in checks)


def test_the_verb_prints_what_it_found_and_what_it_checked(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.py", METHOD.replace("own[:ipc]", "own[: ipc - 1]"))
    answer = CliRunner().invoke(cli, ["check", "plugins", "mine", "--plugin", str(mine)])
    assert answer.exit_code == 1
    printed = answer.stdout.splitlines()
    assert printed[0].startswith("error: [keeps-the-contract] method 'mine': the call ended with PluginError: ")
    assert printed[-1].startswith(f"{len(CHECKS['method']) + 1} checks of 1 plugin: ")
    assert CliRunner().invoke(cli, ["check", "plugins", "random"]).exit_code == 0


def test_a_program_reads_the_findings_as_json() -> None:
    answer = CliRunner().invoke(cli, ["check", "plugins", "lpld", "--json"])
    assert answer.exit_code == 0
    assert {entry["where"] for entry in json.loads(answer.stdout)} == {"method 'lpld'"}
    assert answer.stderr == f"{len(CHECKS['method']) + len(CHECKS['compressor']) + 2} checks of 2 plugins.\n"


def test_a_name_that_nothing_answers_to_is_an_error_with_suggestions() -> None:
    with pytest.raises(
        UserError, match=r"No method, compressor or data set is named 'herdin'\. Did you mean 'herding'\?"
    ):
        check_plugins(["herdin"])


def test_a_network_is_not_checked_and_the_error_says_what_is() -> None:
    with pytest.raises(UserError, match="a network is not checked; methods, compressors and data sets are"):
        checks_for(REGISTRY.get("network", "convnet"))


def test_a_file_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UserError, match="there is no such file"):
        checks_for("nowhere.py")


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        ("import shaken", []),
        ("import random; random.random()", ["random"]),
        ("import shaken; import random; random.seed(1)", ["random"]),
    ],
)
def test_a_package_that_moves_a_generator_when_it_is_loaded_is_no_fault_of_the_plugin(
    line: str, moved: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "site" / "shaken.py", "import random\n\nrandom.random()\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "shaken", raising=False)
    file = write(tmp_path / "mine.py", METHOD.replace("import numpy", f"{line}\nimport numpy", 1))
    subject = MethodSubject(discover([file]).get("method", "mine"), workshop())
    state = random.getstate()
    subject.watch_import()
    random.setstate(state)
    assert subject.import_moved == moved


def test_a_shrunk_parameter_is_told() -> None:
    notes = [finding.message for finding in check_plugins(["el2n"]) if finding.rule == "known-exceptions"]
    assert notes == ["checked with epochs=3, less than its defaults."]


def test_strangers_use_the_checks_in_a_test_file_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "mine.py", METHOD.replace("own[:ipc]", "own[: ipc - 1]"))
    source = """
        import pytest
        from bench.checks.plugins.check_plugins import checks_for, errors

        @pytest.mark.parametrize(("rule", "check"), checks_for("mine.py"))
        def test_my_method_keeps_the_rules(rule, check):
            assert not errors(check())
    """
    write(tmp_path / "test_mine.py", source)
    monkeypatch.chdir(tmp_path)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "exact-images or described"]
    assert pytest.main([*options, "test_mine.py"]) == pytest.ExitCode.TESTS_FAILED
    printed = capsys.readouterr().out
    assert "1 failed, 1 passed" in printed
    assert "test_my_method_keeps_the_rules[exact-images-per-class" in printed


@pytest.mark.parametrize("world", worlds.WORLDS)
def test_what_the_harness_hands_a_plugin_leads_to_no_test_split(world: str) -> None:
    shop = workshop()
    data = shop.data(world)
    with shop.context(data, "me", 0) as ctx:
        ctx.features()
        assert ways_to_the_test_split(ctx=ctx, train=data.train) == []
        with pytest.raises(PluginError, match="asked for the test split"):
            ctx._data.dataset.test()


def test_the_walk_finds_a_test_split_behind_attributes_containers_closures_and_defaults() -> None:
    data = workshop().data("plain")
    dataset = data.dataset
    assert ways_to_the_test_split(data=data) == ["data.dataset.test.<opened>"]
    assert ways_to_the_test_split(box=[{"a": (dataset,)}]) == ["box[...]['a'][...].test.<opened>"]
    assert ways_to_the_test_split(call=lambda: dataset) == ["call.<dataset>.test.<opened>"]
    assert ways_to_the_test_split(call=lambda hidden=dataset: hidden) == ["call.<default>.test.<opened>"]
    assert ways_to_the_test_split(bound=data.test_images) == ["bound[...].dataset.test.<opened>"]
