"""Readers of submissions: archives of strangers with records, a plan, plugins and the sender's checks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random

from bench.engine import ENGINE_VERSION
from bench.foreign.plain_zip import packed, unpacked
from bench.records.files import load
from bench.submission import archive_contents
from bench.submission.archive_contents import MANIFEST, as_json, open_submission, sha256
from bench.submission.plan_of_records import plan_differences, plan_of
from bench.trials.trial import Trial
from tests.fuzz.blobs import archive_changed
from tests.fuzz.changes import bytes_changed, content, value_changed
from tests.fuzz.reader import Reader, folder, of_file
from tests.fuzz.texts import committed, record_with_values, registry

CLEAN = as_json({"summary": "3 records", "findings": []})


@cache
def _honest() -> dict[str, bytes]:
    lines = [line for line in committed() if json.loads(line).get("schema") == 5][:3]
    trials = [Trial.from_dict(json.loads(line)["trial"]) for line in lines]
    files = {
        archive_contents.RECORDS: b"\n".join(lines) + b"\n",
        archive_contents.PLAN: plan_of(trials).encode(),
        archive_contents.ENVIRONMENT: as_json({"python": "3.11"}),
        archive_contents.CHECKED: CLEAN,
        archive_contents.VERIFIED: CLEAN,
        "plugins/mine.py": content("methods/selection/herding.py"),
    }
    return unpacked_bytes(archive_contents.pack(files, version="0.2.0", engine=str(ENGINE_VERSION), records=len(lines)))


def unpacked_bytes(archive: bytes) -> dict[str, bytes]:
    """The files of an archive."""
    path = folder() / "honest.zip"
    path.write_bytes(archive)
    return unpacked(path)


def _archive(random: Random) -> bytes:
    files = dict(_honest())
    name = random.choice(sorted(files))
    kind = random.randrange(10)
    if kind < 3:
        return archive_changed(packed(files), random)
    if name.endswith(".json") and kind < 7:
        files[name] = as_json(_without_surrogates(value_changed(json.loads(files[name]), random)))
    elif name == archive_contents.RECORDS and kind < 7:
        files[name] += record_with_values(random) + b"\n"
    else:
        files[name] = bytes_changed(files[name], random)
    if name != MANIFEST and random.random() < 0.8:  # the list is made right, as somebody would who means harm
        manifest = json.loads(files[MANIFEST])
        manifest["files"] = {each: sha256(data) for each, data in files.items() if each != MANIFEST}
        files[MANIFEST] = as_json(manifest)
    return packed(files)


def _without_surrogates(value: object) -> object:
    return json.loads(json.dumps(value).replace("\\ud800", "?"))


def _read(path: Path) -> None:
    """As `accept` does it before any code of the sender's is looked at."""
    submission = open_submission(path)
    submission.report(archive_contents.CHECKED)
    submission.report(archive_contents.VERIFIED)
    assert len(submission.id) == archive_contents.DIGITS
    records, plan = folder() / archive_contents.RECORDS, folder() / archive_contents.PLAN
    records.write_bytes(submission.files[archive_contents.RECORDS])
    plan.write_bytes(submission.files[archive_contents.PLAN])
    list(plan_differences(plan, [record.run for record in load(records).records], registry()))


READERS: dict[str, Reader] = {"submission": of_file("sent.zip", _archive, _read)}
