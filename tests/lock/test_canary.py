"""Canaries: a silent change of the engine moves one, another machine or thread count does not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.labels import making
from bench.lock import canary, differences
from bench.lock.lock_file import PATH, Canary, Lock, Released
from bench.protocol import miniature
from bench.protocol.conditions import NoValue
from bench.protocol.recipe import Recipe
from bench.teachers import ensemble
from bench.training import feed, loop, losses
from bench.training.rates import factor
from bench.views import parameters, render
from tests.worlds.locked import MINE, folder

# Between them these switch on what the protocols use.
RECIPES: dict[str, tuple[dict[str, Any], int]] = {
    "hard, SGD, warm-up": (
        {
            "labels": "hard",
            "optimizer": {
                "name": "sgd",
                "lr": 0.05,
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 5e-4,
                "decay": "all",
            },
            "schedule": {"name": "cosine", "warmup": 2, "warmup_start": 0.1, "per": "step"},
            "augment": {"pad": 0.125, "mix": "cutmix", "cutout": 0.5},
        },
        1,
    ),
    "stored, KL, AdamW": (
        {
            "labels": "stored",
            "views": 3,
            "optimizer": {"lr": 1e-3, "weight_decay": 0.01},
            "loss": {"name": "kl", "temperature": 20.0},
            "augment": {"crop_scale": (0.08, 1.0), "mix": "cutmix", "mix_unit": "batch"},
            "normalisation": "imagenet",
        },
        1,
    ),
    "stored batches, T^2, accumulation, teacher in train mode": (
        {
            "labels": "stored",
            "views": 3,
            "draw": "batch",
            "teacher_mode": "train",
            "accumulation": 2,
            "accumulation_weight": "nominal",
            "loss": {"name": "kl", "temperature": 4.0, "times_t_squared": True},
            "augment": {"mix": "mixup", "mix_alpha": 0.8, "mix_unit": "batch"},
        },
        1,
    ),
    "online, MSE, ensemble, EMA, SSRS": (
        {
            "labels": "online",
            "ensemble": "norm-mean",
            "optimizer": {"lr": 1e-3, "weight_decay": 0.01},
            "schedule": {"name": "ssrs", "zeta": 2.0},
            "loss": {"name": "mse", "hard_weight": 0.025},
            "augment": {"randaugment_ops": 2, "patches": "shuffle", "patch_grid": 2},
            "ema": 0.99,
        },
        2,
    ),
    "stored, soft CE, multistep with restarts, tiles": (
        {
            "labels": "stored",
            "views": 3,
            "schedule": {"name": "multistep", "milestones": (4, 7), "restart": True},
            "loss": {"name": "soft-ce", "temperature": 1.5},
            "augment": {"patches": "extract", "patch_grid": 3},
        },
        1,
    ),
}
HARD, STORED, POOL, ONLINE, TILES = RECIPES


def recipe(name: str, **parts: dict[str, Any]) -> Recipe:
    """One of the recipes, with values of some parts replaced."""
    values = {"epochs": 9, "batch": 8, **RECIPES[name][0]}
    return Recipe.model_validate({**values, **{part: {**values.get(part, {}), **new} for part, new in parts.items()}})


@pytest.fixture(scope="module")
def lock() -> Lock:
    """A lock with a canary of each recipe, each as a protocol of its own."""
    entries = {}
    for name, (_, teachers) in RECIPES.items():
        out = canary.run(recipe(name), teachers)
        held = Canary(
            cell={},
            resolved="",
            recipe=miniature.written(recipe(name)),
            teachers=teachers,
            losses=out.losses,
            test_loss=out.test_loss,
            weights=out.weights,
        )
        entries[name] = Released(digest="", released="2026-01-01", canaries=(held,))
    return Lock(protocols=entries)


def moved(lock: Lock, name: str) -> bool:
    return bool(differences.moved_canaries(name, lock))


# --- nothing changed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_an_unchanged_engine_moves_none(lock: Lock, name: str) -> None:
    assert differences.moved_canaries(name, lock) == []


@pytest.mark.parametrize("name", [STORED, TILES])
def test_threads_and_other_kernels_move_none(lock: Lock, name: str) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
            assert differences.moved_canaries(name, lock) == []
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (the global generator is what is looked at)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    canary.run(recipe(ONLINE), 2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.random.get_state()[1].tolist() == numpy_before  # noqa: NPY002


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (STORED, {"optimizer": {"weight_decay": 0.02}}),
        (STORED, {"augment": {"crop_scale": (0.09, 1.0)}}),
        (STORED, {"loss": {"temperature": 20.1}}),
        (STORED, {"optimizer": {"betas": (0.9, 0.99)}}),
        (HARD, {"optimizer": {"weight_decay": 1e-3}}),
        (HARD, {"optimizer": {"nesterov": False}}),
        (HARD, {"optimizer": {"decay": "weights"}}),
        (HARD, {"augment": {"cutout": 0.4}}),
        (ONLINE, {"loss": {"hard_weight": 0.03}}),
        (ONLINE, {"schedule": {"name": "cosine"}}),
        (POOL, {"loss": {"times_t_squared": False}}),
    ],
)
def test_even_a_small_change_of_a_value_moves_its_canary(
    lock: Lock, name: str, changes: dict[str, dict[str, Any]]
) -> None:
    (held,) = lock.protocols[name].canaries
    other = held.model_copy(update={"recipe": miniature.written(recipe(name, **changes))})
    entry = lock.protocols[name].model_copy(update={"canaries": (other,)})
    assert moved(lock.model_copy(update={"protocols": {name: entry}}), name)


# --- code ------------------------------------------------------------------------------------------------------------


def wrapped(module: Any, name: str, change: Callable[[Any, tuple], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """A change of the function `name` as `module` calls it: `change(result, arguments)` instead of its result."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        original = getattr(module, name)
        patch.setattr(module, name, lambda *a, **k: change(original(*a, **k), a))

    return apply


