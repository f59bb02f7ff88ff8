"""What data sets take, by arithmetic: the page is current, and the laws are those that the engine keeps."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bench.errors import UserError
from bench.plugins.registry import discover
from bench.reports.printers import printed
from bench.studies.stored.projection import CELLS, IPCS, MACHINES, REPLICATES, duration, projection, small, stages
from bench.studies.stored.real_size import SETS, expected, of_set, of_split
from protocols.datasets._arrays import read_digests
from protocols.datasets._published import SETS as PUBLISHED
from tests.worlds import ROOT

PAGE = (ROOT / "docs" / "real-size.md").read_text(encoding="utf-8")
IMAGENET = SETS["imagenet-1k"]


def shown(command: str) -> str:
    found = re.search(rf"<!-- tables: {re.escape(command)} -->\n(.*?)<!-- /tables -->", PAGE, re.DOTALL)
    assert found is not None
    return found[1].strip()


def test_the_tables_of_the_page_are_those_that_the_commands_print() -> None:
    registry = discover()
    for command, page in (
        ("condensebench store expect", expected(registry)),
        ("condensebench store expect --time", projection(registry)),
    ):
        assert shown(command) == printed(page, "md").strip().replace("### ", "#### "), f"print it again: {command}"


def test_the_sizes_are_those_of_the_published_sets() -> None:
    for name, published in PUBLISHED.items():
        if published.images is not None:
            assert (SETS[name].train, SETS[name].test) == published.images, name
    for name in ("digits", "mnist5k", "glyphs:classes=100"):
        counts = read_digests()["datasets"][name]
        assert (SETS[name].train, SETS[name].test) == (counts["train"]["count"], counts["test"]["count"])
    assert {name.partition(":")[0] for name in SETS} == set(discover().names("dataset")) - {"heldout", "imagefolder"}


def test_memory_does_not_grow_with_the_pixels_of_a_split() -> None:
    """But for an image's path, size, digest and view: 1,080 bytes, of 150,528 that its pixels take."""
    twice = replace(IMAGENET, train=2 * IMAGENET.train)
    assert of_split(twice).memory - of_split(IMAGENET).memory == 1080 * IMAGENET.train
    assert of_set(twice, 10, 300).student == of_set(IMAGENET, 10, 300).student
    assert of_set(twice, 10, 300).encoding == of_set(IMAGENET, 10, 300).encoding
    assert of_set(IMAGENET, 100, 300).encoding == of_set(IMAGENET, 10, 300).encoding
    assert of_set(IMAGENET, 50, 300).raw_labels == 50_000 * 300 * 1000 * 2


@pytest.mark.parametrize(("method", "compressor"), CELLS)
@pytest.mark.parametrize("ipc", IPCS)
def test_more_machines_never_take_longer(method: str, compressor: str, ipc: int) -> None:
    one, eight, cpu = (stages(each, method, compressor, ipc, 300, 300) for each in MACHINES)
    for first, second, third in zip(one, eight, cpu, strict=True):
        assert second.seconds <= first.seconds <= third.seconds * 1.001
    students = {stage.name: stage.seconds for stage in cpu}[f"{REPLICATES} students"]
    assert students > 0.9 * sum(stage.seconds for stage in cpu)  # what decides without a GPU


def test_times_are_told_as_people_tell_them() -> None:
    assert [duration(each) for each in (8, 90, 5 * 3600 + 1200, 260_000)] == ["8 s", "2 min", "5 h 20 min", "3.0 days"]
    assert (small(0.00025), small(11.2)) == ("0.25 ms", "11.2 s")


def test_a_data_set_that_does_not_ship_is_told() -> None:
    with pytest.raises(UserError, match="imagenet-2k"):
        expected(discover(), ["imagenet-2k"])
