"""A folder of records for websites: ordinary tables, one of every status, and records of somebody who means ill."""

from __future__ import annotations

from pathlib import Path

from bench.records.files import Record, append
from tests.worlds.records import cell, record

SCRIPT = "<script>document.title='stolen'</script>"
FORMULA = "=cmd|' /C calc'!A0"
INPUT = r"\input{/etc/passwd}"
ESCAPE = "\x1b[31mred\x1b[0m"
IMAGE = "<img src=x onerror=\"document.title='stolen'\">"
HOSTILE = (SCRIPT, FORMULA, INPUT, ESCAPE)
HARD = {"protocol": "small-hard-v1", "compressor": None, "ipc": 10, "dataset": "digits"}


def ordinary() -> list[Record]:
    """Two tables: hard labels at two ipc, stored labels with compressors and budgets, one cell infeasible."""
    records = []
    for ipc, lift in ((10, 0.0), (20, 0.1)):
        for seed, (method, mean) in enumerate({"random": 0.60, "herding": 0.66, "el2n": 0.40, "rded": 0.6595}.items()):
            records += cell(mean + lift, 5, seed=seed, method=method, **{**HARD, "ipc": ipc})
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
