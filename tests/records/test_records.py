"""Records: what a crash, an edit, a second run or another version can do to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.errors import UserError
from bench.plugins.former_code import FILE
from bench.records import schema as module
from bench.records.files import append, latest, load, locked, merge, status_of
from bench.records.schema import migrate
from tests.worlds import ROOT
from tests.worlds.records import made_by, record


@pytest.mark.parametrize(("key", "value"), [("replicate", "x"), ("replicate", True), ("ipc", 1.5), ("budget", 30)])
def test_a_trial_whose_fields_have_other_types_is_no_record(key: str, value: Any) -> None:
    fields = record(0.5).fields()
    with pytest.raises(ValidationError, match=rf"trial\.{key} = .* must be"):
        module.Record(**{**fields, "trial": {**fields["trial"], key: value}})


def test_what_is_appended_is_what_is_loaded(tmp_path: Path) -> None:
    written = [
        record(0.5),
        record(None, method="el2n", status="failed"),
        record(None, method="score", compressor="rpca", budget="30x", status="infeasible"),
        record(0.25, compressor=None, protocol="small-hard-v1"),
    ]
    for each in written:
        append(tmp_path / "new" / "a.jsonl", each)
    loaded = load(tmp_path / "new")
    assert loaded.records == written == list(loaded)
    assert loaded.problems == []
    assert load(tmp_path / "new" / "a.jsonl").records == written


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    provenance=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    ),
    accuracy=st.floats(0, 1),
    loss=st.floats(),
)
def test_every_value_survives_the_line(tmp_path_factory, provenance, accuracy, loss) -> None:
    path = tmp_path_factory.mktemp("records") / "a.jsonl"
    written = record(accuracy, provenance=provenance, test_loss=loss)
    append(path, written)
    loaded = load(path)
    assert loaded.records == [written]
    assert loaded.records[0].digest == written.digest
    assert path.read_bytes().count(b"\n") == 1


def test_odd_provenance_never_costs_a_record(tmp_path: Path) -> None:
    odd = {"array": np.arange(3), "scalar": np.float32(0.5), "nan": np.nan, "path\udc80": Path("a\udc80"), 7: {"b"}}
    append(tmp_path / "a.jsonl", record(np.float64(0.5), provenance=odd, train_loss=np.inf))
    (back,) = load(tmp_path).records
    assert back.provenance["array"] == [0, 1, 2]
    assert back.provenance["scalar"] == 0.5
    assert back.provenance["nan"] == "nan"
    assert back.train_loss is None


def test_a_line_cut_anywhere_is_a_note_and_never_swallows_the_next(tmp_path: Path) -> None:
    first, second, third = (record(0.1 * r, replicate=r) for r in range(3))
    whole = (first.line() + "\n" + second.line() + "\n").encode()
    start = len(first.line()) + 1
    for cut in range(start + 1, len(whole) - 1, 23):
        path = tmp_path / f"{cut}.jsonl"
        path.write_bytes(whole[:cut])
        loaded = load(path)
        assert loaded.records == [first]
        assert not loaded.tampered
        (problem,) = loaded.problems
        assert (problem.kind, problem.level, problem.place) == ("torn", "note", f"{path}:2")
        assert loaded.notes == [f"note: {path}:2: the last line was cut off, its trial counts as not run"]

        append(path, third)
        loaded = load(path)
        assert loaded.records == [first, third]
        (problem,) = loaded.problems
        assert (problem.kind, problem.level, problem.place) == ("torn", "WARNING", f"{path}:2")
        assert loaded.notes == [f"WARNING: {path}:2: {problem.text}"]


def test_a_whole_line_without_its_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(record(0.5).line())
    assert load(path).records == [record(0.5)]
    append(path, record(0.6, replicate=1))
    assert load(path).records == [record(0.5), record(0.6, replicate=1)]


def test_a_file_with_nothing_but_the_beginning_of_a_line_is_still_a_record_file(tmp_path: Path) -> None:
    for length in (0, 1, 5, 30):
        (tmp_path / "a.jsonl").write_text(record(0.5).line()[:length])
        assert load(tmp_path).records == []


def test_killed_while_appending_only_the_running_line_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from tests.worlds.records import record; from bench.records.files import append\n"
        "for r in range(10**6):\n"
        "    append(sys.argv[1], record(0.5, replicate=r, provenance={'text': 'x' * 20000}))\n"
        "    print(r, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path), str(ROOT)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    reported = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    reported += [int(line) for line in process.communicate()[0].splitlines()]
    found = [each.trial["replicate"] for each in load(path).records]
    assert found[: len(reported)] == reported, "a line that was reported as written is missing"
    assert len(found) <= len(reported) + 1


def test_an_edited_figure_is_found_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append(path, record(0.5))
    append(path, record(0.6, replicate=1))
    path.write_text(path.read_text().replace('"accuracy":0.6', '"accuracy":0.9'))
    loaded = load(tmp_path)
    assert loaded.records == [record(0.5)]
    assert loaded.tampered
    (problem,) = loaded.problems
    assert (problem.kind, problem.place) == ("tampered", f"{path}:2")
    assert loaded.notes == [f"{path}:2: the line was changed after it was written (its digest does not fit)"]
    assert loaded.left_out == [record(0.6, replicate=1).trial]


def test_order_of_keys_and_spaces_are_no_edit(tmp_path: Path) -> None:
    fields = json.loads(record(0.5).line())
    rest = dict(reversed([(key, value) for key, value in fields.items() if key != "schema"]))
    (tmp_path / "a.jsonl").write_text(f'{{"schema":{module.SCHEMA}, ' + json.dumps(rest)[1:] + "\n")
    assert load(tmp_path).records == [record(0.5)]


@pytest.mark.parametrize(
    "line", ["garbage", "[1]", "null", '{"accuracy":NaN,"digest":"x"}', "\0\0\0", '{"digest":"x"}']
)
def test_an_unreadable_line_in_the_middle_is_reported_loudly(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{record(0.5).line()}\n{line}\n{record(0.6, replicate=1).line()}\n")
    loaded = load(path)
    assert loaded.records == [record(0.5), record(0.6, replicate=1)]
    (problem,) = loaded.problems
    assert problem.place == f"{path}:2"
    assert problem.level != "note"


def test_missing_folders_and_other_files_say_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"condensebench run --results"):
        load(tmp_path / "nowhere")
    (tmp_path / "notes.jsonl").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"no record file.*condensebench leaderboard"):
        load(tmp_path)
    (tmp_path / "empty").mkdir()
    assert load(tmp_path / "empty").records == []


def test_a_record_of_a_newer_schema_says_upgrade(tmp_path: Path) -> None:
    fields = {**record(0.5).fields(), "schema": module.SCHEMA + 1}
    (tmp_path / "a.jsonl").write_text(
        json.dumps({**fields, "digest": module.line_digest(fields)}, separators=(",", ":"))
    )
    with pytest.raises(UserError, match="Upgrade"):
        load(tmp_path)


def test_an_older_schema_is_migrated_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCHEMA", 3)
    steps = {1: lambda fields: {**fields, "b": fields["a"]}, 2: lambda fields: {**fields, "c": fields["b"]}}
    monkeypatch.setattr(module, "MIGRATIONS", steps)
    assert migrate({"schema": 1, "a": 5}) == {"schema": 3, "a": 5, "b": 5, "c": 5}
    assert migrate({"schema": 3, "a": 5}) == {"schema": 3, "a": 5}


def earlier(schema: int, *added: str, **changed: Any) -> str:
    """A line of an earlier schema, which did not have the fields `added` since."""
    fields = {key: value for key, value in record(0.5, **changed).fields().items() if key not in added}
    fields["schema"] = schema
    return json.dumps({**fields, "digest": module.line_digest(fields)}, separators=(",", ":"))


def test_code_digests_of_the_third_schema_become_those_of_the_same_code_and_others_stay(tmp_path: Path) -> None:
    known = json.loads(FILE.read_text(encoding="utf-8"))["digests"]
    herding, convnet = known["method herding"], known["network convnet"]
    (before,), (network,) = herding["before"], convnet["before"]
    of_data = made_by(method=before, network=network, teacher=before)
    line = earlier(3, made_by=of_data)
    (tmp_path / "a.jsonl").write_text(line + "\n")
    loaded = load(tmp_path)
    assert loaded.notes == []
    assert loaded.records[0].made_by == {**of_data, "method": herding["after"], "network": convnet["after"]}
    assert (tmp_path / "a.jsonl").read_text() == line + "\n"
    written = record(0.5, made_by=of_data)
    append(tmp_path / "b.jsonl", written)
    assert load(tmp_path / "b.jsonl").records[0].made_by == of_data


def first_schema(**changed: Any) -> str:
    """A line as this project wrote it before there were label regimes."""
    told = ("labels", "recipe", "images_seen", "measured_after", "num_test", "test_opened", "condensed")
    return earlier(1, *told, "invalid_labels", **changed)


def test_records_of_the_second_schema_do_not_tell_what_a_compressor_mended(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(earlier(2, "invalid_labels", labels="stored") + "\n")
    loaded = load(tmp_path)
    assert loaded.problems == []
    assert [(each.labels, each.invalid_labels) for each in loaded] == [("stored", None)]


def test_records_of_the_first_schema_are_read_and_what_they_do_not_tell_is_none(tmp_path: Path) -> None:
    hard = {"compressor": None, "protocol": "small-hard-v1"}
    (tmp_path / "a.jsonl").write_text(first_schema() + "\n" + first_schema(**hard) + "\n")
    loaded = load(tmp_path)
    assert loaded.problems == []
    assert [each.labels for each in loaded] == ["stored", "hard"]
    assert [each.accuracy for each in loaded] == [0.5, 0.5]
    assert {(each.recipe, each.num_test, each.test_opened, each.condensed) for each in loaded} == {(None,) * 4}
    append(tmp_path / "a.jsonl", loaded.records[0])
    assert load(tmp_path).records == [*loaded.records, loaded.records[0]]


def test_an_edited_line_of_the_first_schema_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(first_schema().replace('"accuracy":0.5', '"accuracy":0.9') + "\n")
    loaded = load(tmp_path)
    assert loaded.records == []
    assert [problem.kind for problem in loaded.problems] == ["tampered"]


def test_a_line_of_the_first_schema_without_a_trial_is_left_out(tmp_path: Path) -> None:
    fields = {"schema": 1, "id": "0"}
    (tmp_path / "a.jsonl").write_text(
        json.dumps({**fields, "digest": module.line_digest(fields)}, separators=(",", ":"))
    )
    (problem,) = load(tmp_path).problems
    assert (problem.kind, problem.level, problem.trial) == ("refused", "WARNING", None)


def test_the_committed_records_are_read_whole() -> None:
    loaded = load(ROOT / "results" / "default-plan")
    assert loaded.records
    assert loaded.problems == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"accuracy": None}, "accuracy"),
        ({"accuracy": 52.1}, "accuracy"),
        ({"accuracy": float("nan")}, "accuracy"),
        ({"status": "failed"}, "error"),
        ({"status": "infeasible"}, "smallest_bytes"),
        ({"id": "0" * 16}, "is not that of the trial"),
        ({"trial": {"id": "x"}}, "trial lacks"),
        ({"finished": "2026-01-01T00:00:00"}, "UTC"),
        ({"finished": "yesterday"}, "finished"),
        ({"bytes_images": -1}, "bytes_images"),
        ({"labels": "soft"}, "labels"),
        ({"condensed": {"digest": "x"}}, "per_class"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_record_that_makes_no_sense_is_never_built(wrong: dict, named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        module.Record(**{**record(0.5).fields(), **wrong})


def test_the_last_record_of_a_trial_counts() -> None:
    old, other, new = record(0.5), record(0.7, method="el2n"), record(0.6)
    assert latest([old, other, new]) == [new, other]


def test_merging_folders_counts_shared_lines_once(tmp_path: Path) -> None:
    for replicate, folders in enumerate(["a", "ab", "b"]):
        for folder in folders:
            append(tmp_path / folder / "r.jsonl", record(0.5, replicate=replicate))
    merged = merge([tmp_path / "b", tmp_path / "a"])
    assert merged.records == [record(0.5, replicate=r) for r in range(3)]
    assert merge([tmp_path / "a", tmp_path / "a"]).records == load(tmp_path / "a").records


def test_a_folder_with_several_files_is_read_in_order_of_time(tmp_path: Path) -> None:
    append(tmp_path / "z.jsonl", record(0.1, finished="2026-01-01T00:00:00+00:00"))
    append(tmp_path / "a.jsonl", record(0.2, finished="2026-01-02T00:00:00+00:00"))
    assert [each.accuracy for each in load(tmp_path)] == [0.1, 0.2]
    # Within a file the order of appending holds, even where the clock was set back.
    append(tmp_path / "a.jsonl", record(0.3, finished="2025-01-01T00:00:00+00:00"))
    assert latest(load(tmp_path))[0].accuracy == 0.3


def test_the_state_of_a_trial_is_that_of_its_last_record() -> None:
    ok, failed, infeasible = record(0.5), record(None, status="failed"), record(None, status="infeasible")
    edited = record(0.5, made_by=made_by(method="edited"))
    now, trial_id = made_by(), ok.id
    for records, state in [
        ([], "missing"),
        ([record(0.5, method="el2n")], "missing"),
        ([ok], "done"),
        ([infeasible], "done"),
        ([failed], "failed"),
        ([failed, ok], "done"),
        ([ok, failed], "failed"),
        ([edited], "stale"),
        ([edited, ok], "done"),
        ([ok, edited], "stale"),  # the leaderboard would show the edited one
    ]:
        assert status_of(trial_id, now, records) == state
        assert status_of(trial_id, now, {each.id: each for each in records}) == state


def test_only_one_run_writes_to_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "results"):
        with pytest.raises(UserError, match=rf"process {os.getpid()}.*--results"), locked(tmp_path / "results"):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "results"):
        pass
