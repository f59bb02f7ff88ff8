"""A folder like protocols/ with files of its own, to release and then to tamper with."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bench.lock import lock_file
from bench.lock.release import release
from bench.plugins.registry import Registry, discover

FOLDER = lock_file.PATH.parent
MINE = """\
# Every value that differs from the default, and two structures.
title = "A test's own"
source = "This test."
labels = { by = "dataset", digits = "hard", default = "stored" }
teacher = { by = "dataset", digits = "small-teacher-v1", default = ["small-teacher-v1", "small-dynamics-v1"] }
student = "convnet:width=4"

[recipe]
views = { by = "dataset", digits = 0, default = 5 }
epochs = { by = "ipc", "1-10" = 20, default = 10 }
batch = 10
draw = "epoch"
ensemble = "norm-mean"
teacher_mode = "eval"
accumulation = 1
accumulation_weight = "images"
normalisation = "dataset"
ema = 0.9
siamese = []
precision = "fp32"
memory_format = "device"
deterministic = false
scale_l1 = 0.0  # no slimming
class_steps = 0  # no continual learning
kept_channels = []  # no slimming
class_balance = "equal"

[recipe.optimizer]
name = "adamw"
lr = { by = "student", convnet = 0.01, default = 0.001 }
weight_decay = 0.05
betas = [0.9, 0.999]
momentum = 0.0
nesterov = false
decay = "weights"

[recipe.schedule]
name = "cosine"
zeta = 2.0
per = "epoch"
warmup = 0
warmup_start = 0.0
milestones = []
loss_fall = 0.02
loss_fall_share = 0.02
gamma = 0.1
restart = false

[recipe.loss]
name = { by = "dataset", digits = "ce", default = "kl" }
temperature = { by = "dataset", digits = 1.0, default = 4.0 }
times_t_squared = false
hard_weight = 0.0
mix_labels = true

[recipe.augment]
randaugment_ops = 0
randaugment_magnitude = 9
patches = "none"
patch_grid = 1
pad = 0.0
crop_scale = [0.5, 1.0]
crop_ratio = [0.75, 1.3333333333333333]
flip = 0.5
mix = "cutmix"
mix_alpha = 1.0
mix_probability = 1.0
mix_unit = "image"
cutout = 0.0
cutout_probability = 1.0
"""


def folder(root: Path, **files: str) -> Path:
    """The lock's path in a folder with these files (`mine_v1` is mine-v1.toml) and the project's teacher recipes."""
    place = root / "protocols"
    (place / "teachers").mkdir(parents=True)
    for name, text in files.items():
        (place / f"{name.replace('_', '-')}.toml").write_text(text)
    for recipe in (FOLDER / "teachers").glob("*.toml"):
        shutil.copy(recipe, place / "teachers")
    return place / "lock.json"


def released(root: Path) -> Path:
    """The lock of a folder in which mine-v1 is released."""
    path = folder(root, mine_v1=MINE)
    release(["mine-v1"], path, registry(path))
    return path


def registry(path: Path, *others: Path) -> Registry:
    """What the project offers, with the protocols beside the lock in place of its own, and `others` as --plugin."""
    found = Registry(
        plugin for kind in ("method", "compressor", "dataset", "network") for plugin in _project().all(kind)
    )
    for file in (*sorted(path.parent.glob("*-v*.toml")), *others):
        found.add_protocol(file)
    return found


@cache
def _project() -> Registry:
    return discover()


def edit(file: Path, old: str, new: str) -> None:
    """Replace text that is there once."""
    text = file.read_text()
    assert text.count(old) == 1, (old, text.count(old))
    file.write_text(text.replace(old, new))


def toml(value: Any, order: Sequence[int] = ()) -> str:
    """An inline TOML value. `order`: numbers that rotate the keys of one table after the other."""
    if isinstance(value, dict):
        keys = list(value)
        turn = order[0] % max(1, len(keys)) if order else 0
        items = [f'"{key}" = {toml(value[key], order[1:])}' for key in keys[turn:] + keys[:turn]]
        return "{ " + ", ".join(items) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else '"' + value.replace('"', '\\"').replace("\n", "\\n") + '"'
