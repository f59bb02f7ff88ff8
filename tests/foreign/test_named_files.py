"""What a spec names on disk is called by name and content: the same set is the same trial wherever it lies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bench import places
from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.driver.prepared import Prepared, RunOptions
from bench.errors import UserError
from bench.foreign import named_files
from bench.foreign.named_files import content_digest, located, name_content
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages.condense import condense
from bench.stages.teach import teach
from bench.trials.plan import Grid, Plan
from bench.trials.trial import Trial
from tests.methods.synthesis.test_folder import chosen, save_tree

PROTOCOL = "small-hard-v1"


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(named_files.VARIABLE, "")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return save_tree(tmp_path / "sets" / "rded", *chosen(1))


def trials(method: str) -> list[Trial]:
    grid = Grid(datasets=["digits"], protocols=[PROTOCOL], methods=[method], ipcs=[1], replicates=1)
    return Plan([grid]).trials(discover())


def test_a_trial_holds_the_name_and_the_digest_and_never_the_path(tree: Path, tmp_path: Path) -> None:
    (trial,) = trials(f"folder:path={tree}")
    assert trial.method == f"folder:path=rded@{content_digest(tree)[:12]}"
    shutil.copytree(tree, tmp_path / "elsewhere" / "rded")
    for path in ("sets/rded", "./elsewhere/rded/", "elsewhere/../sets/rded"):
        assert trials(f"folder:path={path}") == [trial]
    assert trials(trial.method) == [trial]
    (tree / "000" / "000.png").unlink()
    assert trials("folder:path=sets/rded") != [trial]


def test_a_typed_digest_is_checked_before_anything_runs_and_is_no_part_of_the_trial(tree: Path) -> None:
    digest = content_digest(tree)
    assert trials(f"folder:path=sets/rded,digest={digest[:20].upper()}") == trials("folder:path=sets/rded")
    with pytest.raises(UserError, match=f"digest={'0' * 12} is not that of sets/rded, which is {digest[:12]}"):
        trials(f"folder:path=sets/rded,digest={'0' * 12}")
    with pytest.raises(UserError, match=r"method 'folder', path=sets/none: .*no such file or folder"):
        trials("folder:path=sets/none")


def test_the_class_list_counts_by_its_content_too(tree: Path) -> None:
    names = sorted(path.name for path in tree.iterdir())
    for file in ("a.txt", "b.txt"):
        Path(file).write_text("\n".join(names))
    by_a, by_b = (trials(f"folder:path=sets/rded,classes={file}")[0].method for file in ("a.txt", "b.txt"))
    assert by_a.replace("a@", "b@") == by_b
    Path("a.txt").write_text("\n".join(reversed(names)))
    assert trials("folder:path=sets/rded,classes=a.txt")[0].method != by_a


def test_records_made_before_are_still_read() -> None:
    before = "folder:digest=0123456789ab,path=/home/somebody/sets/rded"
    assert str(parse(discover(), "method", before)) == before


def test_workers_find_the_files_by_what_they_are_told_or_in_a_data_folder(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(places.VARIABLE, raising=False)
    named = name_content("sets/rded")
    assert located(named) == (tree.resolve(), content_digest(tree))
    os.environ[named_files.VARIABLE] = ""
    with pytest.raises(UserError, match=f"{named} is not here: .*--data DIR"):
        located(named)
    tree.rename(tmp_path / "moved")
    (tmp_path / "data").mkdir()
    (tmp_path / "moved").rename(tmp_path / "data" / "rded")
    assert located(named)[0] == Path("data/rded")


def test_another_content_under_the_name_is_never_taken_for_it(tree: Path) -> None:
    named = name_content("sets/rded")
    (tree / "009" / "009.png").write_bytes(b"exchanged since")
    with pytest.raises(UserError, match="is not here: no file or folder rded with this content"):
        located(named)


@pytest.mark.parametrize(
    ("file", "name"),
    [("a b,c.tar.gz", "a-b-c"), ("images_best.pt", "images_best"), ("v1.5.npz", "v1.5"), ("é=;.pt", "é")],
)
def test_a_name_has_no_letters_that_a_spec_cannot_hold(file: str, name: str) -> None:
    Path(file).write_bytes(b"content")
    named = name_content(file)
    assert named.split("@")[0] == name
    assert str(parse(discover(), "method", f"folder:path={named}")) == f"folder:path={named}"


def test_a_run_tells_the_name_before_it_starts(tree: Path, tmp_path: Path) -> None:
    chosen_trials = trials("folder:path=sets/rded")
    name_content("sets")  # of another run
    workspace = Workspace(tmp_path / "store", discover())
    notes = "\n".join(Prepared(RunOptions(), workspace, chosen_trials).notes)
    assert f"{tree.resolve()} is rded@{content_digest(tree)[:12]}: records name it so" in notes
    assert "sets@" not in notes


def test_what_is_kept_of_a_path_is_kept_by_its_content(tree: Path, tmp_path: Path) -> None:
    """Verbs that print no records take paths as they are typed: no old set may stand for a new content."""
    ws = Workspace(tmp_path / "store", discover())
    dataset = describe(ws, "digits")
    teacher = teach(ws, "small-teacher-v1", dataset)
    kept = [condense(ws, "folder:path=sets/rded,order=trust", dataset, teacher, 1, 0).address for _ in range(2)]
    shutil.copytree(tree, tmp_path / "elsewhere" / "rded")
    kept.append(condense(ws, "folder:path=elsewhere/rded,order=trust", dataset, teacher, 1, 0).address)
    assert len(set(kept)) == 1
    Image.new("L", (8, 8)).save(next((tree / "004").iterdir()))
    assert condense(ws, "folder:path=sets/rded,order=trust", dataset, teacher, 1, 0).address != kept[0]
