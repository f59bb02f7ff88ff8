"""The page of claims and checks: verdicts with their evidence, findings, the lock, the teachers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from bench.artifacts.refs import Workspace
from bench.errors import UserError, with_short_paths
from bench.finding import ORDER, Finding
from bench.lock import lock_file
from bench.lock.differences import changed_defaults, changed_protocol
from bench.places import absolute_path
from bench.records.files import Record
from bench.reports.claims.claim_file import check_names, read_claims
from bench.reports.claims.claims_page import RULES, cells_table, evidence_lines
from bench.reports.claims.verdict import Weighed, weigh
from bench.reports.quantities import percent
from bench.reports.table import Shown, Table
from bench.stages.origins import OriginDigests
from bench.texts import visible
from bench.website.material import Material

SHOWN_FINDINGS = 500  # of a folder; each also stands with its row
_MARKDOWN = MarkdownIt("commonmark", {"html": False})  # what looks like HTML is text
_CODE = MarkdownIt("zero").enable("backticks")  # of a claims file, which may be anybody's: `code` and nothing else


@dataclass(frozen=True)
class Grid:
    """A table as text cells, with which columns are set to the left."""

    headings: list[str]
    left: list[bool]
    rows: list[list[str]]


def claims(files: Sequence[str | Path], material: Material) -> list[dict[str, Any]]:
    """Every claim of some claims files, weighed by the records of the site.

    Raises:
        UserError: a file is no claims file, or names what nobody knows.
    """
    entries = [row.standing.entry for row in material.rows]
    shown = []
    for file in files:
        read = read_claims(file)
        check_names(read, entries, material.registry, file)
        shown += [_claim(weigh(claim, entries)) for claim in read.claim]
    return shown


def _claim(weighed: Weighed) -> dict[str, Any]:
    claim = weighed.claim
    contrasts = [
        {
            "title": visible(evidence.contrast.title),
            "verdict": evidence.verdict,
            "counts": ", ".join(f"{evidence.count(says)} {says}" for says in ("for", "against", "open")),
            "grid": grid(cells_table(evidence.cells)) if evidence.cells else None,
            "lines": [visible(line) for line in evidence_lines(weighed, evidence)],
        }
        for evidence in weighed.evidence
    ]
    texts = {key: visible(getattr(claim, key).strip()) for key in ("id", "title", "says", "source", "note")}
    note = str(_CODE.renderInline(texts["note"]))
    return {**texts, "note": note, "verdict": weighed.verdict, "contrasts": contrasts}


def rules() -> str:
    """How claims are weighed, as HTML."""
    return str(_MARKDOWN.render(RULES))


def grid(table: Table) -> Grid:
    """A table of reports as text cells."""

    def text(cell: str | Shown) -> str:
        return visible(cell.before + cell.text if isinstance(cell, Shown) else cell)

    rows = [[text(column.cell(row)) for column in table.columns] for group in table.groups for row in group]
    return Grid([column.title for column in table.columns], [column.left for column in table.columns], rows)


def checks(material: Material) -> list[dict[str, Any]]:
    """For each folder: its findings, worst first, and how many there are."""
    shown = []
    for source in material.sources:
        findings = sorted(source.findings, key=lambda finding: ORDER.index(finding.severity))
        shown.append(
            {
                "folder": visible(source.folder),
                "summary": source.summary,
                "counts": dict(Counter(finding.severity for finding in findings)),
                "findings": [_finding(finding) for finding in findings[:SHOWN_FINDINGS]],
                "more": max(0, len(findings) - SHOWN_FINDINGS),
            }
        )
    return shown


def _finding(finding: Finding) -> dict[str, str]:
    parts = {key: visible(with_short_paths(getattr(finding, key))) for key in ("rule", "where", "message")}
    return {**parts, "severity": finding.severity}


def locked(material: Material) -> dict[str, Any]:
    """The lock of the released protocols, as far as records of the site name them."""
    lock = lock_file.read()
    names = sorted({record.trial["protocol"] for record in material.records} & lock.protocols.keys())
    findings = changed_defaults(lock, lock_file.PATH)
    findings += [finding for name in names for finding in changed_protocol(name, lock, lock_file.PATH)]
    held = [
        {"name": name, "digest": lock.protocols[name].digest, "since": lock.protocols[name].released} for name in names
    ]
    return {"summary": lock_file.lock_summary(lock), "held": held, "findings": [_finding(each) for each in findings]}


def teachers(material: Material, store: Path) -> Grid:
    """The teachers of every data set and protocol, with their accuracy on the test split, as far as they are known.

    What records tell stands first. Others are looked up by the digest of the data set: shipped, or in the store.
    """
    origins = OriginDigests(Workspace(absolute_path(store), material.registry))
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in material.records:
        groups[record.trial["dataset"], record.trial["protocol"]].append(record)
    rows = []
    for (dataset, protocol), records in groups.items():
        known = dict.fromkeys(facts for record in records for facts in _told(record))
        known = known or dict.fromkeys(facts for record in records[:1] for facts in _looked_up(origins, record))
        cells = [[name, digest[:16], percent(accuracy)] for name, digest, accuracy in known]
        rows += [[visible(dataset), visible(protocol), *each] for each in cells or [["-", "-", "not known here"]]]
    headings = ["data set", "protocol", "teacher", "weights", "accuracy % (test split)"]
    return Grid(headings, [True, True, True, True, False], rows)


def _told(record: Record) -> Iterable[tuple[str, str, float]]:
    """(recipe and network, digest, accuracy) of the teachers that a record tells of."""
    for facts in record.teachers or ():
        yield visible(f"{facts.recipe} ({facts.network})"), facts.digest, facts.accuracy


def _looked_up(origins: OriginDigests, record: Record) -> Iterable[tuple[str, str, float]]:
    """The same of the teachers of the record's protocol that are here."""
    dataset, digest = record.trial["dataset"], record.made_by.get("dataset")
    if digest is None or record.num_classes is None:
        return
    try:
        recipes = origins.protocol(record.trial["protocol"]).teachers(dataset)
        refs = origins.teachers(recipes, dataset, digest, record.num_classes)
    except UserError:
        return
    for ref in refs or ():
        yield visible(f"{ref.recipe} ({ref.network})"), ref.digest, ref.accuracy
