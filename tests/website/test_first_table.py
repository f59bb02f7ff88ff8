"""Which table a visitor sees first: of the folder that the publisher named first."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.plugins.registry import discover
from bench.website.material import gather
from bench.website.tables import board_tables, first_table
from tests.worlds import website as world
from tests.worlds.records import cell


@pytest.mark.parametrize("first", ["small", "large"])
@pytest.mark.trains
def test_it_is_the_table_with_most_rows_of_the_first_folder(tmp_path: Path, first: str) -> None:
    methods = {"small": ("random", "herding"), "large": ("random", "herding", "el2n", "rded")}
    for name, those in methods.items():
        names = {"protocol": "small-hard-v1", "compressor": None, "dataset": {"small": "digits"}.get(name, "mnist5k")}
        world.write(tmp_path / name, [each for method in those for each in cell(0.5, 2, method=method, **names)])
    folders = sorted((tmp_path / name for name in methods), key=lambda folder: folder.name != first)
    material = gather(folders, registry=discover(), store=tmp_path / "store")
    titles = {table.key: table.title for table in board_tables(material.rows)}
    dataset = {"small": "digits", "large": "mnist5k"}[first]
    assert titles[first_table(material) or ""] == f"{dataset}, small-hard-v1, hard labels"
