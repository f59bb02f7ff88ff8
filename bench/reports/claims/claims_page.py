"""The page that the verb `claims` prints: Markdown, the same to the byte for the same claims and records."""

from __future__ import annotations

import hashlib
import html
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from bench.records.files import Loaded, Record, latest
from bench.reports.claims.claim_file import CHANCE
from bench.reports.claims.verdict import FEWEST_BLOCKS, FEWEST_PAIRS, LEVEL, MOST_BLOCKS, Cell, Evidence, Weighed
from bench.reports.printers import Markdown, markdown_paragraph, markdown_table, markdown_text
from bench.reports.quantities import interval, p_value, percent
from bench.reports.table import Column, Row, Table

RULES = f"""\
- A claim is a list of contrasts: rows that are said to be better, rows that are said to be worse, and a margin in
  points (0 unless told). Rows pair where everything that the contrast does not name is the same: data set, ipc,
  student, protocol, labels, compressor, budget, and the digests of data, teacher, protocol, network and engine. Only
  replicates that both have count.
- Within a protocol, pairs share the student's initialisation and data order. Across protocols they share the
  condensed images only.
- A contrast may compare what rows gain instead of accuracies: each row less the row that is the same but for the
  coordinates that it names, replicate by replicate. A loss is a negative gain.
- A cell is *for* a claim where its mean difference is above the margin and the paired t test has p <= {LEVEL:.2f} after
  Holm's correction over the contrast's cells, *against* where it is below with p <= {LEVEL:.2f}, else *open*; it needs
  {FEWEST_PAIRS} pairs.
- *Pooled* is the mean over blocks. A block is one replicate of one data set, ipc, student and protocol; where rows of
  several methods are compared there, it is their mean, so that what shares a student's seeds counts once. Its p is a
  sign-flip permutation test over blocks: it speaks of these data sets, not of others.
- *Resolves* is the smallest true lead that so many blocks of such a spread would find in four of five repetitions (a t
  test over blocks, p <= {LEVEL:.2f}); under rule `most`, of the share of votes over one half. Where a contrast is
  undecided, a lead as large as this is unlikely, and a smaller one may be there.
- *Needs* is what a verdict would need where there is none: replicates of every cell (now so many) with which a true
  lead as large as the measured one would be found in four of five repetitions. Sign flips decide nothing below
  {FEWEST_BLOCKS} blocks. What needs more than {MOST_BLOCKS:,} blocks needs another cell, whose students lie closer
  together.
- Rule `order`: a contrast **holds** where no cell is against and either all are for, or the pooled difference is above
  the margin with p <= {LEVEL:.2f}; it **fails** where none is for and all are against, or the pooled difference is
  below the margin with p <= {LEVEL:.2f}; it is **mixed** where there are cells for and cells against; else
  **undecided**.
- Rule `most`: in every block each pair of rows has a vote, for where its difference is above the margin. A contrast
  **holds** where the mean share of votes for is above one half with p <= {LEVEL:.2f} (sign flips of share - 1/2 over
  blocks), **fails** where it is below with p <= {LEVEL:.2f}; else it is **undecided**.
- A claim holds where all its contrasts do, is mixed where one is or where one holds and another fails, fails where one
  fails and none holds, and is **not measured** where none has rows; else it is undecided.
- No correction is made over claims. What holds here holds for small images and small students; what fails here may
  hold for photographs."""

_SOURCE_COLUMNS = (
    Column("folder", heading="records", left=True),
    Column("trials", heading="trials"),
    Column("digest", heading="digest of their digests"),
)
_SUMMARY_COLUMNS = (
    Column("claim", heading="claim", left=True, show_row=lambda row: row["claim"]),  # a link stays Markdown
    *(Column(name, heading=name, left=True) for name in ("verdict", "contrast", "alone")),
    *(Column(name, heading=name) for name in ("for", "against", "open", "pooled")),
    Column("p", heading="p", show=p_value),
    Column("resolves", heading="resolves"),
    Column("needs", heading="needs"),
)
_CELL_COLUMNS = (  # of bench.reports.claims.verdict.Cell
    Column("better", heading="better?", left=True),
    Column("worse", heading="than", left=True),
    Column("n", heading="n"),
    Column("mean_better", heading="", show=percent, unit="%"),
    Column("mean_worse", heading="than", show=percent, unit="%"),
    Column("difference", heading="difference", show_row=lambda row: interval(row["difference"], row["half"], "+")),
    Column("p", heading="p", show=p_value),
    Column("p_holm", heading="Holm", show=p_value),
    Column("says", heading="says", left=True),
)


