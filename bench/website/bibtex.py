"""BibTeX entries of the methods and compressors that a table names, from what their modules cite."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bench.plugins.registry import Registry

_ARXIV = re.compile(r"\b(\d{4}\.\d{4,5})\b")
_YEAR = re.compile(r"\b((?:19|20)\d{2})\b(?!\.)")
_SPECIAL = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}


def entries(registry: Registry) -> dict[str, str]:
    """Name of a method or compressor -> its BibTeX entry; none of those that cite nothing."""
    plugins = [*registry.all("method"), *registry.all("compressor")]
    cited = {plugin.name: str(plugin.constants.get("CITATION", "")).strip() for plugin in plugins}
    return {name: entry(name, text) for name, text in cited.items() if text}


def entry(name: str, citation: str) -> str:
    """One entry: the whole citation as a note, with year and arXiv number as far as it tells them.

    Citations are sentences for people. Nothing is guessed from them: authors and titles stay within the note.
    """
    fields = {"note": escaped(" ".join(citation.split()))}
    if arxiv := _ARXIV.search(citation):
        fields |= {"eprint": arxiv[1], "archivePrefix": "arXiv", "url": f"https://arxiv.org/abs/{arxiv[1]}"}
    if year := _YEAR.search(_ARXIV.sub("", citation)):
        fields["year"] = year[1]
    elif arxiv:
        fields["year"] = f"20{arxiv[1][:2]}"
    body = ",\n".join(f"  {key} = {{{value}}}" for key, value in fields.items())
    return f"@misc{{{re.sub(r'[^A-Za-z0-9_-]', '', name)},\n{body}\n}}\n"


def used(specs: Iterable[str]) -> list[str]:
    """The names of specifications, each once and in order: `el2n:end=hard` -> `el2n`."""
    return list(dict.fromkeys(spec.partition(":")[0] for spec in specs))


def escaped(text: str) -> str:
    """Text with what is special to TeX escaped."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
