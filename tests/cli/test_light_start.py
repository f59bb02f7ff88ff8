"""Verbs that only read start without what trains: no torch, no Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.artifacts.store import Store
from bench.lock import lock_file
from bench.lock.before_run import passed_under
from bench.records import files
from tests.worlds import ROOT

HEAVY = {"torch", "timm", "torchvision", "ray"}
TABLES = {"pandas", "numpy", "scipy", "tabulate"}
CALL = """
import sys
from bench.__main__ import main
try:
    main()
except SystemExit as end:
    print(*sys.modules, file=sys.stderr)
    sys.exit(end.code)
"""
PLAN = ("--results", "results/default-plan")

Modules = Callable[..., set[str]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Modules:
    """The modules that a process holds when a verb has ended, with findings (code 1) or without. The canaries of the
    plan's protocols have passed under this very code, as they have where records were made and nothing changed."""
    store = str(tmp_path_factory.mktemp("store"))
    for protocol in ("small-hard-v1", "small-soft-v1"):
        passed = passed_under(protocol, lock_file.read())
        Store(store).get("canaries", passed, lambda: ({}, {"passed": files.now()}))

    def modules(*arguments: str) -> set[str]:
        answer = subprocess.run(
            [sys.executable, "-c", CALL, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CONDENSEBENCH_STORE": store},
            capture_output=True,
            text=True,
        )
        assert answer.returncode in (0, 1), answer.stderr
        assert "Traceback" not in answer.stderr
        assert answer.stdout or "--dry-run" in arguments  # what would run is said on stderr
        return set(answer.stderr.splitlines()[-1].split())

    return modules


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list"], ["show", "score"], ["show", "small-soft-v1"]],
    ids=" ".join,
)
def test_lists_and_descriptions_need_no_table_of_numbers(loaded: Modules, arguments: list[str]) -> None:
    assert not loaded(*arguments) & (HEAVY | TABLES)


@pytest.mark.parametrize(
    "arguments",
    [
        ["leaderboard", *PLAN],
        ["leaderboard", *PLAN, "--format", "json"],
        ["leaderboard", *PLAN, "--by", "protocol"],
        ["leaderboard", *PLAN, "--scores", "dd-ranking"],
        ["claims"],
        ["published"],
    ],
    ids=" ".join,
)
def test_tables_of_records_need_neither_torch_nor_all_of_scipy(loaded: Modules, arguments: list[str]) -> None:
    modules = loaded(*arguments)
    assert {"pandas", "scipy.special"} <= modules
    assert not modules & (HEAVY | {"scipy.stats"})


@pytest.mark.parametrize("arguments", [["compare", "herding", "el2n", *PLAN], ["storage"]], ids=" ".join)
def test_a_comparison_and_the_storage_figures_need_no_torch(loaded: Modules, arguments: list[str]) -> None:
    assert not loaded(*arguments) & HEAVY


def test_a_check_of_unchanged_records_needs_no_torch(loaded: Modules) -> None:
    assert not loaded("check", "records", "results/default-plan") & HEAVY


def test_a_check_of_records_tries_canaries_in_a_process_of_its_own(loaded: Modules, tmp_path: Path) -> None:
    """So that torch goes with it: where records are many, both would not fit."""
    assert not loaded("check", "records", "results/default-plan", "--store", str(tmp_path)) & HEAVY
    assert len([*tmp_path.glob("canaries/*")]) == 2


def test_a_plan_is_looked_at_without_torch(loaded: Modules, tmp_path: Path) -> None:
    """Methods that use further networks too."""
    plan = "[[grid]]\ndatasets = ['digits']\nprotocols = ['small-soft-v1']\nmethods = ['score', 'edc']\n"
    (tmp_path / "plan.toml").write_text(plan + "compressors = ['svd']\nbudgets = ['10x']\n", encoding="utf-8")
    arguments = ("run", "--plan", str(tmp_path / "plan.toml"), "--results", str(tmp_path / "results"), "--dry-run")
    assert not loaded(*arguments) & HEAVY


def test_the_process_that_hands_out_stages_loads_none_of_them() -> None:
    """It waits for them. Their modules, and torch, are loaded where they run."""
    modules = "bench.driver.on_ray.executor, bench.driver.walk, bench.training.progress_files"
    code = f"import {modules}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "ray" in loaded
    assert not loaded & (HEAVY - {"ray"} | {"bench.stages.evaluate", "scipy.stats"})
