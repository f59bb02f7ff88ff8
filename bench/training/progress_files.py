"""How far long trainings are, from the processes that train to the one that shows it: a small file each."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bench.training.standing import Standing, watch_trainings

STALE = 120.0  # seconds after which a file is of a process that was killed


def tell_in(folder: str) -> None:
    """Have this process say in a folder how far its training is; in none with ""."""
    if not folder:
        watch_trainings(None)
        return
    file = Path(folder) / f"{os.getpid()}.json"

    def tell(standing: Standing | None) -> None:
        if standing is None:
            file.unlink(missing_ok=True)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(standing)), encoding="utf-8")
        os.replace(temporary, file)

    watch_trainings(tell)


def standings(folder: Path) -> Iterator[Standing]:
    """How far each training is that goes on now."""
    for file in sorted(folder.glob("*.json")):
        try:
            if time.time() - file.stat().st_mtime < STALE:
                yield Standing(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # it ended, or is none
            continue
