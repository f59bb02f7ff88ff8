"""A folder of records for websites: ordinary tables, one of every status, and records of somebody who means ill."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from PIL import Image

from bench.records.files import Record, append
from bench.studies.pictures.drawing import png
from tests.worlds.records import cell, record

SCRIPT = "<script>document.title='stolen'</script>"
FORMULA = "=cmd|' /C calc'!A0"
INPUT = r"\input{/etc/passwd}"
ESCAPE = "\x1b[31mred\x1b[0m"
IMAGE = "<img src=x onerror=\"document.title='stolen'\">"
SPACED = " =1+1"
LINK = "[click](https://elsewhere.example) ![x](https://elsewhere.example/x.png) www.elsewhere.example"
OPTION = "[-9cm]"  # of the command that ends a row of LaTeX
BIDI = "good\u202edab"
HOSTILE = (SCRIPT, FORMULA, INPUT, ESCAPE, SPACED, LINK, OPTION, BIDI)
HARD = {"protocol": "small-hard-v1", "compressor": None, "ipc": 10, "dataset": "digits"}


CLAIM = """
[[claim]]
id = "herding"
title = "Herding beats EL2N"
says = "<b>Nobody</b> says so."
source = "a test"
note = "as `el2n` is, <img src=x onerror=\\"document.title='stolen'\\">"

[[claim.contrast]]
better = { method = "herding" }
worse = { method = "el2n" }
"""


def condensed(method: str, ipc: int) -> dict[str, Any]:
    """A condensed set as a record tells it."""
    digest = hashlib.sha256(f"{method} {ipc}".encode()).hexdigest()
    counts = dict.fromkeys(("repeated", "in_test_exact", "in_test_near", "train_in_test"), 0)
    return {"digest": digest, "per_class": (ipc, ipc), **counts}


def picture(path: Path) -> Path:
    """A picture as the verb `picture` writes it, of herding's set and of one that no record knows."""
    sets = f"herding {condensed('herding', 10)['digest']}\n{INPUT} {'0' * 64}"
    image = Image.new("L", (40, 30))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(image, {"Title": f"digits, ipc 10 {IMAGE}", "Description": sets}))
    return path


def ordinary() -> list[Record]:
    """Two tables: hard labels at two ipc, stored labels with compressors and budgets, one cell infeasible."""
    records = []
    for ipc, lift in ((10, 0.0), (20, 0.1)):
        for seed, (method, mean) in enumerate({"random": 0.60, "herding": 0.66, "el2n": 0.40, "rded": 0.6595}.items()):
            names = {**HARD, "ipc": ipc, "condensed": condensed(method, ipc)}
            records += cell(mean + lift, 5, seed=seed, method=method, **names)
    for seed, (compressor, budget, mean, size) in enumerate(
        (
            ("none", None, 0.50, 22_500_000),
            ("svd", "10x", 0.48, 2_250_000),
            ("svd", "30x", 0.41, 750_000),
            ("quant", "10x", 0.49, 2_240_000),
            ("quant", "30x", 0.30, 749_000),
        )
    ):
        for method, lift in (("random", 0.0), ("herding", 0.02)):
            labels = {"total": size, "shared": 0, "blobs": size - 25_000, "views": 25_000}
            names = {"method": method, "compressor": compressor, "budget": budget, "bytes_labels": labels}
            records += cell(mean + lift, 3, seed=seed, **names)
    records += [
        record(None, method="random", compressor="svd", budget="1000x", replicate=r, status="infeasible")
        for r in range(3)
    ]
    return records


def hostile() -> list[Record]:
    """A table whose methods are named to do harm, and a failure whose traceback is."""
    records = [each for name in HOSTILE for each in cell(0.5, 3, method=name, **HARD, student="convnet:width=8")]
    error = {"type": "ValueError", "message": IMAGE, "traceback": f"Traceback: {SCRIPT} {ESCAPE}"}
    broken = {"method": "broken", "student": "convnet:width=8", "status": "failed", "error": error}
    return [*records, record(None, **broken, **HARD)]


def write(folder: Path, records: list[Record]) -> Path:
    """The records as a folder of results."""
    for each in records:
        append(folder / "records.jsonl", each)
    return folder
