"""BibTeX entries of what a table names: this project's own in `methods/sources.bib`; of plugins of others, what they
cite."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from importlib import resources

from bench.plugins.registry import Plugin, Registry

KINDS = ("method", "compressor", "dataset", "network")  # of plugins; protocols have entries too
_ENTRY = re.compile(r"@\w+\{(?P<key>[^,]+),\n  keywords = \{(?P<names>[^}]*)\},\n")
_ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})\b")
_YEAR = re.compile(r"\b((?:19|20)\d{2})\b(?!\.)")
_SPECIAL = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}


@dataclass
class Bibliography:
    """Entries, and who is cited by which."""

    entries: dict[str, str] = field(default_factory=dict)  # key -> the whole entry
    keys: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # `method:rded` -> keys of entries

    def add(self, key: str, entry: str, *names: str) -> None:
        """Add an entry, for those whose names are given."""
        self.entries[key] = entry
        for name in names:
            self.keys[name].append(key)


def bibliography(registry: Registry) -> Bibliography:
    """The entries of all plugins and of this project's protocols, as far as there is something to cite."""
    entries = shipped()
    for plugin in (plugin for kind in KINDS for plugin in registry.all(kind)):
        citation = " ".join(str(plugin.constants.get("CITATION", "")).split())
        if plugin.foreign and citation:
            key = _key_of(plugin)
            entries.add(key, entry(key, citation), f"{plugin.kind}:{plugin.name}")
    return entries


def shipped() -> Bibliography:
    """The entries of `methods/sources.bib`, without the field that says who is cited by them."""
    text = (resources.files("methods") / "sources.bib").read_text(encoding="utf-8")
    entries = Bibliography()
    for paragraph in text.split("\n\n"):
        if match := _ENTRY.match(paragraph):
            opening = match[0].partition("\n")[0]
            entries.add(
                match["key"], f"{opening}\n{paragraph[match.end() :].strip()}\n", *re.split(r",\s*", match["names"])
            )
    return entries


def _key_of(plugin: Plugin) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "", f"{plugin.kind}-{plugin.name}")


def entry(key: str, citation: str) -> str:
    """One entry: the whole citation as a note, with year and arXiv number as far as it tells them.

    Citations are sentences for people. Nothing is guessed from them: authors and titles stay within the note.
    """
    fields = {"note": escaped(citation)}
    if arxiv := _ARXIV.search(citation):
        fields |= {"eprint": arxiv[1], "archivePrefix": "arXiv", "url": f"https://arxiv.org/abs/{arxiv[1]}"}
    if year := _YEAR.search(_ARXIV.sub("", citation)):
        fields["year"] = year[1]
    elif arxiv:
        fields["year"] = f"20{arxiv[1][:2]}"
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{{key},\n{body}\n}}\n"


def escaped(text: str) -> str:
    """Text with what is special to TeX escaped."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
