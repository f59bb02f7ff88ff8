"""What records say about a claim: paired differences, tests, and a verdict by a rule that was fixed before.

Rows of the two sides pair where every coordinate that neither side names is the same, and everything that the protocol
fixes as well (by digest), as far as the claim is not about the protocol itself. Only replicates that both have count.

Rule "order", for each contrast. A cell is one pair of rows. It is *for* the claim where its mean paired difference is
above the margin and the paired t test, Holm-adjusted over the contrast's cells, has p <= .05; *against* where the
difference is below the margin and p <= .05; else *open*, as with under three pairs. The pooled difference is the mean
over blocks: a block is one replicate of one data set, ipc, student and protocol, and where rows of several methods are
compared there, the mean over them, so that what shares a student's seeds counts once. Its test flips signs of blocks.
A contrast with `minus` compares not accuracies but what a row gains, replicate by replicate, on the row that is the
same but for the coordinates of `minus`: what compressed labels cost, for instance.

    holds      no cell against, and every cell for, or the pooled difference above the margin with p <= .05
    fails      no cell for, and every cell against, or the pooled difference below the margin with p <= .05
    mixed      cells for and cells against
    undecided  otherwise

Rule "most". In every block each pair of rows has a vote: for, where its difference is above the margin. `holds` where
the mean share of votes for is above 1/2 with p <= .05, `fails` where it is below with p <= .05, else `undecided`. The
test flips the signs of share - 1/2: what all rivals owe to one lucky draw counts once.

Over contrasts: a claim holds where all of them hold; it is mixed where one is, or where one holds and another fails; it
fails where one fails and none holds; it is not measured where none has a pair of rows; else it is undecided.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.reports.claims.claim_file import CHANCE, COORDINATES, Claim, Contrast, coordinates, matches
from bench.reports.leaderboard.entries import Entry, entry_order
from bench.reports.quantities import MISSING
from bench.stats import intervals
from bench.stats.significance import Test, holm, paired_t, sign_flip

LEVEL = 0.05
FEWEST_PAIRS = 3  # of a cell that may decide something: two equal differences would have p = 0
FEWEST_BLOCKS = 6  # with which sign flips can have p <= LEVEL: 2 / 2**6
MOST_BLOCKS = 1000  # above which the blocks that a verdict needs are not counted
Verdict = Literal["holds", "fails", "mixed", "undecided", "not measured"]
Says = Literal["for", "against", "open"]

# Which coordinates a contrast must leave to either side before a digest may differ.
_FIXED_BY = {
    "dataset": ("dataset",),
    "teacher": ("dataset", "protocol"),
    "protocol": ("protocol",),
    "network": ("student",),
    "engine": (),
}


@dataclass(frozen=True)
class Cell:
    """One row against another. Accuracies and differences as fractions."""

    place: dict[str, str]  # the coordinates that both share
    better: str  # the row of this side, by the coordinates that are free
    worse: str
    n: int  # pairs
    replicates: tuple[int, int]  # that each side has
    mean_better: float  # over the pairs
    mean_worse: float
    difference: float
    half: float  # of its 95 % t interval
    p: float  # paired t test of difference = margin, two-sided
    p_holm: float  # adjusted over the cells of the contrast
    says: Says
    by_replicate: dict[int, float] = field(repr=False)  # replicate -> difference


@dataclass(frozen=True)
class Evidence:
    """What was found for one contrast."""

    contrast: Contrast
    cells: list[Cell]
    left_out: list[tuple[str, str]]  # (row or rows, reason)
    blocks: int
    difference: float  # pooled; nan without cells
    share: float  # of rows for the claim, mean over blocks; what the rule "most" goes by
    resolves: float  # smallest true lead that so many blocks find in four of five repetitions; nan below two
    needed: int | None  # blocks that find a true lead as large as the measured one; None: more than MOST_BLOCKS
    test: Test  # of the pooled difference (order), or of the share (most)
    verdict: Verdict

    def count(self, says: Says) -> int:
        """Cells that speak for or against the claim, or are open."""
        return sum(cell.says == says for cell in self.cells)


@dataclass(frozen=True)
class Weighed:
    """A claim with its evidence."""

    claim: Claim
    evidence: list[Evidence]
    verdict: Verdict


@dataclass(frozen=True)
class _Pair:
    better: Entry
    worse: Entry | None  # None: chance
    differences: dict[int, float]


def weigh(claim: Claim, entries: Sequence[Entry]) -> Weighed:
    """Hold a claim to the rows of records (`bench.reports.leaderboard.entries.entries_of`)."""
    evidence = [_evidence(contrast, entries, claim) for contrast in claim.contrast]
    return Weighed(claim, evidence, overall([each.verdict for each in evidence]))


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim from those of its contrasts."""
    if all(each == "holds" for each in verdicts):
        return "holds"
    if "mixed" in verdicts or {"holds", "fails"} <= set(verdicts):
        return "mixed"
    if "fails" in verdicts:
        return "fails"
    return "not measured" if set(verdicts) == {"not measured"} else "undecided"


