"""What a plugin does beside its task, noted by an audit hook: data read by other ways, programs started, files written.

The hook sees what goes through Python. What a library opens by its own C code, and what a program does that was
started, it does not see; the start of the program it does. SECURITY.md says so too.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

# Kinds of notes; each is the first word of its note.
DATA, SEARCH, PROGRAM, WRITE, LEFT = "data", "search", "program", "write", "left"
MOST_NOTES = 50
LONGEST_NOTE = 200
_STARTS = {
    "subprocess.Popen": 0, "os.system": 0, "os.exec": 0, "os.posix_spawn": 0, "os.spawn": 1, "pty.spawn": 0,
}  # fmt: skip
_CHANGES = {
    "os.remove": (0,), "os.rename": (0, 1), "os.rmdir": (0,), "os.mkdir": (0,), "os.link": (1,), "os.symlink": (1,),
    "os.truncate": (0,), "os.chmod": (0,), "os.utime": (0,),
}  # fmt: skip
_LISTS = ("os.listdir", "os.scandir")
_READS = ("open", *_LISTS)
_SEARCHES = ("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._getframe", "sys._current_frames")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_INSPECT = os.sep + "inspect.py"

_inside = threading.local()  # whether the hook itself is at work in this thread
_lending = 0  # how many reads of the harness go on, in whatever threads


@dataclass(frozen=True)
class Watched:
    """What the hook looks for in one plugin's process. Paths are absolute and resolved.

    Args:
        plugin: the plugin's file: a search of the process counts where this file makes it.
        data: files and folders from which the test split could be read -> how a note names them.
        modules: prefixes of modules that open data sets.
        guarded: folders in which a plugin has nothing to write -> how a note names them.
        free: folders within those where it may.
    """

    plugin: str
    data: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ()
    guarded: tuple[tuple[str, str], ...] = ()
    free: tuple[str, ...] = ()


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Nothing that is opened in the block is noted: the harness reads what it lends, on several threads."""
    global _lending
    _lending += 1
    try:
        yield
    finally:
        _lending -= 1


class Watch:
    """The hook of one process and all that it forks. `tell` gets every note, once."""

    def __init__(self, watched: Watched, tell: Callable[[str], None], fork: Callable[[], None]) -> None:
        self._watched, self._tell, self._fork = watched, tell, fork
        self._notes: set[str] = set()
        self._handlers: dict[str, Callable[[str, tuple[Any, ...]], None]] = {
            "import": self._imports,
            "open": self._opens,
            "exec": self._runs,
            "os.fork": self._forks,
            "os.forkpty": self._forks,
            **dict.fromkeys(_STARTS, self._starts),
            **dict.fromkeys(_CHANGES, self._changes),
            **dict.fromkeys(_LISTS, self._reads),
            **dict.fromkeys(_SEARCHES, self._searches),
        }

    def install(self) -> None:
        """From now on, for as long as the process lives: an audit hook cannot be taken out again."""
        sys.addaudithook(self._hook)

    def note(self, kind: str, what: str) -> None:
        """Tell it, unless that was done before."""
        text = f"{kind}: {what}"[:LONGEST_NOTE]
        if text not in self._notes and len(self._notes) < MOST_NOTES:
            self._notes.add(text)
            self._tell(text)

    def notes(self) -> list[str]:
        """All notes so far, `kind: what`."""
        return sorted(self._notes)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        handler = self._handlers.get(event)
        if handler is None or (_lending and event in _READS) or getattr(_inside, "on", False):
            return
        _inside.on = True
        try:
            handler(event, args)
        finally:
            _inside.on = False

    def _imports(self, _: str, args: tuple[Any, ...]) -> None:
        name = str(args[0])
        if any(name == each or name.startswith(each + ".") for each in self._watched.modules):
            self.note(DATA, f"imported {name}")

    def _runs(self, _: str, args: tuple[Any, ...]) -> None:
        if (name := _named(getattr(args[0], "co_filename", ""), self._watched.data)) is not None:
            self.note(DATA, f"ran {name}")

    def _opens(self, event: str, args: tuple[Any, ...]) -> None:
        path, mode, flags = args
        if isinstance(path, int):
            return
        writes = any(letter in "wax+" for letter in mode) if isinstance(mode, str) else bool((flags or 0) & _WRITING)
        if writes:
            self._wrote(path)
        self._reads(event, args)

    def _reads(self, _: str, args: tuple[Any, ...]) -> None:
        if (name := _named(_absolute(args[0] if args[0] is not None else "."), self._watched.data)) is not None:
            self.note(DATA, f"opened {name}")

    def _changes(self, event: str, args: tuple[Any, ...]) -> None:
        for position in _CHANGES[event]:
            self._wrote(args[position])

    def _wrote(self, path: Any) -> None:
        absolute = _absolute(path)
        if not any(_within(absolute, folder) for folder in self._watched.free):
            name = _named(absolute, self._watched.guarded)
            if name is not None:
                self.note(WRITE, f"changed {name}")

    def _starts(self, event: str, args: tuple[Any, ...]) -> None:
        self._fork()
        program = args[_STARTS[event]]
        if event == "subprocess.Popen" and program is None:
            program = args[1][0] if isinstance(args[1], list | tuple) and args[1] else args[1]
        first = os.fsdecode(program).split() if isinstance(program, str | bytes | os.PathLike) else [str(program)]
        self.note(PROGRAM, f"started {os.path.basename(first[0]) if first else '(nothing)'}")

    def _forks(self, _: str, __: tuple[Any, ...]) -> None:
        self._fork()

    def _searches(self, event: str, _: tuple[Any, ...]) -> None:
        frame: FrameType | None = sys._getframe(2)  # of what raised the event
        while frame is not None and frame.f_code.co_filename.endswith((_INSPECT, __file__)):
            frame = frame.f_back
        if frame is not None and frame.f_code.co_filename == self._watched.plugin:
            self.note(SEARCH, f"called {event}")


