"""Whether the servers of Ray that a run depends on still answer.

Ray's own client waits for a dead server for minutes, or ends the process from within. So the run asks by itself: a
server of gRPC greets whoever opens a connection of HTTP/2, and one that is dead or stopped does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # preface, and a frame of no settings
EVERY = 0.5  # seconds between two rounds
ANSWER_WITHIN = 20.0  # seconds, for a server on a busy machine
SILENCES = 3  # so often in a row; a process that was stopped and goes on may miss one


class Pulse:
    """The servers of a run, knocked at in turns.

    Args:
        servers: name -> (host, port).
        patience: seconds for which a server may refuse connections before it counts as dead. A cluster may start a
            server again; what runs on this machine only is gone once it refuses.
    """

    def __init__(self, servers: Mapping[str, tuple[str, int]], patience: float = 0.0) -> None:
        self._servers, self._patience = servers, patience

    async def end(self) -> str:
        """Wait until a server is dead; what is to be said of it. Never returns while all answer."""
        ends: list[asyncio.Future[str]] = [
            asyncio.ensure_future(self._end(name, *place)) for name, place in self._servers.items()
        ]
        ends.append(asyncio.get_running_loop().create_future())  # without servers there is no end
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for each in ends:
                each.cancel()

    async def dead(self) -> str | None:
        """What is to be said of a server that refuses connections now; None where all accept them."""
        for name, (host, port) in self._servers.items():
            if await _knock(host, port) == "refused":
                return _sentence(name, host, port, "is gone")
        return None

    async def _end(self, name: str, host: str, port: int) -> str:
        loop, silences, refused_since = asyncio.get_running_loop(), 0, None
        while True:
            answer = await _knock(host, port)
            silences = silences + 1 if answer == "silent" else 0
            refused_since = (refused_since or loop.time()) if answer == "refused" else None
            if refused_since is not None and loop.time() - refused_since >= self._patience:
                return _sentence(name, host, port, "is gone")
            if silences == SILENCES:
                return _sentence(name, host, port, f"has not answered for {SILENCES * ANSWER_WITHIN:.0f} seconds")
            await asyncio.sleep(EVERY)


def _sentence(name: str, host: str, port: int, what: str) -> str:
    return f"Ray's server '{name}' at {host}:{port} {what}."


async def _knock(host: str, port: int) -> str:
    """`answered`, `refused` or `silent`; `unknown` where this process cannot even ask (no more open files)."""
    # Not `asyncio.wait_for`: in Python 3.11 it loses a cancellation that comes as the answer does, and the run would
    # wait for ever for who knocks.
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            reader, writer = await asyncio.open_connection(host, port)
    except (ConnectionError, TimeoutError) as error:
        return "silent" if isinstance(error, TimeoutError) else "refused"
    except OSError:
        return "unknown"
    try:
        writer.write(HELLO)
        async with asyncio.timeout(ANSWER_WITHIN):
            return "answered" if await reader.read(1) else "refused"
    except TimeoutError:
        return "silent"
    except OSError:
        return "refused"
    finally:
        writer.close()
