"""Ray starts on this machine, or a cluster is joined; and it ends."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import ray

from bench.driver.leftovers import session_folder
from bench.driver.on_ray.cluster_access import TOKEN_HINT, authenticate, knock, private_token
from bench.driver.on_ray.lean_node import lean_nodes
from bench.driver.on_ray.start_watch import servers_watched
from bench.errors import UserError

OBJECT_STORE_BYTES = 256 * 2**20  # on one machine nothing but addresses and small values go through it
SHUTDOWN_WITHIN = 60.0  # seconds for Ray to end

_folders = contextlib.ExitStack()  # of the Ray that this process started
atexit.register(_folders.close)
_start_watch = contextlib.ExitStack()


def start(jobs: int | None, address: str | None) -> None:
    """Start Ray on this machine, or connect to the cluster at `address`. Raises UserError."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            knock(address)
            authenticate(address)
            ray.init(address=address, **quiet)
            _terminated_is_interrupted()
            return
        # `local`: never some cluster that happens to run here or that RAY_ADDRESS names; that takes --ray-address.
        # Workers of both roles may idle without Ray ending them: a new one imports torch again.
        folder = _folders.enter_context(session_folder())
        _start_watch.enter_context(servers_watched(_folders.close))
        with private_token(), lean_nodes():
            ray.init(
                address="local",
                _temp_dir=str(folder),
                num_cpus=jobs,
                include_dashboard=False,
                configure_logging=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _system_config={
                    "num_workers_soft_limit": 2 * (jobs or os.cpu_count() or 1),
                    "prestart_worker_first_driver": False,  # no stage would use such workers: theirs have variables
                },
                **quiet,
            )
        # Ray would print what it writes of dead servers and workers; the run says it by itself.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    except KeyboardInterrupt:
        end_start_watch()
        raise
    except Exception as error:  # a bare one where the rest does not answer within 30 s, as on a machine that is busy
        end_start_watch()
        _folders.close()
        place = "could not be started" if address is None else f"could not be reached at '{address}'"
        reason = str(error).strip().partition("\n")[0].rstrip(".")  # Ray's own goes on for pages
        hint = f" {TOKEN_HINT}" if address is not None and not isinstance(error, OSError | ValueError) else ""
        raise UserError(f"Ray {place}: {reason}.{hint}") from None
    _terminated_is_interrupted()


def end_start_watch() -> None:
    """Leave it to others to see that a server dies: to the pulse of a run, or to the end of Ray."""
    _start_watch.close()


def shut_down(lost: bool) -> None:
    """Stop Ray on this machine, or leave the cluster.

    Ray's own ending may wait for ever for the answer of a server that is `lost`: the servers of this process are ended
    first then. Nothing is waited for longer than SHUTDOWN_WITHIN.
    """
    end_start_watch()
    node = ray._private.worker._global_node
    if lost and node is not None and node.is_head():
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    ending = threading.Thread(target=ray.shutdown, daemon=True)
    with _uninterrupted():
        ending.start()
        ending.join(SHUTDOWN_WITHIN)
        if ending.is_alive():
            atexit.unregister(ray.shutdown)
        _folders.close()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let neither a second Ctrl-C nor SIGTERM end what takes seconds and cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminated_is_interrupted() -> None:
    """Let SIGTERM, as batch systems send it, end a run as Ctrl-C does; Ray would print the stack of the process."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(number, frame)
        else:  # in the background of a shell script, Ctrl-C is ignored
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
