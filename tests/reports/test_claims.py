"""`claims`: what is planted in records is found, what is absent is not claimed, a slip in the file is told."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from bench.cli import cli
from bench.errors import UserError
from bench.records.files import Record, append
from bench.reports.claims.claim_file import Claim, coordinates, read_claims
from bench.reports.claims.verdict import Evidence, Weighed, overall, weigh
from bench.reports.leaderboard.entries import entries_of
from bench.stats import intervals
from tests.worlds import ROOT
from tests.worlds.records import cell, made_by, record

EASY = {"better": {"method": "el2n"}, "worse": {"method": "el2n:end=hard"}}
FILE = """
[[claim]]
id = "easy"
title = "Easy images are better"
says = "They are."
source = "A paper, table 1"
[[claim.contrast]]
where = { protocol = "small-soft-v1" }
better = { method = "el2n" }
worse = { method = "el2n:end=hard" }
"""


def claim(*contrasts: dict[str, Any], rule: str = "order") -> Claim:
    return Claim(id="c", title="t", says="s", source="p", rule=rule, contrast=list(contrasts))


def weighed(records: list[Record], *contrasts: dict[str, Any], rule: str = "order") -> Weighed:
    return weigh(claim(*contrasts, rule=rule), entries_of(records))


def found(records: list[Record], contrast: dict[str, Any], rule: str = "order") -> Evidence:
    return weighed(records, contrast, rule=rule).evidence[0]


def both(lead: float, **changed: Any) -> list[Record]:
    """The easy and the hard end, the first ahead by `lead` on average, in one place."""
    return cell(0.5 + lead, method="el2n", seed=1, **changed) + cell(0.5, method="el2n:end=hard", seed=2, **changed)


def noisy(seed: int, lead: float = 0.0, n: int = 3, **changed: Any) -> list[Record]:
    """The two ends with noise of five points between them."""
    draws = np.random.default_rng(seed).normal(lead, 0.05, n)
    return [
        record(float(0.5 + (draw if method == "el2n" else 0)), method=method, replicate=r, **changed)
        for method in ("el2n", "el2n:end=hard")
        for r, draw in enumerate(draws)
    ]


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_a_planted_effect_holds_and_its_reverse_fails() -> None:
    records = both(0.1) + both(0.1, ipc=1) + both(0.1, dataset="digits")
    assert weighed(records, EASY).verdict == "holds"
    turned = {"better": EASY["worse"], "worse": EASY["better"]}
    assert weighed(records, turned).verdict == "fails"
    one, other = found(records, EASY), found(records, turned)
    assert one.difference == pytest.approx(0.1) == -other.difference
    assert (one.count("for"), other.count("against")) == (3, 3)


def test_noise_is_undecided_about_as_often_as_the_level_promises() -> None:
    wrong = 0
    for seed in range(60):
        records = list(itertools.chain.from_iterable(noisy(10 * seed + ipc, ipc=ipc) for ipc in (1, 2, 3)))
        wrong += weighed(records, EASY).verdict != "undecided"
    # 3 of 60 are expected at 5 %; 9 or more would have a chance of .004.
    assert wrong < 9


def test_effects_too_small_for_any_cell_are_found_when_pooled() -> None:
    records = list(itertools.chain.from_iterable(noisy(ipc, 0.06, n=4, ipc=ipc) for ipc in range(1, 6)))
    evidence = found(records, EASY)
    assert (evidence.count("for"), evidence.verdict) == (0, "holds")
    assert evidence.blocks == 20


def test_a_lead_as_large_as_a_contrast_resolves_is_found_in_four_of_five_repetitions() -> None:
    spread = 0.05  # of the noise between the ends
    wanted = intervals.resolvable(spread, 12)
    hits, resolved = 0, []
    for seed in range(100):
        records = itertools.chain.from_iterable(noisy(50 + 10 * seed + ipc, wanted, 4, ipc=ipc) for ipc in (1, 2, 3))
        evidence = found(list(records), EASY)
        resolved.append(evidence.resolves)
        hits += evidence.test.p <= 0.05
    assert 68 <= hits <= 91  # of 100 at .8: three standard deviations
    assert np.mean(resolved) == pytest.approx(wanted, rel=0.1)


def test_the_page_tells_what_contrasts_resolve_and_how_many_are_decided(tmp_path: Path) -> None:
    wide = list(itertools.chain.from_iterable(noisy(ipc, 0.0, n=4, ipc=ipc) for ipc in range(1, 6)))
    text = page(tmp_path, wide, 'reading = "Nothing of it."\n' + FILE)
    assert "## What a reader should believe\n\nNothing of it.\n" in text
    assert "0 of 1 measured contrasts are decided. Alone, 0 of 5 cells are" in text
    (row,) = [line for line in text.splitlines() if "(#easy)" in line]
    assert f"{100 * found(wide, EASY).resolves:.1f}" == row.split("|")[-3].strip()
    votes = found(wide, EASY, "most")
    assert votes.resolves == pytest.approx(intervals.resolvable(np.std([1] * 12 + [0] * 8, ddof=1), 20), rel=0.1)


def test_the_page_tells_what_a_verdict_would_need_where_there_is_none(tmp_path: Path) -> None:
    """So many replicates of such a spread as it says do decide a true lead of that size, four times in five."""
    records = noisy(5, lead=0.03, n=5)
    evidence = found(records, EASY)
    assert evidence.verdict == "undecided"
    text = page(tmp_path / "a", records)
    row = next(line for line in text.splitlines() if line.startswith("| [Easy"))
    assert row.split("|")[-2].strip() == f"{evidence.needed} (5)"
    assert (
        f"needs {evidence.needed} blocks, {evidence.needed} replicates of every cell (now 5 blocks of 5 replicates)"
        in text
    )
    spread = np.std(list(evidence.cells[0].by_replicate.values()), ddof=1)
    samples = np.random.default_rng(0).normal(evidence.difference, spread, (20_000, evidence.needed))
    assert (scipy_stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean() >= 0.79


def test_a_verdict_needs_nothing_more_and_no_rows_need_rows(tmp_path: Path) -> None:
    decided = page(tmp_path / "a", both(0.1))
    assert "for a verdict" not in decided
    absent = page(tmp_path / "b", cell(0.5, method="el2n"))
    assert "for a verdict: records of both sides that pair" in absent
    assert "one block has no spread; 6 replicates or more" in page(tmp_path / "d", noisy(1, n=1))
    level = page(
        tmp_path / "c",
        [
            record(0.5 + 0.05 * sign, method=m, replicate=r)
            for r, sign in enumerate((1, -1, 1, -1))
            for m, sign in (("el2n", sign), ("el2n:end=hard", 0))
        ],
    )
    assert "other cells, whose students lie closer together" in level  # no lead at all


def test_one_block_resolves_nothing() -> None:
    assert np.isnan(found(noisy(1, n=1), EASY).resolves)


def test_cells_on_both_sides_are_mixed() -> None:
    assert weighed(both(0.1) + both(-0.1, ipc=1), EASY).verdict == "mixed"


@pytest.mark.parametrize(
    "records", [[], cell(0.5, method="el2n"), cell(0.5, method="random")], ids=["none", "one side", "another method"]
)
def test_what_is_absent_is_not_measured(records: list[Record]) -> None:
    assert weighed(records, EASY).verdict == "not measured"


def test_two_pairs_decide_nothing_however_equal() -> None:
    records = [record(0.6, method="el2n", replicate=r) for r in (0, 1)]
    records += [record(0.5, method="el2n:end=hard", replicate=r) for r in (0, 1)]
    evidence = found(records, EASY)
    assert (evidence.cells[0].n, evidence.cells[0].says, evidence.verdict) == (2, "open", "undecided")


def test_a_margin_must_be_passed() -> None:
    records = both(0.1)
    assert found(records, {**EASY, "margin": 5}).verdict == "holds"
    assert found(records, {**EASY, "margin": 15}).verdict == "fails"
    assert found(both(-0.02), {**EASY, "margin": -5}).verdict == "holds"  # trails by less than it may


def test_a_claim_of_several_contrasts_needs_all_of_them() -> None:
    assert overall(["holds", "holds"]) == "holds"
    assert overall(["holds", "not measured"]) == overall(["holds", "undecided"]) == "undecided"
    assert overall(["fails", "not measured"]) == overall(["fails", "undecided"]) == "fails"
    assert overall(["holds", "fails", "undecided"]) == overall(["mixed", "holds"]) == "mixed"
    assert overall(["not measured", "not measured"]) == "not measured"


GAINS = {
    "where": {"compressor": "rpca"},
    "minus": {"compressor": "none", "budget": "-"},
    "better": {"method": "score"},
    "worse": {"method": "random"},
}


def test_what_rows_gain_on_others_is_compared_where_a_contrast_says_so() -> None:
    """SCORE is behind with either labels, and loses less by compression."""
    packed = {"compressor": "rpca", "budget": "30x"}
    records = cell(0.60, method="random", seed=1) + cell(0.50, method="random", seed=2, **packed)
    records += cell(0.40, method="score", seed=3) + cell(0.38, method="score", seed=4, **packed)
    evidence = found(records, GAINS)
    assert evidence.verdict == "holds"
    (one,) = evidence.cells
    assert (one.mean_better, one.mean_worse) == pytest.approx((-0.02, -0.10), abs=1e-5)
    by_hand = [
        (records[9 + r].accuracy - records[6 + r].accuracy) - (records[3 + r].accuracy - records[r].accuracy)
        for r in range(3)
    ]
    assert one.difference == pytest.approx(np.mean(by_hand))
    assert found(records, {**GAINS, "minus": {}}).verdict == "fails"
    assert found(records[:3] + records[6:], GAINS).verdict == "not measured"  # random has no row with the compressor
    assert found(records[3:], GAINS).verdict == "not measured"  # and here none without
    other = cell(0.60, method="random", seed=1, made_by=made_by(dataset="0" * 64)) + records[3:]
    assert found(other, GAINS).verdict == "not measured"  # what it would stand on is of other data


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_a_cell_holds_what_scipy_gives() -> None:
    records = cell(0.52, n=5, method="el2n", seed=1) + cell(0.5, n=5, method="el2n:end=hard", seed=2)
    ours, theirs = ([r.accuracy for r in records[:5]], [r.accuracy for r in records[5:]])
    evidence = found(records, EASY)
    one = evidence.cells[0]
    reference = scipy_stats.ttest_rel(ours, theirs)
    low, high = reference.confidence_interval(0.95)
    assert one.p == one.p_holm == pytest.approx(reference.pvalue)
    assert (one.difference - one.half, one.difference + one.half) == pytest.approx((low, high))
    # All 32 sign patterns, by the definition.
    differences = np.subtract(ours, theirs)
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=5)]
    assert evidence.test.p == pytest.approx(np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12))


def test_cells_are_corrected_as_statsmodels_does() -> None:
    records = list(itertools.chain.from_iterable(noisy(ipc, 0.08, ipc=ipc) for ipc in range(1, 6)))
    cells = found(records, EASY).cells
    assert [c.p_holm for c in cells] == pytest.approx(multipletests([c.p for c in cells], method="holm")[1])
    assert [c.says for c in cells] == ["for" if c.p_holm <= 0.05 else "open" for c in cells]
    assert any(c.p <= 0.05 < c.p_holm for c in cells)  # the correction decides something here


def test_rivals_of_one_replicate_count_once() -> None:
    rivals = ["herding", "kcenter", "craig", "badge"]
    records = cell(0.5, method="score") + [each for m in rivals for each in cell(0.4, method=m)]
    evidence = found(records, {"better": {"method": "score"}, "worse": {"method": rivals}})
    assert (len(evidence.cells), evidence.blocks, evidence.test.smallest_p) == (4, 3, 0.25)


def test_chance_is_one_over_the_number_of_classes() -> None:
    records = [record(accuracy, method="noise", replicate=r) for r, accuracy in enumerate((0.03, 0.04, 0.035))]
    contrast = {"better": {"method": "noise"}, "worse": "chance"}
    one = found(records, contrast).cells[0]
    assert one.difference == pytest.approx(0.035 - 1 / 100)
    assert one.p == pytest.approx(scipy_stats.ttest_1samp([0.03, 0.04, 0.035], 0.01).pvalue)
    assert found(records, contrast).verdict == "holds"
    about = [record(accuracy, method="noise", replicate=r) for r, accuracy in enumerate((0.008, 0.013, 0.011))]
    assert found(about, contrast).verdict == "undecided"


@pytest.mark.parametrize(("better", "verdict"), [(2, "fails"), (0, "holds"), (1, "undecided")])
def test_most_counts_rivals_and_can_fail(better: int, verdict: str) -> None:
    """Two rivals in two places, three replicates each: six blocks, whose smallest p is .031."""
    records = []
    for ipc in (1, 10):
        records += cell(0.5, method="random", ipc=ipc, seed=9)
        for number, method in enumerate(["rded", "sre2l"]):
            records += cell(0.6 if number < better else 0.4, method=method, ipc=ipc, seed=number)
    contrast = {"better": {"method": "random"}, "worse": {"method": ["rded", "sre2l"]}, "margin": -3}
    evidence = found(records, contrast, rule="most")
    assert evidence.share == 1 - better / 2
    assert evidence.verdict == verdict


# --- pairing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["dataset", "teacher", "protocol", "engine", "network"])
def test_rows_made_under_other_digests_are_refused_with_the_reason(part: str) -> None:
    records = cell(0.6, method="el2n", made_by={**made_by(), part: "0" * 64}) + cell(0.5, method="el2n:end=hard")
    evidence = found(records, EASY)
    assert (evidence.verdict, evidence.left_out[0][1]) == ("not measured", f"made under other digests of: {part}")


def test_protocols_compare_only_where_the_claim_is_about_them() -> None:
    records = cell(0.6, protocol="soft", seed=1) + cell(0.5, protocol="hard", compressor=None, seed=2)
    about = {"better": {"protocol": "soft", "compressor": "none"}, "worse": {"protocol": "hard", "compressor": "-"}}
    evidence = found(records, about)
    assert (evidence.cells[0].better, evidence.cells[0].worse) == ("soft none", "hard")
    assert evidence.verdict == "holds"
    assert found(records, {"better": {"compressor": "none"}, "worse": {"compressor": "-"}}).verdict == "not measured"


def test_only_replicates_that_both_have_are_paired_and_the_page_says_so(tmp_path: Path) -> None:
    records = cell(0.6, n=5, method="el2n", seed=1) + cell(0.5, n=3, method="el2n:end=hard", seed=2)
    assert (found(records, EASY).cells[0].n, found(records, EASY).cells[0].replicates) == (3, (5, 3))
    assert "unequal numbers of replicates in 1 of 1 cells" in page(tmp_path, records)


def test_no_replicate_in_common_is_no_pair() -> None:
    records = [record(0.6, method="el2n", replicate=0), record(0.5, method="el2n:end=hard", replicate=1)]
    assert found(records, EASY).left_out[0][1] == "no replicate with a result in common"


def test_of_two_versions_of_a_method_the_one_with_more_pairs_counts() -> None:
    old = cell(0.1, n=5, method="el2n", seed=3, made_by=made_by(method="0" * 64))
    new = cell(0.6, n=3, method="el2n", seed=1)  # the last record of a trial counts: two of the old remain
    evidence = found([*old, *new, *cell(0.5, n=5, method="el2n:end=hard", seed=2)], EASY)
    assert [round(each.mean_better, 1) for each in evidence.cells] == [0.6]
    assert "several versions" in evidence.left_out[0][1]


def test_a_star_stands_for_every_setting_and_a_row_never_meets_itself() -> None:
    records = cell(0.5, method="random") + cell(0.6, method="rded", seed=1) + cell(0.6, method="rded:factor=1", seed=2)
    evidence = found(records, {"better": {"method": ["rded", "rded:*"]}, "worse": {"method": "*"}})
    pairs = {(each.better, each.worse) for each in evidence.cells}
    ours = ("rded", "rded:factor=1")
    assert pairs == {*((a, "random") for a in ours), ours, ours[::-1]}


def test_coordinates_write_none_as_a_dash() -> None:
    (entry,) = entries_of(cell(0.5, compressor=None))
    assert (coordinates(entry)["compressor"], coordinates(entry)["labels"]) == ("-", "hard")


# --- the verb ---------------------------------------------------------------------------------------------------------


def write(folder: Path, records: list[Record], text: str = FILE) -> Path:
    for each in records:
        append(folder / "run" / "records.jsonl", each)
    (folder / "claims.toml").write_text(text)
    return folder / "claims.toml"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["claims", *map(str, arguments)])


def page(folder: Path, records: list[Record], text: str = FILE) -> str:
    result = run(write(folder, records, text), "--results", folder / "run")
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def test_the_page_tells_verdict_source_figures_and_records(tmp_path: Path) -> None:
    text = page(tmp_path, both(0.1) + both(0.1, ipc=1))
    assert f"Generated by `condensebench claims {tmp_path}/claims.toml --results {tmp_path}/run`" in text
    assert "## Easy images are better: holds" in text
    assert "The source: They are. (A paper, table 1)" in text
    assert f"| `{tmp_path}/run` |       12 |" in text
    assert "+10.0 ±" in text
    assert text.count("| for    |") == 2


def test_the_page_is_the_same_whatever_the_order_of_the_lines(tmp_path: Path) -> None:
    records = both(0.1) + both(-0.1, ipc=1)
    first, second = tmp_path / "a", tmp_path / "b"
    one, other = page(first, records), page(second, records[::-1])
    assert one.replace(str(first), "") == other.replace(str(second), "")


def test_of_two_results_the_later_line_counts_even_where_the_clock_was_set_back(tmp_path: Path) -> None:
    """As in every other table. Between folders there is nothing but the time."""
    before = both(-0.1, finished="2026-11-02T00:00:00.000000+00:00")
    again = both(0.1, finished="2026-11-01T00:00:00.000000+00:00")
    assert "## Easy images are better: holds" in page(tmp_path / "one", before + again)

    file = write(tmp_path / "two", again)
    write(tmp_path / "three", before)
    result = run(file, "--results", tmp_path / "two" / "run", "--results", tmp_path / "three" / "run")
    assert "## Easy images are better: fails" in result.stdout


def test_an_absent_claim_is_told_with_what_was_looked_for(tmp_path: Path) -> None:
    text = page(tmp_path, cell(0.5, method="el2n"))
    assert "## Easy images are better: not measured" in text
    assert "| [Easy images are better](#easy)" in text
    assert "`protocol small-soft-v1, method el2n:end=hard`" in text


def test_the_file_names_its_records_and_what_is_not_there_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, both(0.1), 'records = ["run", "later"]\n' + FILE)
    result = run(file, "--out", tmp_path / "CLAIMS.md")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "CLAIMS.md").read_text()
    assert f"| `{tmp_path}/later` | not there |" in text
    assert "holds" in text


def test_an_edited_line_is_left_out_and_told(tmp_path: Path) -> None:
    file = write(tmp_path, both(0.1))
    lines = tmp_path / "run" / "records.jsonl"
    lines.write_text(lines.read_text().replace('"steps":5000', '"steps":5001', 1))
    result = run(file, "--results", tmp_path / "run")
    assert result.exit_code == 1
    assert "the line was changed" in result.stderr


@pytest.mark.parametrize(
    ("slip", "told"),
    [
        (FILE.replace("better =", "beter ="), "claim 'easy' contrast number 1 beter: No key is named 'beter'. Did you"),
        (FILE.replace("says =", "said ="), "claim 'easy' said: No key is named 'said'. Did you mean 'id' or 'says'?"),
        (FILE.replace('says = "They are."', ""), "claim 'easy' says is missing"),
        (FILE.replace('{ method = "el2n" }', '{ metod = "el2n" }'), "No coordinate is named 'metod'. Did you mean"),
        (FILE.replace('"el2n" }', "[] }"), "method = [] must be a name or a list of names"),
        (FILE.replace('{ method = "el2n" }', '"el2n"'), "'el2n' is no table of coordinates"),
        (FILE.replace('"el2n" }', '"elzn" }'), "claim 'easy': No method is named 'elzn'. Did you mean 'el2n'"),
        (FILE.replace('"They are."', '"They are."\nrule = "best"'), "claim 'easy' rule: Input should be 'order' or"),
        (FILE + "margin = 400\n", "margin: 400.0 is no difference of accuracies in points"),
        (FILE.replace('{ method = "el2n" }', "{}"), "`better` and `worse` must each name what they stand for"),
        (FILE + FILE, "two claims have the id 'easy'"),
        (FILE.replace("[[claim]]", "[[claim]"), "claims.toml: "),
        ("", "claim is missing"),
    ],
)  # fmt: skip
def test_a_slip_in_the_file_is_told_in_one_sentence(slip: str, told: str, tmp_path: Path) -> None:
    write(tmp_path, both(0.1), slip)
    with pytest.raises(UserError) as error:
        CliRunner().invoke(
            cli,
            ["claims", str(tmp_path / "claims.toml"), "--results", str(tmp_path / "run")],
            catch_exceptions=False,
            standalone_mode=False,
        )
    assert told in str(error.value)
    assert "claims.toml" in str(error.value)


def test_records_that_are_named_must_be_there(tmp_path: Path) -> None:
    file = write(tmp_path, [])
    for arguments, told in ((["--results", tmp_path / "no"], "no records at"), ([], "names no records")):
        result = run(file, *arguments)
        assert isinstance(result.exception, UserError)
        assert told in str(result.exception)


def test_outside_the_checkout_the_message_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["claims"])
    assert isinstance(result.exception, UserError)
    assert "results/claims.toml: there is no such claims file" in str(result.exception)
    assert "`condensebench claims FILE --results DIR`" in str(result.exception)


def test_the_projects_own_claims_are_well_formed() -> None:
    claims = read_claims(ROOT / "results/claims.toml")
    assert len(claims.claim) >= 10
    assert all(each.says.strip() and each.source for each in claims.claim)
