"""The plan behind the claims: its recipes change what they say and nothing else, and claims name recipes that exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bench.plugins.registry import Registry, discover
from bench.protocol import definition
from bench.protocol.toml_file import read_toml
from bench.reports.claims.claim_file import read_claims
from bench.trials.plan import read_plan
from tests.worlds import ROOT

RESULTS = ROOT / "results"
CHANGES = {
    "small-soft-zeta1": ("small-soft-v1", {"schedule.zeta"}),
    "small-soft-batch100": ("small-soft-v1", {"batch"}),
    "small-soft-batch100-steps": ("small-soft-v1", {"batch", "epochs"}),
    "small-hard-soft-labels": ("small-hard-v1", {"labels", "views", "loss.name", "loss.temperature"}),
    "small-hard-extract": ("small-hard-v1", {"augment.patches", "augment.patch_grid"}),
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover(sorted((RESULTS / "claims").glob("*.toml")))


def flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def recipe(registry: Registry, name: str, classes: int, ipc: int) -> dict[str, Any]:
    found = definition.load(registry, name)
    values = found.recipe(dataset="mnist5k", ipc=ipc, student=found.student("mnist5k"), classes=classes)
    return {**dict(flat(values.model_dump())), "teacher": found.teachers("mnist5k")}


def test_every_recipe_is_listed_here() -> None:
    assert {path.stem for path in (RESULTS / "claims").glob("*.toml")} == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_a_recipe_changes_what_it_says_and_nothing_else(name: str, registry: Registry) -> None:
    base, expected = CHANGES[name]
    ours, theirs = (recipe(registry, each, classes=10, ipc=10) for each in (name, base))
    assert {key for key in ours if ours[key] != theirs[key]} == expected


def test_the_long_recipe_has_as_many_steps(registry: Registry) -> None:
    short, long = (
        recipe(registry, name, classes=10, ipc=10) for name in ("small-soft-v1", "small-soft-batch100-steps")
    )
    assert 100 // short["batch"] * short["epochs"] == 100 // long["batch"] * long["epochs"]


def test_the_plan_is_understood(registry: Registry) -> None:
    trials = read_plan(RESULTS / "claims-runs.toml").trials(registry)
    assert {trial.protocol for trial in trials} >= set(CHANGES)


def test_claims_name_protocols_that_exist(registry: Registry) -> None:
    known = {path.stem for path in (RESULTS / "protocol-choice").glob("*.toml")}
    for claim in read_claims(RESULTS / "claims.toml").claim:
        for contrast in claim.contrast:
            for selector in (contrast.where, contrast.side(True), contrast.side(False)):
                for name in selector.get("protocol", []):
                    assert name in known or definition.load(registry, name)


def test_what_the_plan_varies_is_asked_by_a_claim(registry: Registry) -> None:
    """A row that no claim reads is wasted time; what claims name in full is in the plan of claims or of methods."""
    named = {
        pattern
        for claim in read_claims(RESULTS / "claims.toml").claim
        for contrast in claim.contrast
        for selector in (contrast.where, contrast.side(True), contrast.side(False))
        for pattern in selector.get("method", [])
    }
    trials = read_plan(RESULTS / "claims-runs.toml").trials(registry)
    assert {trial.method for trial in trials} <= named


def test_the_command_names_every_recipe() -> None:
    text = (RESULTS / "claims" / "README.md").read_text(encoding="utf-8")
    assert all(f"--plugin results/claims/{name}.toml" in text for name in CHANGES)
    assert read_toml(RESULTS / "claims-runs.toml")["title"]
