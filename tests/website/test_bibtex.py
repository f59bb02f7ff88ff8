"""BibTeX of what a table names: a parser of BibTeX reads every entry, and whatever has a paper has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pybtex.database import Entry, parse_string

from bench.plugins.registry import Plugin, Registry, discover
from bench.website.bibtex import KINDS, bibliography, shipped
from tests.worlds import ROOT
from tests.worlds.plugins import SELECT, write

WITHOUT_PAPER = {
    "compressor:mean": "a control of this project",
    "dataset:heldout": "a part of another data set",
    "dataset:imagefolder": "whoever made the photographs",
    "method:folder": "whoever made the set",
    "protocol:small-hard-v1": "this project's own",
}
NEEDED = {
    "article": {"journal"},
    "inproceedings": {"booktitle"},
    "techreport": {"institution"},
    "misc": set(),
}  # beside author, title and year
REGISTRY = discover()
SHIPPED = shipped()
ENTRIES = parse_string("\n".join(SHIPPED.entries.values()), "bibtex").entries


def ours() -> list[Plugin]:
    return [plugin for kind in KINDS for plugin in REGISTRY.all(kind) if not plugin.foreign]


def names() -> set[str]:
    """Whatever may have a paper."""
    return {f"{plugin.kind}:{plugin.name}" for plugin in ours()} | {f"protocol:{n}" for n in REGISTRY.protocol_names()}


def test_every_method_compressor_data_set_network_and_protocol_has_an_entry_or_no_paper() -> None:
    assert names() - SHIPPED.keys.keys() == WITHOUT_PAPER.keys()
    assert SHIPPED.keys.keys() <= names()  # and no entry is for something else


def test_the_file_has_every_key_once_and_every_paragraph_is_an_entry() -> None:
    import methods

    text = (Path(str(methods.__file__)).parent / "sources.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{(.*),$", text, re.MULTILINE)
    assert keys == sorted(set(keys))
    assert keys == list(SHIPPED.entries)
    assert parse_string(text, "bibtex").entries.keys() == ENTRIES.keys() == set(keys)


@pytest.mark.parametrize("key", ENTRIES)
def test_an_entry_says_who_what_where_and_when(key: str) -> None:
    entry: Entry = ENTRIES[key]
    assert NEEDED[entry.type] <= entry.fields.keys()
    assert entry.fields["title"]
    assert re.fullmatch(r"(19|20)\d\d", entry.fields["year"])
    assert key.startswith(surname(entry)), "a key is the first author, the year and a word"
    assert entry.fields["year"] in key
    if entry.type == "misc":
        assert entry.fields.keys() & {"eprint", "howpublished", "doi", "url"}
    if eprint := entry.fields.get("eprint"):
        assert entry.fields["archivePrefix"] == "arXiv"
        assert re.fullmatch(r"\d{4}\.\d{4,5}", eprint)
        assert int(entry.fields["year"]) >= 2000 + int(eprint[:2])  # papers are on arXiv first
    assert "keywords" not in entry.fields  # who cites it is no business of a paper's
    assert SHIPPED.entries[key].isascii()  # accents as every BibTeX reads them


def surname(entry: Entry) -> str:
    last = re.sub(r"\\.|[{}]", "", "".join(entry.persons["author"][0].last_names))
    return re.sub(r"[^a-z]", "", last.lower()).removesuffix("maintainersandcontributors")


@pytest.mark.parametrize("plugin", ours(), ids=lambda plugin: f"{plugin.kind}:{plugin.name}")
def test_entries_are_what_the_plugin_says_itself(plugin: Plugin) -> None:
    """Years and arXiv numbers of the sentence for people and of the entries are the same."""
    entries = [ENTRIES[key] for key in SHIPPED.keys.get(f"{plugin.kind}:{plugin.name}", [])]
    citation = plugin.constants.get("CITATION", "")
    said = set(re.findall(r"\b(?:19|20)\d\d\b(?!\.)", citation))
    if entries and said:
        assert said <= {entry.fields["year"] for entry in entries}
    for number in re.findall(r"\b\d{4}\.\d{4,5}\b", citation):
        assert number in {entry.fields.get("eprint") for entry in entries}


def test_numbers_of_the_page_of_sources_are_those_of_the_entries() -> None:
    kinds = {"selection": "method", "synthesis": "method", "compressor": "compressor"}
    page = (ROOT / "docs/sources.md").read_text(encoding="utf-8")
    kind, seen = "", 0
    for first, second in re.findall(r"^\|(.*?)\|(.*)\|$", page, re.MULTILINE):
        kind = kinds.get(first.strip(), kind)
        keys = {key for name in re.findall(r"`([\w-]+)`", first) for key in SHIPPED.keys.get(f"{kind}:{name}", [])}
        numbers = set(re.findall(r"\((\d{4}\.\d{4,5})\)", second)) if keys else set()
        assert numbers <= {ENTRIES[key].fields.get("eprint") for key in keys}, first
        seen += len(numbers)
    assert seen > 30


def test_a_plugin_of_somebody_is_cited_by_its_own_words_and_they_stay_text(tmp_path: Path) -> None:
    words = r"Doe 2024, \input{/etc/passwd} 100 % & more, arXiv 2401.00001"
    file = write(tmp_path / "mine.py", f"CITATION = {words!r}\n{SELECT}")
    cited = bibliography(discover([file]))
    (key,) = cited.keys["method:mine"]
    assert key not in SHIPPED.entries
    entry = parse_string(cited.entries[key], "bibtex").entries[key]
    assert entry.fields["eprint"] == "2401.00001"
    assert entry.fields["year"] == "2024"
    assert r"\input" not in cited.entries[key]
    assert r"100 \% \& more" in entry.fields["note"]


def test_nothing_is_cited_by_a_registry_of_nothing() -> None:
    assert bibliography(Registry()).entries == SHIPPED.entries
