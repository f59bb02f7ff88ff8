"""Lists of files: complete, in order, quick, and with a digest that sees what was exchanged."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.photographs.listing import joined, list_files, list_folder


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(os.fsencode(name))
    return folder


def test_a_folder_gives_its_images_by_name_with_sizes_and_times(tmp_path: Path) -> None:
    folder = write(tmp_path / "owl", "b.png", "a.JPEG", "c.txt", ".hidden.png", "._a.JPEG", "d.WebP")
    files = list_folder(folder)
    assert [os.path.basename(each) for each in files] == ["a.JPEG", "b.png", "d.WebP"]
    assert files.sizes.tolist() == [6, 5, 6]
    assert files.times.tolist() == [os.stat(each).st_mtime_ns for each in files]
    assert files.total_bytes == 17
    assert len(list_folder(tmp_path / "none")) == len(joined([])) == 0
    assert list(files[1:]) == files.paths[1:]
    assert list_files(list(files)).digest == files.digest


def test_a_digest_changes_with_path_size_time_and_order_of_any_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "owl", "a.png", "b.png")
    digests = {list_folder(folder).digest, list_files(list(list_folder(folder))[::-1]).digest}
    shutil.copytree(folder, tmp_path / "jay")  # the same names, sizes and times may hold other pixels
    digests.add(list_folder(tmp_path / "jay").digest)
    os.utime(folder / "b.png", ns=(0, 1))
    digests.add(list_folder(folder).digest)
    (folder / "b.png").write_bytes(b"longer than before")
    os.utime(folder / "b.png", ns=(0, 1))
    digests.add(list_folder(folder).digest)
    (folder / "b.png").rename(folder / "c.png")
    digests.add(list_folder(folder).digest)
    assert len(digests) == 6


def test_the_way_to_a_folder_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "owl", "a.png")
    monkeypatch.chdir(tmp_path)
    assert list_folder("owl").keys().tolist() == list_folder(tmp_path / "owl").keys().tolist()


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    folder = write(tmp_path / "owl", "a.png")
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(UserError, match=r"pipe\.png cannot be read: it has the name of an image and is no file"):
        list_folder(folder)
    (folder / "pipe.png").unlink()
    (folder / "gone.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"gone\.png' cannot be read: No such file"):
        list_folder(folder)
    (folder / "gone.png").unlink()
    (folder / "link.png").symlink_to("a.png")
    assert list_folder(folder).sizes.tolist() == [5, 5]


def test_names_that_are_no_text_are_listed(tmp_path: Path) -> None:
    write(tmp_path / "owl", os.fsdecode(b"\xff.png"), "ä.png", "new\nline.png")
    assert len(set(map(bytes, list_folder(tmp_path / "owl").keys()))) == 3
    assert len(list_folder(tmp_path / "owl").digest) == 64


def test_two_thousand_files_take_a_moment(tmp_path: Path) -> None:
    """A million take seconds: the time grows with their number."""
    for name in range(10):
        (tmp_path / str(name)).mkdir()
        for index in range(200):
            os.close(os.open(tmp_path / str(name) / f"{index:05}.JPEG", os.O_CREAT))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        files = joined(list_folder(tmp_path / str(name)) for name in range(10))
        assert len(files.digest) == 64
        seconds.append(time.process_time() - start)
    assert len(files) == 2000
    assert min(seconds) < 0.2  # 0.01 s on a free core