def page(
    weighed: Sequence[Weighed],
    command: str,
    folders: Mapping[str, Loaded[Record]],
    absent: Sequence[str] = (),
    reading: str = "",
) -> str:
    """The whole page, ending with a newline.

    Args:
        weighed: the claims in their order.
        command: what prints this page again.
        folders: records by folder, as the command names them.
        absent: folders that were to be read and are not there.
        reading: what a reader should believe, by whoever wrote the claims.
    """
    believe = ["## What a reader should believe", markdown_paragraph(reading.strip())] if reading else []
    parts = [
        "# The literature's claims, and what is measured here",
        f"Generated by `{command}`; edits are lost. Claims, sources and margins stand in that file, the rules in "
        "`bench/reports/claims/verdict.py`.",
        _sources(folders, absent),
        *believe,
        "## Verdicts",
        _summary(weighed),
        _decided(weighed),
        "## How to read it",
        RULES,
        *(_claim(each) for each in weighed),
    ]
    return "\n\n".join(parts) + "\n"


def _sources(folders: Mapping[str, Loaded[Record]], absent: Sequence[str]) -> str:
    rows: list[Row] = []
    for folder, loaded in folders.items():
        kept = latest(loaded.records)
        digest = hashlib.sha256("".join(sorted(record.digest for record in kept)).encode()).hexdigest()
        rows.append({"folder": f"`{folder}`", "trials": len(kept), "digest": digest[:16]})
    rows += [{"folder": f"`{folder}`", "trials": "not there", "digest": None} for folder in absent]
    return markdown_table(Table(_SOURCE_COLUMNS, [rows]))


def _summary(weighed: Sequence[Weighed]) -> str:
    rows: list[Row] = []
    for each in weighed:
        for number, evidence in enumerate(each.evidence):
            link = Markdown(f"[{markdown_text(each.claim.title)}](#{quote(each.claim.id)})")
            first = (link, f"**{each.verdict}**") if not number else ("", "")
            share = f"{percent(evidence.share)} % for" if each.claim.rule == "most" else ""
            rows.append(
                {
                    "claim": first[0],
                    "verdict": first[1],
                    "contrast": evidence.contrast.title or None,
                    "alone": evidence.verdict if evidence.contrast.title else "",
                    **{says: evidence.count(says) for says in ("for", "against", "open")},
                    "pooled": (share or interval(evidence.difference, math.nan, "+")) if evidence.cells else None,
                    "p": evidence.test.p if evidence.cells else None,
                    "resolves": _resolved(each, evidence),
                    "needs": _needed(evidence),
                }
            )
    return markdown_table(Table(_SUMMARY_COLUMNS, [rows]))


def _resolved(each: Weighed, evidence: Evidence) -> str | None:
    if not evidence.cells or math.isnan(evidence.resolves):
        return None
    return f"{percent(evidence.resolves)}{' %' if each.claim.rule == 'most' else ''}"


def _replicates(evidence: Evidence) -> int:
    """Of the cell that has most."""
    return max(cell.n for cell in evidence.cells)


def _needed(evidence: Evidence) -> str | None:
    """Replicates of every cell that a verdict would need, and how many there are; nothing where there is a verdict."""
    if evidence.verdict == "not measured":
        return "rows of both sides"
    if evidence.verdict != "undecided":
        return None
    replicates = _replicates(evidence)
    if evidence.blocks == 1:
        return f"{FEWEST_BLOCKS} ({replicates})"
    if evidence.needed is None or evidence.needed <= evidence.blocks:
        return f"other cells ({replicates})"
    return f"{math.ceil(replicates * evidence.needed / evidence.blocks)} ({replicates})"


def _needed_line(each: Weighed, evidence: Evidence) -> str:
    """What a verdict would need, in a sentence."""
    if not evidence.cells:
        return "for a verdict: records of both sides that pair, six replicates or more of each."
    margin = 50 if each.claim.rule == "most" else evidence.contrast.margin
    lead = 100 * (evidence.share if each.claim.rule == "most" else evidence.difference) - margin
    size = f"{abs(lead):.1f} {'% of the votes over one half' if each.claim.rule == 'most' else 'points'}"
    now = f"{evidence.blocks} blocks of {_replicates(evidence)} replicates"
    if evidence.blocks == 1:
        return f"for a verdict: one block has no spread; {FEWEST_BLOCKS} replicates or more of every cell."
    if evidence.needed is not None and evidence.needed <= evidence.blocks:
        return (
            "for a verdict: the pooled lead is shown, and a cell speaks against it: a claim that says where it holds."
        )
    if evidence.needed is None:
        return (
            f"for a verdict: a true lead of the size that was measured ({size}) would need more than {MOST_BLOCKS:,} "
            f"blocks (now {now}): other cells, whose students lie closer together, and not more replicates."
        )
    replicates = math.ceil(_replicates(evidence) * evidence.needed / evidence.blocks)
    return (
        f"for a verdict: a true lead of the size that was measured ({size}) needs {evidence.needed} blocks, "
        f"{replicates} replicates of every cell (now {now})."
    )


