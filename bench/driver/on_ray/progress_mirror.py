"""What a cluster's workers say of their work: texts in Ray's key-value store, mirrored in a folder of the driver."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from ray.experimental import internal_kv as kv

from bench.training.progress_files import Sink, folder_sink

THROUGH_RAY = "ray:"  # before a session's name: what workers say goes through the cluster
KV_NAMESPACE = "condensebench"
MIRROR_EVERY = 2.0  # seconds between looks at what the workers of a cluster say


class ProgressMirror:
    """The texts that workers of a cluster put into its key-value store, kept as files of a folder of this machine.

    A thread of its own reads them, and nobody waits for it: a server that is gone answers to nobody.
    """

    def __init__(self, session_id: str, folder: Path) -> None:
        self.over: set[str] = set()  # names of texts whose stages have ended
        self._prefix, self._put = f"{session_id}:", folder_sink(folder)
        self._known: dict[str, bytes] = {}
        self._ended = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while not self._ended.wait(MIRROR_EVERY):
            with contextlib.suppress(Exception):  # progress that cannot be shown stops no run
                self._look()

    def _look(self) -> None:
        keys = kv._internal_kv_list(self._prefix, namespace=KV_NAMESPACE)
        names = {key.decode().removeprefix(self._prefix) for key in keys}
        for name in sorted(names & self.over):
            kv._internal_kv_del(f"{self._prefix}{name}", namespace=KV_NAMESPACE)
        now = {name: kv._internal_kv_get(f"{self._prefix}{name}", namespace=KV_NAMESPACE) for name in names - self.over}
        if self._ended.is_set():
            return
        for name, content in now.items():
            if content is not None and self._known.get(name) != content:
                self._put(name, content)
        for name in self._known.keys() - now.keys():
            self._put(name, None)
        self._known = {name: content for name, content in now.items() if content is not None}

    def end(self, lost: bool) -> None:
        """Follow no longer, and leave nothing in the cluster unless its server is lost."""
        self._ended.set()
        if not lost:
            with contextlib.suppress(Exception):
                kv._internal_kv_del(self._prefix, del_by_prefix=True, namespace=KV_NAMESPACE)


def sink_at(place: str) -> Sink | None:
    """Where a worker says what it does: a folder, the cluster's key-value store, or nowhere."""
    if not place.startswith(THROUGH_RAY):
        return folder_sink(Path(place)) if place else None
    prefix = f"{place.removeprefix(THROUGH_RAY)}:"

    def put(name: str, content: bytes | None) -> None:
        with contextlib.suppress(Exception):
            if content is None:
                kv._internal_kv_del(f"{prefix}{name}", namespace=KV_NAMESPACE)
            else:
                kv._internal_kv_put(f"{prefix}{name}", content, namespace=KV_NAMESPACE)

    return put
