"""`accept`: a stranger's archive is added whole, or refused by name and nothing is changed."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path

import pytest

from bench.checks.records.board import Line
from bench.checks.verify.verification import drawn
from bench.finding import Finding
from bench.foreign.plain_zip import packed, unpacked
from bench.plugins.registry import discover
from bench.records import files
from bench.submission.admission import RULES
from bench.submission.archive_contents import as_json
from tests.worlds.honest import altered, write
from tests.worlds.kinds import ANOTHER
from tests.worlds.plugins import SELECT
from tests.worlds.run import DATASET
from tests.worlds.submitted import Post, errors

OTHER = SELECT.replace("offset : offset + ipc", "offset + 1 : offset + ipc + 1")


def changed(post: Post, **content: bytes | None) -> Path:
    """An honest archive with other files (None: without them), its list made anew."""
    files = {**unpacked(post.send(post.honest("herding"))), **content}
    return post.repack({name: text for name, text in files.items() if text is not None})


# --- accepted


def test_an_honest_submission_is_added_whole(post: Post) -> None:
    plugin = post.plugin()
    lines = post.honest("mine", plugins=[plugin])
    archive = post.send(lines, [plugin])
    ruling = post.judge(archive)
    assert (ruling.accepted, ruling.added, errors(ruling.findings)) == (True, 6, set())
    assert "6 records added; 5 of 5 records run again" in ruling.summary
    assert [record.line() for record in files.load(post.board)] == [line.line() for line in lines]
    assert discover([post.board / "plugins"]).get("method", "mine").digest == lines[-1].made_by["method"]
    (place,) = (post.board / "submissions").iterdir()
    kept = unpacked(archive)
    assert {name: (place / name).read_bytes() for name in kept} == kept
    assert json.loads((place / "accepted.json").read_bytes())["verdict"]["summary"] in ruling.summary


def test_it_is_added_once(post: Post) -> None:
    archive = post.send(post.honest("herding"))
    post.judge(archive)
    before = post.tree()
    ruling = post.judge(archive)
    assert (ruling.accepted, ruling.added) == (True, 0)
    assert "accepted before" in ruling.summary
    assert post.tree() == before


def test_a_second_one_needs_no_baseline_of_its_own(post: Post) -> None:
    random, herding, el2n = (post.honest("herding", "el2n")[start : start + 3] for start in (0, 3, 6))
    assert post.refuses(post.forge(herding)) == {"no-random"}
    write(post.board, random)
    assert post.judge(post.forge(el2n)).added == 3
    ruling = post.judge(post.send([*random, *herding]))
    assert (ruling.accepted, ruling.added) == (True, 3)
    assert "3 records added, 3 were there" in ruling.summary
    assert len(files.load(post.board)) == 9


def test_a_result_of_another_machine_does_not_replace_the_one_that_is_there(post: Post) -> None:
    lines = post.honest("herding")
    write(post.board, lines[:3])
    theirs = [altered(line, accuracy=line.accuracy - 0.05, environment=ANOTHER) for line in lines[:3]]
    ruling = post.judge(post.forge([*theirs, *lines[3:]]))
    assert (ruling.accepted, ruling.added) == (True, 3)
    assert {f.rule for f in ruling.findings if f.severity == "note"} >= {"already-there"}
    assert {record.digest for record in files.load(post.board)} == {line.digest for line in lines}


def test_results_of_newer_code_and_of_failed_trials_are_added(post: Post) -> None:
    lines = post.honest("herding")
    failed = altered(
        lines[3], status="failed", accuracy=None, error={"type": "OSError", "message": "-", "traceback": "-"}
    )
    write(post.board, [altered(lines[0], made_by={"method": "7" * 64}), *lines[1:3], failed, *lines[4:]])
    assert post.judge(post.send(lines)).added == 2


def test_what_the_leaderboard_breaks_already_is_not_the_senders_fault(post: Post) -> None:
    write(post.board, post.honest("score", ipc=10)[3:])  # without `random`, and with an edited line
    with (post.board / "records.jsonl").open("a") as file:
        file.write(post.honest("score")[-1].line().replace('"accuracy":0.', '"accuracy":0.9') + "\n")
    assert post.judge(post.send(post.honest("herding"))).added == 6


def test_a_dry_run_reads_and_writes_nothing(post: Post) -> None:
    plugin = post.plugin()
    archive = post.send(post.honest("mine", plugins=[plugin]), [plugin])
    post.rerun = lambda *_, **__: pytest.fail("it ran")
    ruling = post.judge(archive, dry_run=True)
    assert ruling.accepted
    assert "6 records would be added. Its plugins: method 'mine'. Nothing was run" in ruling.summary
    assert not post.board.exists()


# --- refused


def test_every_archive_that_is_none_is_refused(post: Post) -> None:
    path = post.root / "sent.zip"
    for content in (b"", b"PK\x03\x04", os.urandom(1000)):
        path.write_bytes(content)
        assert post.refuses(path) == {"unsafe-archive"}
    honest = unpacked(post.send(post.honest("herding"), name="honest.zip"))
    link = zipfile.ZipInfo("plugins/mine.py")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    for name in (link, "../../plugins/mine.py", "/etc/cron.d/mine", "plugins\\mine.py"):
        with zipfile.ZipFile(path, "w") as archive:
            for each, text in honest.items():
                archive.writestr(each, text)
            archive.writestr(name, "/etc/passwd")
        assert post.refuses(path) == {"unsafe-archive"}


@pytest.mark.parametrize(
    "content",
    [
        {"records.jsonl": None},
        {"checks/verify.json": None},
        {"plugins/mine.sh": b"rm -rf /"},
        {"notes.txt": b"hello"},
        {"checks/verify.json": b"[]"},
        {"checks/records.json": b'{"summary": 3, "findings": []}'},
        {"plan.toml": b"x" * (5 * 2**20)},
    ],
    ids=lambda content: ", ".join(content),
)
def test_an_archive_with_other_files_is_refused(post: Post, content: dict[str, bytes | None]) -> None:
    assert post.refuses(changed(post, **content)) == {"not-a-submission"}


def test_a_list_of_files_that_is_none_or_newer_is_refused(post: Post) -> None:
    honest = unpacked(post.send(post.honest("herding")))
    path = post.root / "sent.zip"
    for manifest in (b"", b"[" * 100_000, b"{}", b'{"format": 2, "more": 1}', b'{"format": 1}', b'{"format": true}'):
        path.write_bytes(packed({**honest, "submission.json": manifest}))
        assert post.refuses(path) == {"not-a-submission"}
    path.write_bytes(packed({name: text for name, text in honest.items() if name != "submission.json"}))
    assert post.refuses(path) == {"not-a-submission"}


def test_a_file_that_was_changed_afterwards_is_refused(post: Post) -> None:
    honest = unpacked(post.send(post.honest("herding")))
    path = post.root / "sent.zip"
    path.write_bytes(packed({**honest, "plan.toml": honest["plan.toml"] + b"\n"}))
    assert post.refuses(path) == {"altered-file"}


def test_findings_of_the_senders_own_checks_are_refused(post: Post) -> None:
    found = {"rule": "more-epochs", "where": "records.jsonl:1", "message": "400 epochs", "severity": "error"}
    report = as_json({"summary": "6 records", "findings": [found]})
    assert post.refuses(changed(post, **{"checks/records.json": report})) == {"own-findings"}


def test_records_that_are_none_are_refused(post: Post) -> None:
    lines = unpacked(post.send(post.honest("herding")))["records.jsonl"]
    edited = lines.replace(b'"steps":', b'"steps":1', 1)
    assert post.refuses(changed(post, **{"records.jsonl": edited})) == {"edited-line"}
    assert post.refuses(changed(post, **{"records.jsonl": lines[:-40]})) == {"torn-line"}
    assert post.refuses(changed(post, **{"records.jsonl": b"hello\n"})) == {"torn-line"}
    assert post.refuses(changed(post, **{"records.jsonl": b""})) == {"no-records"}
    assert post.refuses(changed(post, **{"records.jsonl": lines + lines.split(b"\n")[0] + b"\n"})) == {"repeated-trial"}


def test_a_plan_of_other_trials_is_refused(post: Post) -> None:
    plan = unpacked(post.send(post.honest("herding")))["plan.toml"]
    more = plan.replace(b'"herding"', b'"herding", "el2n"')
    assert post.refuses(changed(post, **{"plan.toml": more})) == {"other-plan"}
    for text in (plan.replace(b'"herding"', b'"nothing"'), b"[[grid", b"", b"a" + b".a" * 100_000):
        assert post.refuses(changed(post, **{"plan.toml": text})) == {"other-plan"}


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        ("bad-plugin", "mine.py", "def select(:\n"),
        ("bad-plugin", "mine.py", "x = 1\n"),
        ("bad-plugin", "mine.py", "(" * 50_000),
        ("bad-plugin", "mine.toml", "labels = ["),
        ("name-taken", "random.py", SELECT),
        ("name-taken", "other.py", f'NAME = "herding"\n{SELECT}'),
        ("name-taken", "small-hard-v1.toml", 'title = "mine"\n'),
        ("unused-plugin", "mine.py", SELECT),
        ("unconfined-plugin", "mine.py", f"{DATASET}\n"),
        ("unconfined-plugin", "mine.py", "def build(channels, size, num_classes, *, seed): ...\n"),
    ],
)
def test_plugins_are_refused_by_what_is_wrong_with_them(post: Post, rule: str, name: str, source: str) -> None:
    assert rule in post.refuses(changed(post, **{f"plugins/{name}": source.encode()}))


def test_a_data_set_that_the_acceptor_has_read_is_accepted(post: Post) -> None:
    plugin = post.plugin("theirs", DATASET)
    archive = changed(post, **{"plugins/theirs.py": plugin.read_bytes()})
    assert post.refuses(archive) == {"unconfined-plugin"}
    assert post.judge(archive, plugins=[plugin]).accepted


def test_a_name_belongs_to_whoever_came_first(post: Post) -> None:
    mine = post.plugin()
    post.judge(post.send(post.honest("mine", plugins=[mine]), [mine]))
    theirs = post.plugin(source=OTHER)
    archive = post.send(post.honest("mine", plugins=[theirs], ipc=10), [theirs])
    assert post.refuses(archive) == {"name-taken"}
    renamed = post.plugin("mine2", OTHER)
    assert post.judge(post.send(post.honest("mine2", plugins=[renamed]), [renamed])).added == 3


def test_another_result_of_the_same_code_and_machine_is_a_contradiction(post: Post) -> None:
    lines = post.honest("herding")
    write(post.board, lines)
    theirs = altered(lines[-1], accuracy=lines[-1].accuracy + 1 / 60)
    assert post.refuses(post.forge([*lines[:-1], theirs])) == {"contradiction"}


def test_a_result_that_somebody_else_handed_in_is_refused(post: Post) -> None:
    plugin = post.plugin()
    lines = post.honest("herding", "mine", plugins=[plugin])
    write(post.board, lines[:6])
    copies = [
        altered(line, accuracy=other.accuracy, test_loss=other.test_loss, train_loss=other.train_loss)
        for line, other in zip(lines[6:], lines[3:6], strict=True)
    ]
    assert post.refuses(post.forge(copies, [plugin])) == {"copied-replicate"}


def test_a_plugin_that_breaks_its_contract_is_refused_before_anything_runs_again(post: Post) -> None:
    plugin = post.plugin()
    archive = post.send(post.honest("mine", plugins=[plugin]), [plugin])
    post.plugin_findings = [Finding("gives-the-same-twice", "method 'mine'", "two calls, two sets")]
    post.rerun = lambda *_, **__: pytest.fail("it ran")
    assert post.refuses(archive) == {"gives-the-same-twice"}


def test_what_does_not_come_out_here_is_refused(post: Post) -> None:
    archive = post.send(post.honest("herding"))

    def differs(lines, cells, registry, out, **_):
        out.add("best-epoch", lines[0], "the accuracy after epoch 7 of 12")
        return "5 of 5 records run again, 4 as claimed to the bit"

    post.rerun = differs
    assert post.refuses(archive) == {"best-epoch"}


def test_what_cannot_be_compared_here_is_not_taken_on_trust(post: Post) -> None:
    archive = post.send(post.honest("herding"))

    def of_another_kind(count):
        def rerun(lines, cells, registry, out, **_):
            out.unchecked("not-reproduced", lines[:count], "a GPU; what rounding does was never measured")
            return "5 of 5 records run again, 0 as claimed to the bit"

        return rerun

    post.rerun = of_another_kind(5)
    assert post.refuses(archive) == {"nothing-run-again"}
    post.rerun = of_another_kind(4)
    assert post.judge(archive).accepted


def test_a_leaderboard_that_changed_meanwhile_is_looked_at_again(post: Post) -> None:
    lines = post.honest("herding")
    archive = post.send(lines)

    def meanwhile(sample, *_, **__):
        write(post.board, [altered(lines[0], accuracy=lines[0].accuracy - 1 / 60)])
        return "5 of 5 records run again, 5 as claimed to the bit"

    post.rerun = meanwhile
    ruling = post.judge(archive)
    assert not ruling.accepted
    assert errors(ruling.findings) == {"contradiction"}
    assert len(files.load(post.board)) == 1


# --- which records run again


def test_nobody_foresees_which_records_run_again(post: Post) -> None:
    lines = [Line(record, f"records.jsonl:{n}") for n, record in enumerate(post.honest("herding", "el2n", "score"), 1)]

    def places(*lot: str) -> list[str]:
        return [line.where for line in drawn(lines, 3, *lot)]

    assert places() == places()
    assert places("0123") == places("0123")
    assert len({tuple(places(str(lot))) for lot in range(20)}) > 15

    archive, seen = post.send([line.whole for line in lines]), []
    post.rerun = lambda sample, *_, **__: seen.append([line.where for line in sample]) or "5 of 5 records run again"
    for _ in range(2):
        post.judge(archive)
        for path in sorted(post.board.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    post.judge(archive, lot="0123")
    assert seen[0] != seen[1]
    assert "(lot 0123)" in json.loads(next(post.board.rglob("accepted.json")).read_bytes())["verdict"]["summary"]


def test_every_rule_of_this_room_is_found_by_some_test() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [rule for rule in RULES if f'"{rule}"' not in text] == []