def _decided(weighed: Sequence[Weighed]) -> str:
    """How many contrasts and cells are decided, in a sentence."""
    measured = [each for claim in weighed for each in claim.evidence if each.cells]
    decided = [each for each in measured if each.verdict != "undecided"]
    cells = sum(len(each.cells) for each in measured)
    open_cells = sum(each.count("open") for each in measured)
    return (
        f"{len(decided)} of {len(measured)} measured contrasts are decided. Alone, {cells - open_cells} of {cells} "
        "cells are: a cell has few pairs, and is corrected for all others of its contrast."
    )


def _claim(each: Weighed) -> str:
    claim = each.claim
    parts = [
        f'<a id="{html.escape(claim.id)}"></a>\n\n## {markdown_text(claim.title)}: {each.verdict}',
        f"The source: {markdown_paragraph(claim.says.strip())} ({markdown_text(claim.source)})",
    ]
    if claim.note:
        parts.append(f"Here: {markdown_paragraph(claim.note.strip())}")
    for evidence in each.evidence:
        if evidence.contrast.title:
            parts.append(f"### {markdown_text(evidence.contrast.title)}: {evidence.verdict}")
        if evidence.cells:
            parts.append(markdown_table(cells_table(evidence.cells)))
        parts.append("\n".join(f"- {markdown_text(line)}" for line in evidence_lines(each, evidence)))
    return "\n\n".join(parts)


def cells_table(cells: Sequence[Cell]) -> Table:
    """The cells of a contrast under their headings; coordinates that are the same everywhere are left out."""
    place = [name for name in cells[0].place if len({cell.place[name] for cell in cells}) > 1]
    place = ["dataset", "ipc", *(name for name in place if name not in ("dataset", "ipc"))]
    columns = [Column(name, heading=name, left=True) for name in place if name in cells[0].place]
    rows = [{**cell.place, **vars(cell)} for cell in cells]
    return Table([*columns, *_CELL_COLUMNS], [rows])


def evidence_lines(each: Weighed, evidence: Evidence) -> Iterator[str]:
    """What stands below the table of a contrast: the pooled difference, its test, and what was left out."""
    margin = evidence.contrast.margin
    against = f", the margin {margin:+g} points" if margin else ""
    if not evidence.cells:
        sides = ["better", "worse"] if evidence.contrast.worse != CHANCE else ["better"]
        yield f"not measured: no two rows pair ({' against '.join(_selector(evidence, side) for side in sides)})."
    elif each.claim.rule == "most":
        ahead = min(evidence.cells, key=lambda cell: cell.difference)
        place = ", ".join(ahead.place[name] for name in ("dataset", "ipc") if name in ahead.place)
        yield (
            f"rule `most`: {percent(evidence.share)} % of the votes are for{against}, over {evidence.blocks} blocks; "
            f"{evidence.test.name}: p = {p_value(evidence.test.p)} (at least {p_value(evidence.test.smallest_p)})."
        )
        yield (
            f"of {len(evidence.cells)} cells {evidence.count('for')} are for, {evidence.count('against')} against; "
            f"the best rival is {ahead.worse} ({place}), {interval(-ahead.difference, ahead.half, '+')} points from "
            f"{ahead.better}."
        )
    else:
        yield (
            f"pooled over {evidence.blocks} blocks: {interval(evidence.difference, math.nan, '+')} points{against}; "
            f"{evidence.test.name}: p = {p_value(evidence.test.p)} (at least {p_value(evidence.test.smallest_p)})."
        )
    if evidence.contrast.minus and evidence.cells:
        wanted = ", ".join(f"{key} {' | '.join(patterns)}" for key, patterns in evidence.contrast.minus.items())
        yield f"compared is what a row gains on the same row with {wanted}."
    if evidence.verdict in ("undecided", "not measured"):
        yield _needed_line(each, evidence)
    unequal = [cell for cell in evidence.cells if cell.replicates != (cell.n, cell.n)]
    if unequal:
        yield (
            f"unequal numbers of replicates in {len(unequal)} of {len(evidence.cells)} cells: only those that "
            "both have are paired."
        )
    reasons = defaultdict(list)
    for row, reason in evidence.left_out:
        reasons[reason].append(row)
    for reason, rows in reasons.items():
        more = f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
        yield f"left out ({len(rows)}; {reason}): {'; '.join(rows[:3])}{more}."


def _selector(evidence: Evidence, side: str) -> str:
    wanted = {**evidence.contrast.where, **evidence.contrast.side(side == "better")}
    return "`" + ", ".join(f"{key} {' | '.join(patterns)}" for key, patterns in wanted.items()) + "`"
