"""A leaderboard that takes submissions is never torn: killed at any moment, it has all of one or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.records import files
from bench.submission import shared_board
from bench.submission.archive_contents import Submission, open_submission
from bench.submission.shared_board import SharedBoard
from tests.worlds.kills import die, killed
from tests.worlds.submitted import Post

STEPS = ("replace", "rename", "fsync")  # of `os`: between any two of them a machine may die


@pytest.fixture
def sent(post: Post) -> tuple[Submission, list[files.Record]]:
    plugin = post.plugin()
    lines = post.honest("mine", plugins=[plugin])
    return open_submission(post.send(lines, [plugin])), lines


def put(board: SharedBoard, submission: Submission, lines: list[files.Record]) -> None:
    with files.locked(board.folder):
        board.sweep()
        board.put(submission, lines, {})


def die_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes this process mortal: at the so-manieth of STEPS, before it is done."""
    left = iter(range(step, -1, -1))

    def mortal(name: str) -> None:
        original = getattr(os, name)

        def call(*args: Any) -> Any:
            if next(left) == 0:
                die()
            return original(*args)

        monkeypatch.setattr(shared_board.os, name, call)

    return lambda: [mortal(name) for name in STEPS] and None


def count_of_steps(board: SharedBoard, sent: tuple[Submission, list[files.Record]], monkeypatch: Any) -> int:
    steps: list[str] = []
    with monkeypatch.context() as patch:
        for name in STEPS:
            original = getattr(os, name)
            patch.setattr(shared_board.os, name, lambda *args, _f=original, _n=name: (steps.append(_n), _f(*args))[1])
        put(board, *sent)
    return len(steps)


def test_killed_at_any_moment_nothing_is_torn(post: Post, sent, monkeypatch) -> None:
    submission, lines = sent
    last = [line.line() for line in lines]
    steps = count_of_steps(SharedBoard(post.root / "counted"), sent, monkeypatch)
    assert steps > 20
    for step in range(steps):
        board = SharedBoard(post.root / f"board{step}")
        killed(lambda board=board: put(board, *sent), prepare=die_at(step, monkeypatch))
        records = [line.whole.line() for line in board.lines()]
        assert records in ([], last), step
        assert board.has(submission) == bool(records), step
        if not board.has(submission):
            put(board, *sent)
        assert [line.whole.line() for line in board.lines()] == last
        assert [path.name for path in board.plugins()] == ["mine.py"]
        assert not list(board.folder.rglob("*.partial"))
        shutil.rmtree(board.folder)


def test_what_a_killed_command_left_takes_no_name(post: Post, sent, monkeypatch) -> None:
    board = SharedBoard(post.board)
    steps = count_of_steps(SharedBoard(post.root / "counted"), sent, monkeypatch)
    killed(lambda: put(board, *sent), prepare=die_at(steps - 3, monkeypatch))
    assert [path.name for path in board.plugins()] == ["mine.py"]
    with files.locked(board.folder):
        board.sweep()
    assert board.plugins() == []
    assert [path.name for path in post.board.rglob("*") if path.is_file()] == [".lock"]


def test_plugins_that_were_there_stay(post: Post, sent, monkeypatch) -> None:
    board = SharedBoard(post.board)
    there = post.board / "plugins" / "mine.py"
    there.parent.mkdir(parents=True)
    there.write_bytes(sent[0].plugins["mine.py"])
    steps = count_of_steps(SharedBoard(post.root / "counted"), sent, monkeypatch)
    killed(lambda: put(board, *sent), prepare=die_at(steps - 5, monkeypatch))
    with files.locked(board.folder):
        board.sweep()
    assert board.plugins() == [there]


def test_a_folder_that_cannot_be_a_leaderboard_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; name the folder"):
        SharedBoard(tmp_path / "file").lines()
