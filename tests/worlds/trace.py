"""Which functions of bench stand between the command line and some of its functions, as a program runs them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any


def way_to(landmarks: Collection[str], program: Callable[[], Any]) -> list[str]:
    """Run the program; return the functions of bench, as `module:name` and in the order in which they are first
    entered, that had not returned yet when one of the landmarks was entered, and the landmarks.

    A task of asyncio counts as called by the function that created it; what is defined inside a function counts as that
    function.
    """
    entered: dict[str, None] = {}
    way: set[str] = set()
    creators: dict[FrameType, list[str]] = {}  # first frame of a task -> functions that stood there as it was created

    def standing(frame: FrameType | None) -> list[str]:
        """The functions that have not returned, from a frame outwards; a coroutine that waits has no outer frame."""
        names = []
        while frame is not None:
            names += [name] if (name := _name(frame)) else []
            if frame in creators:
                return names + creators[frame]
            frame = frame.f_back
        return names

    def look(frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        if frame.f_code.co_qualname == "BaseEventLoop.create_task":
            creators[frame.f_locals["coro"].cr_frame] = standing(frame)
        elif name := _name(frame):
            entered.setdefault(name)
            if name in landmarks and "<locals>" not in frame.f_code.co_qualname:
                way.update(standing(frame))

    sys.setprofile(look)
    try:
        program()
    finally:
        sys.setprofile(None)
    return [name for name in entered if name in way]


def _name(frame: FrameType) -> str | None:
    """`module:function` or `module:Class.method` of a frame of bench; None for any other, and for a module's body."""
    module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname.partition(".<locals>")[0]
    return f"{module}:{function}" if module.partition(".")[0] == "bench" and function[0] != "<" else None
