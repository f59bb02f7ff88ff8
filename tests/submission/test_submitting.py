"""`submit`: what is packed, what is found before, and what never leaves the sender's machine."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from bench import machine
from bench.errors import UserError
from bench.foreign.plain_zip import unpacked
from bench.plugins.registry import discover
from bench.submission import private_texts
from bench.submission.archive_contents import open_submission
from bench.submission.plan_of_records import plan_of
from bench.submission.submitting import submit
from bench.trials.plan import read_plan
from bench.trials.trial import Trial
from tests.worlds.honest import altered
from tests.worlds.plugins import SELECT, install
from tests.worlds.submitted import Post, errors


def test_an_archive_holds_all_that_a_leaderboard_needs(post: Post) -> None:
    plugin = post.plugin()
    lines = post.honest("mine", plugins=[plugin])
    files = unpacked(post.send(lines, [plugin]))
    assert sorted(files) == [
        "checks/records.json", "checks/verify.json", "environment.json", "plan.toml", "plugins/mine.py",
        "records.jsonl", "submission.json",
    ]  # fmt: skip
    assert files["records.jsonl"].decode().splitlines() == [line.line() for line in lines]
    assert files["plugins/mine.py"] == plugin.read_bytes()
    assert json.loads(files["environment.json"]) == machine.environment()
    assert json.loads(files["checks/verify.json"])["summary"].startswith("3 of 3 records run again")
    manifest = json.loads(files["submission.json"])
    assert (manifest["format"], manifest["records"], len(manifest["files"])) == (1, 6, 6)


def test_the_bytes_are_the_same_wherever_the_folder_lies(post: Post, tmp_path: Path) -> None:
    plugin = post.plugin()
    lines = post.honest("mine", plugins=[plugin])
    once = post.send(lines, [plugin]).read_bytes()
    other = Post(tmp_path / "another" / "place", post.store, post.monkeypatch)
    shutil.copytree(post.root / "sender", other.root / "sender")
    assert other.send(lines, [other.root / "sender" / "mine.py"]).read_bytes() == once


def test_the_last_record_of_a_trial_is_packed(post: Post) -> None:
    old, *rest = post.honest("herding")
    lines = [altered(old, accuracy=0.5, environment={"processor": "another"}), *rest, old]
    assert len(unpacked(post.send(lines))["records.jsonl"].splitlines()) == len(rest) + 1


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("more-epochs", {"epochs": 400}),
        ("best-epoch", {"measured_after": 17}),
        ("test-leak", {"condensed": {"in_test_exact": 3}}),
        ("foreign-code", {"made_by": {"method": "4" * 64}}),
    ],
)
def test_what_every_leaderboard_refuses_is_not_packed(post: Post, rule: str, changed: dict[str, object]) -> None:
    *rest, last = post.honest("herding")
    done = post.pack([*rest, altered(last, **changed)])
    assert done.archive is None
    assert rule in errors(done.findings)


def test_what_does_not_come_out_again_is_not_packed(post: Post) -> None:
    def differs(lines, cells, registry, out, **_):
        out.add("not-reproduced", lines[0], "claimed 90 %, here 80 %")
        return "1 of 1 records run again, 0 as claimed to the bit"

    post.rerun = differs
    done = post.pack(post.honest("herding"))
    assert done.archive is None
    assert errors(done.findings) == {"not-reproduced"}


def test_a_folder_without_records_and_an_unknown_method_are_told(post: Post) -> None:
    with pytest.raises(UserError, match="no records at"):
        submit(post.root / "nowhere", store=post.store)
    plugin = post.plugin()
    (found,) = [f for f in post.pack(post.honest("mine", plugins=[plugin])).findings if f.severity == "error"]
    assert found.rule == "unknown-name"
    assert "--plugin FILE" in found.message


# --- plans


def test_a_plan_of_records_has_their_trials_and_no_other(post: Post) -> None:
    soft = {"protocol": "small-soft-v1", "ipc": 10}
    lines = [*post.honest("herding", "el2n"), *post.honest("score", replicates=2, **soft)]
    lines += post.honest("herding", **soft, compressor="none", budget=None)
    trials = [line.run for line in lines]
    path = post.root / "plan.toml"
    path.write_text(plan_of(trials))
    assert sorted(read_plan(path).trials(discover()), key=str) == sorted(set(trials), key=str)


def test_the_senders_plan_has_to_be_that_of_the_records(post: Post) -> None:
    lines = post.honest("herding")
    plan = post.root / "plan.toml"
    text = plan_of([line.run for line in lines])
    plan.write_text(f'notes = "why these"\n{text}')
    packed = post.pack(lines, plan=plan)
    assert packed.archive is not None
    plan.write_text(text.replace('"herding"', '"herding", "el2n"'))
    (found,) = [f for f in post.pack(lines, plan=plan).findings if f.severity == "error"]
    assert found.rule == "other-plan"
    assert found.message.startswith("3 trials of the plan have no record: digits ipc=1 el2n")


# --- what stays


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("# /home/alice/sets", "private-path"),
        ("# C:\\Users\\alice\\sets", "private-path"),
        ("# {folder}/results", "private-path"),
        ("# on {host}", "private-path"),
        ("KEY = 'AKIAABCDEFGHIJKLMNOP'", "secret"),
        ("# -----BEGIN OPENSSH PRIVATE KEY-----", "secret"),
        ("URL = 'https://me:geheim123@example.org'", "secret"),
        ("password = 'correct horse battery'", None),
        ("password = 'correct-horse-battery'", "secret"),
        ("# {variable}", "secret"),
        ("# a/b and /usr/share/fonts", None),
    ],
)
def test_private_text_in_a_plugin_is_found(post: Post, text: str, rule: str | None, monkeypatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "0123-geheim-4567")
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-box-17")
    told = text.format(folder=post.root / "sender", host="gpu-box-17", variable="0123-geheim-4567")
    plugin = post.plugin(source=f"{SELECT}\n{told}\n")
    done = post.pack(post.honest("mine", plugins=[plugin]), [plugin])
    assert errors(done.findings) == ({rule} if rule else set())
    assert (done.archive is None) == bool(rule)
    for found in done.findings:
        if found.rule == rule:
            assert found.where.startswith("plugins/mine.py:")
            assert "geheim" not in found.message


def test_a_path_in_the_provenance_of_a_record_is_found(post: Post) -> None:
    *rest, last = post.honest("herding")
    done = post.pack([*rest, altered(last, provenance={"read": f"{Path.home()}/pictures"})])
    assert [(f.rule, f.where) for f in done.findings if f.severity == "error"] == [("private-path", "records.jsonl:6")]


def test_an_honest_archive_names_nothing_of_this_machine(post: Post) -> None:
    plugin = post.plugin()
    content = b"".join(unpacked(post.send(post.honest("mine", plugins=[plugin]), [plugin])).values()).decode()
    for private in (str(post.root), str(post.store), str(Path.home()) + "/", socket.gethostname()):
        assert private not in content


def test_an_environment_keeps_what_is_no_secret() -> None:
    environment = {"HF_TOKEN": "hf_0123456789", "PATH": "/usr/bin", "AWS_SECRET_ACCESS_KEY": "x" * 40, "KEYMAP": "de"}
    private_texts.without_secrets(environment)
    assert environment == {"PATH": "/usr/bin", "KEYMAP": "de"}


# --- plugins


def test_a_plugin_of_an_installed_package_is_packed(post: Post, tmp_path, monkeypatch) -> None:
    points = "[condensebench.methods]\nalone = theirs.alone\nwhole = theirs.whole\n"
    whole = f"from .part import START\n{SELECT}".replace("offset: int = 0", "offset: int = 0, more: int = 0")
    whole = whole.replace("[offset :", "[START + offset :")
    files = {"__init__.py": "", "alone.py": SELECT, "whole.py": whole, "part.py": "START = 0\n"}
    install(tmp_path / "site", "theirs", files, points)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    post.discover = discover
    archive = post.send(post.honest("alone"))
    assert open_submission(archive).plugins == {"alone.py": (tmp_path / "site/theirs/alone.py").read_bytes()}
    with pytest.raises(UserError, match=r"imports modules beside it\. Make one file of it"):
        post.pack(post.honest("whole"))


def test_a_file_name_that_no_archive_can_hold_is_told(post: Post) -> None:
    plugin = post.plugin("my method")
    with pytest.raises(UserError, match="Rename the file"):
        post.pack(post.honest("herding"), [plugin])


def test_a_trial_is_rebuilt_whatever_its_replicate(post: Post) -> None:
    (record, *_) = post.honest()
    other = Trial(**{**record.run.as_dict(), "replicate": 4})
    assert "replicates = 5" in plan_of([record.run, other])
