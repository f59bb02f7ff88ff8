"""Photographs on disk: decoding them into the cache, reading the cache, and opening a data set again.

- filling: wall time of a bare loop of Pillow's decoder, resize and crop, in one process for each core, over that of
  `FileSource.prepare` on the same files, in turns. Preparing also hashes what it reads, and writes the pixels.
- reading: images a second of CPU time, random batches from the map.
- opening again: list, take the digest, have the pixels ready to be read; the first time over the second.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
from PIL import Image

from bench.photographs.cache_limits import shown
from bench.photographs.decoding import cores
from bench.sources import FileSource, Policy, joined, list_folder
from speed._photographs import write_photographs
from speed.row import Row

POLICY = Policy(size=224, resize=256)
BATCH = 256


def _bare(files: list[str]) -> None:
    """Decode, resize and cut, and nothing else."""
    for file in files:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        width, height = image.size
        short = 256 / min(width, height)
        width, height = max(256, int(width * short)), max(256, int(height * short))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        np.asarray(image.crop((left, top, left + 224, top + 224)))


def _source(folder: Path, cache: Path) -> FileSource:
    files = joined(list_folder(each) for each in sorted(folder.iterdir()))
    return FileSource(files, np.zeros(len(files), np.int64), POLICY, cache)


def _opened(folder: Path, cache: Path, *, pixels: bool = True) -> tuple[float, FileSource]:
    """(wall seconds, the source), listed, with its digest and, where they are wanted, its pixels."""
    started = time.perf_counter()
    source = _source(folder, cache)
    source.digest()
    if pixels:
        source.prepare()
    return time.perf_counter() - started, source


def _filling(folder: Path, scratch: Path, turns: int) -> tuple[list[float], float]:
    """(bare time / ours, turn by turn; images a second of ours at its best)."""
    spawn, ratios, best = multiprocessing.get_context("spawn"), [], 0.0
    with ProcessPoolExecutor(cores(), mp_context=spawn) as pool:
        for turn in range(turns + 1):
            source = _source(folder, scratch / f"filled-{turn}")
            source.digest()  # the content is hashed, and lies in memory for both
            started = time.perf_counter()
            wait([pool.submit(_bare, list(source.files)[part :: cores()]) for part in range(cores())])
            bare = time.perf_counter() - started
            started = time.perf_counter()
            source.prepare()
            ours = time.perf_counter() - started
            if turn:  # the first one starts the processes
                ratios.append(bare / ours)
                best = max(best, len(source) / ours)
    return ratios, best


def _reading(source: FileSource, batches: int) -> float:
    """Images a second of CPU time."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(len(source), size=BATCH) for _ in range(batches)]
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for each in rows:
            source.read(each)
        best = min(best, time.process_time() - started)
    return batches * BATCH / best


def measure(quick: bool = False) -> list[Row]:
    """Four rows: filling the cache, reading it, opening again with pixels, opening again for the digest alone."""
    few, many, turns = (40, 100, 1) if quick else (600, 5000, 5)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        write_photographs(scratch / "few", few)
        files = write_photographs(scratch / "many", many)
        ratios, best = _filling(scratch / "few", scratch, turns)
        hashed, _ = _opened(scratch / "many", scratch / "hashed", pixels=False)
        again_hashed = min(_opened(scratch / "many", scratch / "hashed", pixels=False)[0] for _ in range(5))
        first, _ = _opened(scratch / "many", scratch / "kept")
        again, source = min((_opened(scratch / "many", scratch / "kept") for _ in range(5)), key=lambda each: each[0])
        rate = _reading(source, 8 if quick else 40)
        size = sum(file.stat().st_size for file in files)
    what = f"{many:,} photographs of 200 to 600 px"
    return [
        Row(
            f"cache of {few} photographs: share of a bare decoder and resize on each core",
            statistics.median(ratios),
            "x",
            0.85,
            True,
            f"turns: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; {cores()} cores, at best {best:,.0f} images/s",
        ),
        Row("cache of 224 px: read in random order, one core", rate, "images/s", 5000, True, f"batches of {BATCH}"),
        Row(
            f"{what}: first open / second, decoded",
            first / again,
            "x",
            20,
            True,
            f"{first:.2f} s and {1e3 * again:.0f} ms; {shown(size)} of files",
        ),
        Row(
            f"{what}: first open / second, digest alone",
            hashed / again_hashed,
            "x",
            None,
            True,
            f"{hashed:.2f} s and {1e3 * again_hashed:.0f} ms",
        ),
    ]
