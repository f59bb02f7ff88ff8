"""Decoded photographs are kept once: under a lock, within a limit, in chunks that survive a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from bench import sources
from bench.errors import UserError
from bench.photographs import pixel_cache
from bench.photographs.cache_limits import VARIABLE, parse_size, place_limit, shown
from bench.photographs.decoding import decode
from bench.photographs.listing import list_folder
from bench.sources import FileSource, Policy
from tests.worlds import ROOT
from tests.worlds.published_files import photograph

POLICY = Policy(size=16, resize=18)
COUNT = 40
FILL = f"""
import itertools, sys, time
from bench.photographs import pixel_cache
from bench.sources import FileSource, Policy, list_folder
honest, numbers = pixel_cache.decode, itertools.count()

def slowly(file, *rest):
    if next(numbers) >= int(sys.argv[3]):
        time.sleep(600)
    with open(sys.argv[4], "a") as log:
        log.write(file + "\\n")
    return honest(file, *rest)

pixel_cache.decode = slowly
FileSource(list_folder(sys.argv[1]), [0] * {COUNT}, Policy(size=16, resize=18), __import__("pathlib").Path(sys.argv[2])).prepare()
"""  # noqa: E501


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(COUNT):
        photograph(tmp_path / "owl" / f"{index:02}.png", 20 + index % 3, 20, seed=index)
    return tmp_path / "owl"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded, in this process."""
    names: list[str] = []

    def decoding(file, *rest):
        names.append(os.path.basename(file))
        return decode(file, *rest)

    for module in (pixel_cache, sources):
        monkeypatch.setattr(module, "decode", decoding)
    return names


def source(folder: Path, policy: Policy = POLICY) -> FileSource:
    files = list_folder(folder)
    return FileSource(files, np.zeros(len(files)), policy, folder.parent / "kept")


def expected(folder: Path) -> np.ndarray:
    return np.stack([decode(file, POLICY) for file in sorted(folder.glob("*.png"))])


def everything(source: FileSource) -> np.ndarray:
    source.prepare()
    return source.read(np.arange(len(source)))


def started(folder: Path, log: Path, hangs_after: int) -> subprocess.Popen:
    """A process that fills the cache, and hangs after some images."""
    arguments = [str(folder), str(folder.parent / "kept"), str(hangs_after), str(log)]
    return subprocess.Popen([sys.executable, "-c", FILL, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_a_split_is_decoded_once_and_read_from_a_map(folder: Path, decoded: list[str]) -> None:
    counts: list[int] = []
    first = source(folder)
    first.prepare(counts.append)
    assert (everything(first) == expected(folder)).all()
    assert (sorted(decoded), sum(counts)) == ([f"{index:02}.png" for index in range(COUNT)], COUNT)
    decoded.clear()
    second = source(folder)
    assert (everything(second)[::-1] == second.read(np.arange(COUNT)[::-1])).all()
    assert decoded == []
    read = second.read(np.array([3, 3]))
    read[:] = 0  # a copy
    assert (second.read(np.array([3])) == expected(folder)[3]).all()
    (kept,) = (folder.parent / "kept").glob("*.pixels.npy")
    assert (np.load(kept) == expected(folder)).all()  # a plain file of numpy


def test_a_damaged_cache_is_made_again_and_the_log_says_so(folder: Path, decoded: list[str], caplog) -> None:
    everything(source(folder))
    (kept,) = (folder.parent / "kept").glob("*.pixels.npy")
    whole = kept.read_bytes()
    for damaged in (whole[:-1], b"\x00" + whole[1:], b""):
        kept.write_bytes(damaged)
        decoded.clear()
        assert (everything(source(folder)) == expected(folder)).all()
        assert len(decoded) == COUNT
        assert kept.read_bytes() == whole
    assert caplog.text.count("It is made again") == 3


def resident(file: Path) -> int:
    """Bytes of a mapped file that this process holds in memory."""
    maps = Path("/proc/self/smaps").read_text().split(str(file))
    return sum(1024 * int(each.split("Rss:")[1].split()[0]) for each in maps[1:])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="what a process holds is read as Linux tells it")
def test_a_process_that_reads_all_holds_a_part_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Policy(size=224, resize=224)
    kept = source(folder, large)
    kept.prepare()
    (file,) = (folder.parent / "kept").glob("*.pixels.npy")
    whole = kept.read(np.arange(COUNT))
    assert resident(file) > 0.9 * whole.nbytes
    monkeypatch.setattr(pixel_cache, "RESIDENT_BYTES", 10 * whole[0].nbytes)
    for index in range(COUNT):
        assert (kept.read(np.array([index]))[0] == whole[index]).all()
        assert resident(file) < 0.6 * whole.nbytes or index < 11


def test_a_few_images_are_decoded_alone(folder: Path, decoded: list[str]) -> None:
    assert (source(folder).read(np.arange(30)) == expected(folder)[:30]).all()
    assert len(decoded) == 30
    assert list((folder.parent).glob("kept/*.pixels.npy")) == []


def test_the_cache_goes_by_content_policy_and_decoder(folder: Path, decoded: list[str], monkeypatch) -> None:
    everything(source(folder))
    shutil.copytree(folder, folder.parent / "jay", copy_function=shutil.copy)  # elsewhere, with other times
    decoded.clear()
    everything(source(folder.parent / "jay"))
    assert decoded == []
    everything(source(folder, Policy(size=16, resize=19)))
    assert len(decoded) == COUNT
    monkeypatch.setattr(pixel_cache, "decoder_version", lambda: "a later one")
    everything(source(folder))
    assert len(decoded) == 2 * COUNT


def test_a_fill_that_was_killed_continues_where_it_was(folder: Path, decoded: list[str]) -> None:
    log = folder.parent / "log"
    process = started(folder, log, 12)
    marks = None
    while process.poll() is None:
        marks = next(iter((folder.parent / "kept").glob("*.marks")), None)
        if marks is not None and np.fromfile(marks, np.uint8).reshape(-1, 32).any(axis=1).sum() >= 5:
            break
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert marks is not None
    done = int(np.fromfile(marks, np.uint8).reshape(-1, 32).any(axis=1).sum())  # a chunk of so few files is one image
    assert 5 <= done <= 12
    assert list((folder.parent / "kept").glob("*.pixels.npy")) == []
    assert (everything(source(folder)) == expected(folder)).all()
    assert len(decoded) == COUNT - done
    assert sorted(each.suffix for each in (folder.parent / "kept").iterdir()) == [".lock", ".lock", ".npy", ".npy"]


def test_of_two_processes_one_decodes_and_the_other_waits(folder: Path) -> None:
    log = folder.parent / "log"
    both = [started(folder, log, COUNT) for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]
    assert sorted(log.read_text().split()) == list(list_folder(folder))


def test_what_is_too_large_is_refused_with_what_to_do(folder: Path, decoded: list[str], monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "20kB")
    with pytest.raises(UserError) as error:
        everything(source(folder))
    for part in ("40 photographs", "take 30.8 kB", "the limit is 20.0 kB", "--cache-limit 1GB", "--cache-limit 0"):
        assert part in str(error.value)
    assert decoded == []
    monkeypatch.setenv(VARIABLE, "35 kB")
    everything(source(folder))
    with pytest.raises(UserError, match=r"beside 30\.8 kB that .*kept holds; the limit is 35\.0 kB"):
        everything(source(folder, Policy(size=16, resize=20)))
    monkeypatch.setenv(VARIABLE, "20kB")
    assert (everything(source(folder)) == expected(folder)).all()  # what is there is used
    monkeypatch.setenv(VARIABLE, "1GB")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(1000))
    with pytest.raises(UserError, match=r"has 1\.0 kB left. Name another folder with --store"):
        everything(source(folder, Policy(size=16, resize=20)))