def _evidence(contrast: Contrast, entries: Sequence[Entry], claim: Claim) -> Evidence:
    pairs, left_out = _pairs(contrast, _gains(contrast, entries) if contrast.minus else entries)
    margin = contrast.margin / 100
    tests = [
        paired_t(each - margin for each in pair.differences.values()).p
        if len(pair.differences) >= FEWEST_PAIRS
        else math.nan
        for pair in pairs
    ]
    cells = [
        _cell(pair, contrast, p, float(adjusted)) for pair, p, adjusted in zip(pairs, tests, holm(tests), strict=True)
    ]
    blocks = _blocks(cells, lambda difference: difference)
    shares = _blocks(cells, lambda difference: float(difference > margin))
    pooled, share = intervals.summary(blocks).mean, intervals.summary(shares).mean
    if claim.rule == "most":
        test = sign_flip([each - 0.5 for each in shares], claim.id, contrast.title)
        verdict = _most(share, test)
    else:
        test = sign_flip([round(each - margin, 9) for each in blocks], claim.id, contrast.title)
        verdict = _order(cells, pooled - margin, test)
    # Power is that of the paired t test over blocks: what the sign-flip test resolves has no closed form, and is near.
    spread = intervals.summary(shares if claim.rule == "most" else blocks)
    resolves = intervals.resolvable(spread.std, spread.n)
    needed = intervals.pairs_needed(spread.std, spread.mean - (0.5 if claim.rule == "most" else margin), MOST_BLOCKS)
    needed = None if needed is None else max(needed, FEWEST_BLOCKS)
    return Evidence(contrast, cells, left_out, len(blocks), pooled, share, resolves, needed, test, verdict)


def _order(cells: Sequence[Cell], lead: float, test: Test) -> Verdict:
    if not cells:
        return "not measured"
    seen = {cell.says for cell in cells}
    decided = test.p <= LEVEL
    if {"for", "against"} <= seen:
        return "mixed"
    if "against" not in seen and (seen == {"for"} or (decided and lead > 0)):
        return "holds"
    if "for" not in seen and (seen == {"against"} or (decided and lead < 0)):
        return "fails"
    return "undecided"


def _most(share: float, test: Test) -> Verdict:
    if math.isnan(share):
        return "not measured"
    if test.p > LEVEL or share == 0.5:
        return "undecided"
    return "holds" if share > 0.5 else "fails"


def _pairs(contrast: Contrast, entries: Sequence[Entry]) -> tuple[list[_Pair], list[tuple[str, str]]]:
    """The pairs of rows in a stable order, and what was left out with the reason."""
    sides: dict[tuple[str, ...], tuple[list[Entry], list[Entry]]] = defaultdict(lambda: ([], []))
    for entry in sorted(entries, key=entry_order):
        key = tuple(value for name, value in coordinates(entry).items() if name not in contrast.free)
        for side in (0, 1):
            if matches(entry, contrast.where, contrast.side(side == 0)) and not (side and contrast.worse == CHANCE):
                sides[key][side].append(entry)
    pairs: dict[tuple[Hashable, ...], _Pair] = {}
    left_out: list[tuple[str, str]] = []
    for key, (ours, theirs) in sides.items():
        tried = list(_tried(ours, theirs, contrast))
        good = [pair for pair, reason in tried if not reason]
        for pair in good:
            name = (key, *_names(pair, contrast))
            known = pairs.get(name)
            if known is None or len(pair.differences) > len(known.differences):
                pairs[name] = pair
            if known is not None:
                left_out.append((_described(pair.better, contrast), "several versions of the code; one of them counts"))
        if not good:
            reason = next((reason for _, reason in tried), f"only `{'better' if ours else 'worse'}` has a row")
            left_out.append((_described((ours or theirs)[0], contrast), reason))
    return list(pairs.values()), left_out


