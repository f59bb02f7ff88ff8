"""Whatever competes has its source in docs/sources.md, and says it itself."""

from __future__ import annotations

import re

import pytest

from bench.plugins.registry import ROOT, Plugin, discover

OURS = [plugin for kind in ("method", "compressor") for plugin in discover().all(kind) if ROOT in plugin.path.parents]
HEADS = {"selection": "selection", "synthesis": "synthesis", "compressors": "compressor"}


def sources() -> dict[str, list[str]]:
    """Table of docs/sources.md -> the names in its first column."""
    page = (ROOT / "docs/sources.md").read_text(encoding="utf-8").split("\n## Data\n")[0]
    tables: dict[str, list[str]] = {}
    for row in re.findall(r"^\|(.*?)\|(.*)\|$", page, flags=re.MULTILINE):
        names = re.findall(r"`([\w-]+)`", row[0])
        if row[0].strip() in HEADS.values():
            tables[row[0].strip()] = []
        elif names:
            assert row[1].strip(), row
            list(tables.values())[-1].extend(names)
    return tables


@pytest.mark.parametrize("plugin", OURS, ids=lambda p: f"{p.path.parent.name}/{p.name}")
def test_a_plugin_names_its_source(plugin: Plugin) -> None:
    assert len(plugin.constants.get("CITATION", "")) > 20


def test_the_page_lists_the_source_of_every_method_and_compressor_once_and_of_nothing_else():
    shipped: dict[str, list[str]] = {head: [] for head in HEADS.values()}
    for plugin in OURS:
        shipped[HEADS[plugin.path.parent.name]].append(plugin.name)
    assert {head: sorted(names) for head, names in sources().items()} == {h: sorted(n) for h, n in shipped.items()}
