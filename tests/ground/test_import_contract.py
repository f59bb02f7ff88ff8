"""The import contract of pyproject.toml: what it forbids is found, and no file is in a circle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import grimp
import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tests.worlds import ROOT

PACKAGES = ("bench", "methods", "protocols", "speed")

# contract -> files to plant, and what lint-imports must then name
PLANTED: dict[str, tuple[str, dict[str, str], str]] = {
    "a room imports a higher one": (
        "floors",
        {"bench/stats/planted.py": "import bench.training.loop\n"},
        "bench.stats.planted -> bench.training.loop",
    ),
    "a room imports a higher one inside a function": (
        "floors",
        {"bench/stats/planted.py": "def mean():\n    from bench.cli import cli\n    return cli\n"},
        "bench.stats.planted -> bench.cli",
    ),
    "a folder has no floor": ("floors", {"bench/attic/__init__.py": ""}, "bench.attic"),
    "a file of the ground has no floor": ("floors", {"bench/planted.py": ""}, "bench.planted"),
    "two files import each other inside functions": (
        "circles",
        {
            "bench/stats/planted.py": "def mean():\n    from bench.stats.other import total\n    return total\n",
            "bench/stats/other.py": "def total():\n    from bench.stats.planted import mean\n    return mean\n",
        },
        "No cycles are allowed in bench.stats",
    ),
    "two methods' shared pieces import each other": (
        "circles",
        {"methods/_a.py": "import methods._b\n", "methods/_b.py": "import methods._a\n"},
        "No cycles are allowed in methods",
    ),
    "a method reads records": (
        "plugins",
        {"methods/selection/planted.py": "from bench.records.files import load\n"},
        "methods.selection.planted -> bench.records.files",
    ),
    "a compressor uses the face": (
        "plugins",
        {"methods/compressors/planted.py": "from bench import run\n"},
        "methods.compressors.planted -> bench ",
    ),
    "a data set uses the registry": (
        "plugins",
        {"protocols/datasets/planted.py": "import bench.plugins.registry\n"},
        "protocols.datasets.planted -> bench.plugins.registry",
    ),
    "the harness names a method": (
        "blind",
        {"bench/stages/planted.py": "def best():\n    import methods.selection.herding\n"},
        "bench.stages.planted -> methods.selection.herding",
    ),
    "a data set names a method": (
        "blind",
        {"protocols/datasets/planted.py": "import methods._mosaic\n"},
        "protocols.datasets.planted -> methods._mosaic",
    ),
    "a method names a data set": (
        "fixed",
        {"methods/synthesis/planted.py": "import protocols.datasets.glyphs\n"},
        "methods.synthesis.planted -> protocols.datasets.glyphs",
    ),
    "a competitor imports another": (
        "competitors",
        {"methods/selection/planted.py": "from methods.synthesis.dm import synthesize\n"},
        "methods.selection.planted -> methods.synthesis.dm",
    ),
    "a competitor reaches another through a shared piece": (
        "competitors",
        {
            "methods/compressors/planted.py": "import methods._planted\n",
            "methods/_planted.py": "import methods.compressors.mean\n",
        },
        "methods.compressors.planted is not allowed to import methods.compressors.mean",
    ),
    "a second file imports Ray": (
        "ray",
        {"bench/stages/planted.py": "def put():\n    import ray\n    return ray\n"},
        "bench.stages.planted -> ray",
    ),
    "a report loads torch": (
        "light",
        {"bench/reports/planted.py": "def table():\n    import torch\n    return torch\n"},
        "bench.reports.planted -> torch",
    ),
    "a report loads torch through what it imports": (
        "light",
        {"bench/reports/planted.py": "import bench.trials.planted\n", "bench/trials/planted.py": "import torch\n"},
        "bench.trials.planted -> torch",
    ),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the contract speaks of."""
    folder = tmp_path_factory.mktemp("house")
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            copy = folder / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path, contract: str | None = None) -> tuple[int, str]:
    """Exit code of `lint-imports` for a contract (None: all of them), and what it prints in one line."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    if contract:
        command += ["--contract", contract]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, " ".join(done.stdout.split()) + done.stderr


@pytest.mark.parametrize("case", PLANTED)
def test_what_is_forbidden_is_found(case: str, house: Path) -> None:
    contract, files, named = PLANTED[case]
    planted = [house / name for name in files]
    try:
        for path, text in zip(planted, files.values(), strict=True):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        code, output = lint(house, contract)
    finally:
        for path in planted:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    assert code != 0
    assert named in output


def test_an_import_that_only_a_type_checker_reads_is_allowed(house: Path) -> None:
    path = house / "bench/stats/planted.py"
    path.write_text("from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import bench.cli\n")
    try:
        code, output = lint(house, "floors")
    finally:
        path.unlink()
    assert code == 0, output


def test_the_contracts_are_kept(house: Path) -> None:
    code, output = lint(house)
    assert code == 0, output


def test_no_file_is_in_a_circle_not_even_with_the_face_of_its_folder() -> None:
    """The contract `circles` looks at the files of a folder; this looks at all of them, `__init__` too."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True)
    modules = sorted(graph.modules)
    places = {module: place for place, module in enumerate(modules)}
    edges = [(places[a], places[b]) for a in modules for b in graph.find_modules_directly_imported_by(a)]
    rows, columns = np.array(edges).T
    matrix = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(modules), len(modules)))
    count, circle = connected_components(matrix, directed=True, connection="strong")
    circles = [[modules[place] for place in np.flatnonzero(circle == number)] for number in range(count)]
    assert [names for names in circles if len(names) > 1] == []


def test_a_basename_says_one_thing() -> None:
    """No two files of bench/ have one name, but for faces of folders, verbs, and the face kept for tests of 0.1."""
    rooms = [
        file for file in (ROOT / "bench").rglob("*.py") if file.parent.name != "cli" and file.name != "__init__.py"
    ]
    names = Counter(file.name for file in rooms if file != ROOT / "bench" / "registry.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_folder_holds_more_than_its_readers_can_survey() -> None:
    folders = Counter(file.parent for file in (ROOT / "bench").rglob("*.py"))
    crowded = {folder.name: count for folder, count in folders.items() if count > 18}
    assert crowded.keys() <= {"cli"}, "one file a verb"