def _gains(contrast: Contrast, entries: Sequence[Entry]) -> list[Entry]:
    """The rows that have a row of `minus` to stand on, with what they gain on it in place of their accuracies."""
    grounds: dict[tuple[str, ...], list[Entry]] = defaultdict(list)

    def key(entry: Entry) -> tuple[str, ...]:
        return tuple(value for name, value in coordinates(entry).items() if name not in contrast.minus)

    for entry in entries:
        if matches(entry, contrast.minus):
            grounds[key(entry)].append(entry)
    gains = []
    for entry in entries:
        for ground in grounds[key(entry)]:
            both = sorted(entry.accuracies.keys() & ground.accuracies.keys())
            if both and ground is not entry and entry.comparable(ground):
                gain = copy.copy(entry)
                gain.accuracies = {r: round(entry.accuracies[r] - ground.accuracies[r], 9) for r in both}
                gains.append(gain)
                break
    return gains


def _tried(ours: Sequence[Entry], theirs: Sequence[Entry], contrast: Contrast) -> Iterator[tuple[_Pair, str]]:
    """Every pair of rows with the reason why it may not be compared, or ''."""
    for entry in ours:
        if contrast.worse == CHANCE:
            classes = entry.records[0].num_classes
            level = {r: round(a - 1 / classes, 9) for r, a in sorted(entry.accuracies.items())} if classes else {}
            yield _Pair(entry, None, level), "" if level else "no replicate has a result"
        for other in theirs:
            if entry is other:
                continue
            both = sorted(entry.accuracies.keys() & other.accuracies.keys())
            # Equal counts of images are equal, whatever the rounding of the ratios.
            pair = _Pair(entry, other, {r: round(entry.accuracies[r] - other.accuracies[r], 9) for r in both})
            differing = [
                part
                for part, free in _FIXED_BY.items()
                if not set(free) & set(contrast.free) and not entry.comparable(other, part)
            ]
            if differing:
                yield pair, f"made under other digests of: {', '.join(differing)}"
            else:
                yield pair, "" if both else "no replicate with a result in common"


def _cell(pair: _Pair, contrast: Contrast, p: float, adjusted: float) -> Cell:
    difference = intervals.summary(pair.differences.values())
    better = intervals.summary(pair.better.accuracies[r] for r in pair.differences).mean
    decided = adjusted <= LEVEL  # nan decides nothing
    says: Says = "open" if not decided else "for" if difference.mean > contrast.margin / 100 else "against"
    ours, theirs = _names(pair, contrast)
    return Cell(
        place={key: value for key, value in coordinates(pair.better).items() if key not in contrast.free},
        better=ours,
        worse=theirs,
        n=difference.n,
        replicates=(len(pair.better.accuracies), len(pair.worse.accuracies) if pair.worse else difference.n),
        mean_better=better,
        mean_worse=better - difference.mean,
        difference=difference.mean,
        half=difference.half,
        p=p,
        p_holm=adjusted,
        says=says,
        by_replicate=pair.differences,
    )


def _blocks(cells: Sequence[Cell], value: Callable[[float], float]) -> list[float]:
    """The mean value of differences in every block, see above."""
    by_block: dict[tuple[Hashable, ...], list[float]] = defaultdict(list)
    for cell in cells:
        place = tuple(cell.place.get(key) for key in ("dataset", "ipc", "student", "protocol"))
        for replicate, difference in cell.by_replicate.items():
            by_block[*place, replicate].append(value(difference))
    return [intervals.summary(each).mean for each in by_block.values()]


def _names(pair: _Pair, contrast: Contrast) -> tuple[str, str]:
    ours = _called(pair.better, contrast)
    return ours, CHANCE if pair.worse is None else _called(pair.worse, contrast)


def _called(entry: Entry, contrast: Contrast) -> str:
    """A row by the coordinates that its side may choose; the label regime goes without saying."""
    return _joined(entry, lambda key: key in contrast.free and key != "labels")


def _described(entry: Entry, contrast: Contrast) -> str:
    place = _joined(entry, lambda key: key not in contrast.free)
    return f"{place}: {_called(entry, contrast)}"


def _joined(entry: Entry, wanted: Callable[[str], bool]) -> str:
    row = coordinates(entry)
    parts = [f"ipc {row[key]}" if key == "ipc" else row[key] for key in COORDINATES if wanted(key)]
    return " ".join(each for each in parts if each != MISSING)
