"""What all tests share: one BLAS thread, one Ray for each process of the run, and which process gets which files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Set before numpy or torch starts: results to the bit, and no fight for two cores.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

# Files of runs on Ray. They go to one process, which starts Ray once: its workers, which import torch, serve them all.
ON_RAY = (
    "tests/checks/test_unfair_submissions.py",
    "tests/checks/test_whole_way.py",
    "tests/driver/test_run.py",
    "tests/driver/test_bad_plugins_run.py",
    "tests/driver/test_running_stages.py",
    "tests/driver/test_lean_node.py",
    "tests/plugins/test_walk.py",
    "tests/protocol/test_published_runs.py",
    "tests/protocol/test_default_recipes.py",
    "tests/datasets/test_data_verb.py",
    "tests/datasets/test_miniatures.py",
)
# Files of few tests that take long. They begin with those above, so that no process is left with one at the end.
LONG = (
    "tests/driver/test_on_ray.py",
    "tests/checks/test_conformance.py",
    "tests/methods/compressors/test_klt.py",
    "tests/methods/compressors/test_klt_trellis.py",
    "tests/methods/compressors/test_compressors.py",
    "tests/cli/test_wheel.py",
    "tests/lock/test_check_protocols.py",
    "tests/cli/test_pages.py",
    "tests/studies/test_costs.py",
    "tests/plugins/test_former_code.py",
)
# Files and folders most of whose tests train networks, be it for a moment, or run whole programs that do; and those of
# compressors, which are thousands. `make quick` leaves them out. A single test of another file has the mark itself.
TRAINS = (
    "tests/checks/test_baseline.py",
    "tests/checks/test_check_records.py",
    "tests/checks/test_bad_plugins_checked.py",
    "tests/checks/test_conformance.py",
    "tests/checks/test_conformance_planted.py",
    "tests/checks/test_unfair_submissions.py",
    "tests/checks/test_whole_way.py",
    "tests/cli/test_wheel.py",
    "tests/driver/test_on_ray.py",
    "tests/driver/test_bad_plugins_run.py",
    "tests/driver/test_run.py",
    "tests/driver/test_way_of_a_trial.py",
    "tests/ground/test_fuzz.py",
    "tests/ground/test_same_bits.py",
    "tests/labels/test_adapter.py",
    "tests/labels/test_corrupt_blobs.py",
    "tests/labels/test_making.py",
    "tests/labels/test_reader.py",
    "tests/lock/test_canary.py",
    "tests/lock/test_lock.py",
    "tests/methods/compressors/",
    "tests/methods/selection/test_every_selection.py",
    "tests/methods/selection/test_scores.py",
    "tests/methods/synthesis/",
    "tests/plugins/test_walk.py",
    "tests/protocol/test_published_rates.py",
    "tests/protocol/test_published_runs.py",
    "tests/stages/",
    "tests/studies/",
    "tests/submission/",
    "tests/training/test_accumulation.py",
    "tests/training/test_arithmetic.py",
    "tests/training/test_ema.py",
    "tests/training/test_loop.py",
    "tests/training/test_memory_order.py",
    "tests/training/test_speed_ups.py",
    "tests/training/test_together.py",
    "tests/website/test_gallery.py",
    "tests/website/test_pages_in_browser.py",  # trains nothing, but drives a browser
)
FIRST = {name: rank for rank, name in enumerate((*ON_RAY, *LONG))}


def file_of(test: str) -> str:
    """The file of a test's id, relative to the project."""
    return test.partition("::")[0]


def is_quick(config: pytest.Config) -> bool:
    """Whether this is `make quick`."""
    return "not trains" in config.option.markexpr


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files whose tests are left out are not imported either."""
    name = collection_path.relative_to(config.rootpath).as_posix()
    return True if is_quick(config) and name.startswith(TRAINS) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the rest in the order in which pytest finds them. Those that train are marked."""
    items.sort(key=lambda item: FIRST.get(file_of(item.nodeid), len(FIRST)))
    for item in items:
        if item.nodeid.startswith(TRAINS):
            item.add_marker("trains")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hold `make quick` to its word: there, a test that trains fails."""
    if is_quick(session.config):
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        register_optimizer_step_pre_hook(refuse)


def refuse(*_: object) -> None:
    """Called before a step of any optimizer."""
    pytest.fail("this test trains: give it the mark `trains`, or name its file in TRAINS of tests/conftest.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A scheduler of `--dist loadfile` in the order above, that takes all files on Ray for one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = file_of(nodeid)
            return "Ray" if name in ON_RAY else name

    config.option.loadscopereorder = False
    return Files(config, log)


@pytest.fixture(scope="session")
def ray_for_all() -> Iterator[None]:
    """One Ray of two cores for all tests of this process that want it; a run uses the one that it finds."""
    import ray

    from bench.driver.on_ray.starting import start

    start(2, None)
    yield
    ray.shutdown()
