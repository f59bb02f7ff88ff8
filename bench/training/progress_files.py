"""How far long trainings are, from the processes that train to the one that shows it: a small text each.

On one machine the texts are files of a folder. In a cluster they go through Ray (bench.driver.on_ray), and come out as
such files where they are shown.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from bench.training.standing import Standing, watch_trainings

STALE = 120.0  # seconds after which a file is of a process that was killed
NONCE = secrets.token_hex(3)  # processes of several machines may have one number

Sink = Callable[[str, bytes | None], None]  # takes a text under a name; None: it is over


def teller() -> str:
    """This process, as its texts are called."""
    return f"{os.getpid()}-{NONCE}"


def folder_sink(folder: Path) -> Sink:
    """Writes texts into a folder, each whole or not at all."""

    def put(name: str, content: bytes | None) -> None:
        file = folder / name
        if content is None:
            file.unlink(missing_ok=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{name}.new"
        temporary.write_bytes(content)
        os.replace(temporary, file)

    return put


def tell_in(place: str | Sink) -> None:
    """Have this process say in a folder, or to a sink, how far its training is; in none with ""."""
    if not place:
        watch_trainings(None)
        return
    sink = folder_sink(Path(place)) if isinstance(place, str) else place

    def tell(standing: Standing | None) -> None:
        sink(f"{teller()}.json", None if standing is None else json.dumps(asdict(standing)).encode())

    watch_trainings(tell)


def standings_by_teller(folder: Path) -> dict[str, Standing]:
    """Process -> how far its training is, of those that go on now."""
    now = {}
    for file in sorted(folder.glob("*.json")):
        try:
            if abs(time.time() - file.stat().st_mtime) < STALE:  # a time to come: the clock was set back since
                now[file.stem] = Standing(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # it ended, or is none
            continue
    return now


def standings(folder: Path) -> Iterator[Standing]:
    """How far each training is that goes on now."""
    yield from standings_by_teller(folder).values()