def test_with_a_limit_of_0_nothing_is_kept(folder: Path, decoded: list[str], monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    for _ in range(2):
        assert (everything(source(folder)) == expected(folder)).all()
    assert len(decoded) == 2 * COUNT
    assert list((folder.parent / "kept").glob("*.pixels*")) == []


def test_all_files_that_cannot_be_decoded_are_named_and_a_repaired_one_costs_no_other(
    folder: Path, decoded: list[str]
) -> None:
    whole = {name: (folder / name).read_bytes() for name in ("07.png", "31.png")}
    for name, content in whole.items():
        (folder / name).write_bytes(content[:40])
    with pytest.raises(UserError, match=r"(?s)2 of 40 files cannot be decoded:\n.*07\.png.*31\.png"):
        everything(source(folder))
    decoded.clear()
    (folder / "07.png").write_bytes(whole["07.png"])
    with pytest.raises(UserError, match=r"31\.png cannot be read as an image"):
        everything(source(folder))
    (folder / "31.png").write_bytes(whole["31.png"])
    assert (everything(source(folder)) == expected(folder)).all()
    assert sorted(decoded) == ["07.png", "31.png", "31.png"]


def test_a_file_that_is_exchanged_while_the_set_is_open_is_told(folder: Path) -> None:
    opened = source(folder)
    opened.digest()
    photograph(folder / "11.png", 20, 20, seed=77)
    with pytest.raises(UserError, match=r"11\.png was exchanged while the data set was open"):
        opened.prepare()


def test_a_full_disk_is_a_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            everything(source(folder))
    assert (everything(source(folder)) == expected(folder)).all()


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("32GB", 32 * 10**9), ("1.5 tb", 1500 * 10**9), ("20kB", 20_000), ("7", 7), ("8B", 8)]
)
def test_sizes_are_understood(text: str, size: int) -> None:
    assert parse_size(text, "--cache-limit") == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 GiB", "1e9", "nan", "1GB 2GB", "9" * 5000])
def test_what_is_no_size_is_refused_with_an_example(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="is no size; type for instance 200GB"):
        place_limit(text)


def test_a_size_is_told_in_its_unit() -> None:
    assert [shown(size) for size in (5, 1500, 192_800_000_000, 2 * 10**12)] == ["5 B", "1.5 kB", "192.8 GB", "2.0 TB"]
