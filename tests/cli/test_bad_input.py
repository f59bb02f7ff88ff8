"""Every verb answers a mistake with a sentence that says what was typed, what is allowed or what to type; never with a
traceback, and never with a file written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.cli import Verbs, cli

MOST_LINES = 6  # of an answer: click's own are some of usage, one empty, one of error
# what is typed -> what the answer has to name
MISTAKES = {
    "accept nowhere.zip --into board": "nowhere.zip",
    "accept empty --into board": "empty is a folder",
    "accept pipe --into board": "pipe",
    "accept noise.zip": "--into",
    "accept noise.zip --into noise.zip": "no zip archive",
    "check records nowhere": "nowhere",
    "check records empty": "no record",
    "check records noise.txt": "no record file",
    "check records empty --baseline nowhere": "nowhere",
    "check record results": "record",
    "check plugins herdng": "herding",
    "check plugins --plugin nowhere.py": "nowhere.py",
    "check plugins --plugin noise.txt": "noise.txt",
    "check plugins --plugin empty": "no .py and no .toml",
    "check protocols --plugin nowhere.toml": "nowhere.toml",
    "claims nowhere.toml": "nowhere.toml",
    "claims empty": "empty",
    "claims broken.toml": "broken.toml",
    "claims noise.txt": "noise.txt",
    "compare nowhere elsewhere": "nowhere",
    "compare random herding --results nowhere": "nowhere",
    "compare random herding --results empty": "empty",
    "cost --plan nowhere.toml": "nowhere.toml",
    "cost --dataset digts --method random --ipc 1": "digits",
    "data get digts": "digts",
    "data check digts": "digits",
    "data decode digits": "digits",
    "labels --dataset digts": "digits",
    "labels --npz nowhere.npz": "nowhere.npz",
    "labels --npz noise.txt": "noise.txt",
    "labels --npz empty": "empty",
    "labels --dataset digits --compressor svdd": "svd",
    "leaderboard --results nowhere": "nowhere",
    "leaderboard --results empty": "empty",
    "leaderboard --results noise.txt": "noise.txt",
    "leaderboard --results pipe": "pipe",
    "leaderboard --format pdf": "latex",
    "list metods": "methods",
    "lock --release nowhere-v1": "nowhere-v1",
    "merge nowhere --into all": "nowhere",
    "merge empty --into empty": "another",
    "merge empty": "--into",
    "new method 1st": "1st",
    "new metod mine": "method",
    "new method random": "random",
    "picture --dataset digits --method random --ipc 1": "--out",
    "picture --dataset digits --method randm --ipc 1 --out x.png": "random",
    "picture --plan nowhere.toml --out pictures": "nowhere.toml",
    "plot --results nowhere --out x.png": "nowhere",
    "plot --results empty --out x.png": "empty",
    "plot --results empty --out x.doc": ".png",
    "probe --dataset digts --method random --ipc 1": "digits",
    "probe --plan nowhere.toml": "nowhere.toml",
    "published nowhere.toml": "nowhere.toml",
    "published broken.toml": "broken.toml",
    "reference --plugin nowhere.py": "nowhere.py",
    "report --results nowhere --out site": "nowhere",
    "report --results empty --out site": "empty",
    "report --results empty": "--out",
    "run": "--dataset",
    "run --dataset digts --method random": "digits",
    "run --dataset digits --method randm": "random",
    "run --dataset digits --method random --protocol small-hard": "small-hard-v1",
    "run --dataset digits --method random --budget lots --compressor svd": "lots",
    "run --dataset digits --method random --ipc 0": "0",
    "run --dataset digits --metod random": "--method",
    "run --plan nowhere.toml": "nowhere.toml",
    "run --plan empty": "empty",
    "run --plan broken.toml": "broken.toml",
    "run --plan noise.txt": "noise.txt",
    "run --dataset digits --method random --data nowhere": "nowhere",
    "show": "NAME",
    "show randm": "random",
    "storage --classes 1": "1",
    "store expct": "expect",
    "store prune --results nowhere": "nowhere",
    "store --format pdf": "json",
    "submit nowhere": "nowhere",
    "submit empty": "no record",
    "submit noise.txt": "no record file",
    "submit empty --out nowhere/mine.zip": "nowhere/mine.zip",
    "submit empty --sample 0": "0",
    "sweep --dataset digits --method random": "--over",
    "sweep --dataset digits --method random --over nothing": "nothing",
    "teacher digts": "digits",
    "teacher digits --recipe nowhere.toml": "nowhere.toml",
    "verify nowhere": "nowhere",
    "verify empty": "no record",
    "verify noise.txt": "no record file",
    "verfy results": "verify",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files that are no records, no plans and no archives."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)))
    (tmp_path / "noise.zip").write_bytes(bytes(range(256)))
    (tmp_path / "broken.toml").write_text("grid = [", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDENSEBENCH_STORE", str(tmp_path.parent / "store"))
    return tmp_path


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_gets_a_sentence(
    typed: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in folder.iterdir()}
    monkeypatch.setattr(sys, "argv", ["condensebench", *typed.split()])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert end.value.code in (1, 2), out + err
    assert "Traceback" not in out + err
    assert MISTAKES[typed] in out + err
    assert len((out + err).strip().splitlines()) <= MOST_LINES, out + err
    assert {path.name for path in folder.iterdir()} == before


# Paths that the functions of pathlib answer with other errors than "there is none".
NO_PATHS = {
    "a link to itself": "loop",
    "a link to a name that no disk takes": "far",
    "such a name": "x" * 300,
    "nobody's home": "~nobody-at-all/x",
}
TAKE_PATHS = (
    "accept {} --into board",
    "check plugins --plugin {}",
    "check records {}",
    "claims {}",
    "labels --npz {}",
    "leaderboard --results {}",
    "merge {0} --into {0}",
    "picture --plan {} --out pictures",
    "published {}",
    "report --results {} --out site",
    "run --plan {}",
    "run --dataset digits --method random --data {}",
    "run --dataset digits --method random --plugin {}",
    "run --dataset digits --method random --teacher {}.toml",
    "run --dataset digits --method folder:path={}",
    "store prune --results {}",
    "submit {}",
    "teacher digits --recipe {}.toml",
    "verify {}",
)


@pytest.mark.parametrize("typed", TAKE_PATHS)
@pytest.mark.parametrize("path", NO_PATHS.values(), ids=NO_PATHS)
def test_a_path_that_can_be_none_gets_a_sentence(typed: str, path: str, folder: Path, monkeypatch, capsys) -> None:
    (folder / "loop").symlink_to("loop")
    (folder / "far").symlink_to("x" * 300)
    monkeypatch.setattr(sys, "argv", ["condensebench", *typed.format(path).split()])
    with pytest.raises(SystemExit) as end:
        main()
    answer = "".join(capsys.readouterr())
    assert end.value.code in (1, 2), answer
    assert "Traceback" not in answer
    assert path.partition("/")[0] in answer or "too long" in answer
    assert len(answer.strip().splitlines()) <= MOST_LINES, answer


def test_every_verb_is_mistyped_somehow() -> None:
    assert isinstance(cli, Verbs)
    verbs = {verb.name for verb in cli.verbs()}
    assert {typed.split()[0] for typed in MISTAKES} == verbs | {"verfy"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(folder: Path, monkeypatch, capsys) -> None:
    path = folder / "noise.zip"
    path.chmod(0)
    for typed in ("accept noise.zip --into board", "run --plan noise.zip", "leaderboard --results noise.zip"):
        monkeypatch.setattr(sys, "argv", ["condensebench", *typed.split()])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        assert "noise.zip" in capsys.readouterr().err