def replaced(module: Any, name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(module, name, value)


def smoothed(logits: torch.Tensor, target: Any, *_: Any) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits, target.classes, label_smoothing=0.01)


def no_average(_: Any, __: Any, weight: float) -> None:
    assert weight == pytest.approx(0.01)


CHANGES: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "loss: hard labels smoothed": (HARD, replaced(loop, "batch_loss", smoothed)),
    "loss: KL one percent larger": (STORED, wrapped(loop, "batch_loss", lambda out, _: out * 1.01)),
    "loss: T^2 forgotten": (POOL, replaced(losses, "scale", lambda _: 1.0)),
    "loss: labels softened otherwise": (TILES, wrapped(feed, "soft_target", lambda out, _: (out[0].sqrt(), out[1]))),
    "schedule: one epoch late": (ONLINE, replaced(loop, "factor", lambda s, e, n: factor(s, max(0, e - 1), n))),
    "schedule: no jump": (
        ONLINE,
        replaced(loop, "factor", lambda s, e, n: factor(s.model_copy(update={"name": "cosine"}), e, n)),
    ),
    "schedule: no warm-up": (
        HARD,
        replaced(loop, "factor", lambda s, e, n: factor(s.model_copy(update={"warmup": 0}), e, n)),
    ),
    "schedule: milestones counted from one": (
        TILES,
        replaced(loop, "factor", lambda s, e, n: factor(s, e + 1, n)),
    ),
    "EMA: no averaging": (ONLINE, replaced(torch, "_foreach_lerp_", no_average)),
    "accumulation: chunks of another size": (
        POOL,
        replaced(loop, "batch_bounds", lambda n, batch: parameters.batch_bounds(n, 2 * batch)),
    ),
    "accumulation: nominal weight forgotten": (
        POOL,
        lambda patch: patch.setattr(loop, "batch_bounds", lambda n, _: parameters.batch_bounds(n, n)),
    ),
    "batches: the last one dropped": (STORED, wrapped(feed, "batch_bounds", lambda out, _: out[:-1])),
    "order: never shuffled": (TILES, replaced(feed, "permutation", lambda _, n: np.arange(n))),
    "views: crops of other places": (STORED, wrapped(parameters, "make_seed", lambda out, _: out + 1)),
    "views: boxes one pixel smaller": (STORED, wrapped(parameters, "_crops", lambda out, _: np.maximum(out - 1, 1))),
    "views: labels see other views than students": (STORED, wrapped(ensemble, "render", lambda out, _: out.flip(3))),
    "images: normalised otherwise": (HARD, wrapped(feed, "normalise", lambda out, _: out * 1.01)),
    "images: resampled otherwise": (STORED, wrapped(render, "resample", lambda out, _: out.roll(1, 3))),
    "labels: another set of views": (STORED, wrapped(making, "seed", lambda out, _: out + 1)),
    "labels: teachers summed, not scaled to one norm": (
        ONLINE,
        replaced(ensemble, "scales", lambda norms: torch.ones_like(norms)),
    ),
    "labels: one teacher instead of two": (ONLINE, replaced(ensemble, "average", lambda logits: logits[0])),
    "labels: running statistics in train mode": (POOL, replaced(ensemble, "_use_batch_statistics", lambda _: None)),
    "labels: rounded to whole numbers over two": (
        TILES,
        wrapped(canary, "teacher_logits", lambda out, _: (out / 2).round() * 2),
    ),
    "seeds: the run's coordinates forgotten": (TILES, replaced(feed, "seed", lambda *_: 1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_engine_moves_a_canary(lock: Lock, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, apply = CHANGES[change]
    apply(monkeypatch)
    assert moved(lock, name)


def test_decay_of_biases_moves_a_canary(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    original = loop.make_optimizer
    everything = {"decay": "all"}
    monkeypatch.setattr(loop, "make_optimizer", lambda p, spec: original(p, spec.model_copy(update=everything)))
    assert moved(lock, STORED)


def test_an_engine_that_fails_is_a_moved_canary(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("no batch")

    monkeypatch.setattr(loop, "batch_loss", broken)
    (finding,) = differences.moved_canaries(HARD, lock)
    assert "ZeroDivisionError: no batch" in finding.message


def test_another_initialisation_in_a_library_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "torchvision:resnet18"
    lock = Lock(networks={name: canary.network(name)})
    assert differences.moved_networks(lock) == []
    original = torch.nn.init.kaiming_normal_

    def wider(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        with torch.no_grad():
            return original(tensor, *args, **options).mul_(1.05)

    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", wider)
    (finding,) = differences.moved_networks(lock)
    assert finding.rule == "lock-network"


# --- the short form --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(PATH.parent.glob("*-v*.toml")), ids=lambda file: file.stem)
def test_the_short_form_of_every_structure_keeps_its_options_and_phases(file: Path) -> None:
    for cell in miniature.structures(miniature.all_cells(differences.load(file))):
        full, short = cell.recipe, miniature.short(cell.recipe)
        assert Recipe.model_validate(json.loads(json.dumps(miniature.written(short)))) == short
        kept = {"epochs": 0, "views": 0, "batch": 0, "schedule": None, "class_steps": 0, "kept_channels": ()}
        assert (short.class_steps > 1, bool(short.kept_channels)) == (full.class_steps > 1, bool(full.kept_channels))
        assert short.model_copy(update=kept) == full.model_copy(update=kept)
        assert bool(short.schedule.warmup) == bool(full.schedule.warmup)
        assert bool(short.schedule.milestones) == bool(full.schedule.milestones)
        ssrs = full.schedule.name == "ssrs"
        assert short.epochs <= (miniature.SSRS_EPOCHS if ssrs else miniature.EPOCHS)
        if ssrs and not full.schedule.warmup:
            assert short.epochs * 5 % 6 == 0  # the epoch of the jump itself: whether it belongs to the cosine


@pytest.mark.parametrize("warmup", [0, 5])
def test_a_short_ssrs_still_jumps_down(warmup: int) -> None:
    full = recipe(ONLINE, schedule={"warmup": warmup}).model_copy(update={"epochs": 300})
    short = miniature.short(full)
    rates = [factor(short.schedule, e, short.epochs) for e in range(short.epochs)]
    assert min(after / before for before, after in itertools.pairwise(rates) if before) < 0.4


def test_cells_that_differ_in_values_only_share_a_canary(tmp_path: Path) -> None:
    path = folder(tmp_path, mine_v1=MINE)
    cells = list(miniature.all_cells(differences.load(path.parent / "mine-v1.toml")))
    assert len({cell.resolved for cell in cells}) == 2 * 2 * 2  # data sets, ranges of ipc, students
    found = miniature.structures(cells)
    assert [(cell.recipe.labels, cell.teachers) for cell in found] == [("hard", 1), ("stored", 2)]


def test_a_cell_that_the_protocol_has_not_is_told(tmp_path: Path) -> None:
    text = MINE.replace('"1-10" = 20, default = 10', '"1-10" = 20')
    mine = differences.load(folder(tmp_path, mine_v1=text).parent / "mine-v1.toml")
    at = {"dataset": "digits", "ipc": 11, "classes": 10, "images": 110, "student": "convnet"}
    with pytest.raises(NoValue):
        miniature.cell(mine, at)
    assert {cell.at["ipc"] for cell in miniature.all_cells(mine)} == {1}