def _absolute(path: Any) -> str:
    if isinstance(path, int):
        try:
            return os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return ""
    try:
        return os.path.realpath(os.fsdecode(path))
    except (TypeError, ValueError, OSError):
        return ""


def _within(path: str, place: str) -> bool:
    return path == place or path.startswith(place + os.sep)


def _named(path: str, places: tuple[tuple[str, str], ...]) -> str | None:
    """The path as a note tells it: below the name of its place. None where it lies in none of them."""
    for place, name in places:
        if _within(path, place):
            return name + path[len(place) :]
    return None


# Of an import, and of a question for a version. importlib.resources is not among them: data are read by it.
_ABOUT_CODE = ("<frozen importlib", os.path.dirname(importlib.metadata.__file__))
_recording = False


@dataclass(frozen=True, eq=False)
class _Recorder:
    files: set[str]
    opened_by: FrameType  # the code with the block: what called that code says nothing about the block


_recorders: list[_Recorder] = []


@contextlib.contextmanager
def files_opened() -> Iterator[set[str]]:
    """The files that this process opens in the block, but for code: what a data set is read from."""
    global _recording
    if not _recording:
        sys.addaudithook(_record)
        _recording = True
    recorder = _Recorder(set(), sys._getframe(2))  # over contextlib's
    _recorders.append(recorder)
    try:
        yield recorder.files
    finally:
        _recorders.remove(recorder)


def _record(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and _recorders and isinstance(args[0], str | bytes | os.PathLike):
        path = os.fsdecode(args[0])
        if not path.endswith((".py", ".pyc", ".so", ".toml")) and not path.startswith(("/proc", "/sys", "/dev")):
            for recorder in _recorders:
                if not _about_code(recorder.opened_by):
                    recorder.files.add(path)


def _about_code(outermost: FrameType) -> bool:
    """Whether importlib opens it: an import, or a question for a version, looks at every entry of sys.path, and
    libraries then read files of their own, such as time zones. Any plugin's import may read them as well."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame is not outermost:
        if frame.f_code.co_filename.startswith(_ABOUT_CODE):
            return True
        frame = frame.f_back
    return False
