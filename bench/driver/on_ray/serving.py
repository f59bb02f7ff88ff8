"""The worker's side: a task of Ray opens the session's workspace and calls the stage."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray

from bench.artifacts.refs import Workspace
from bench.confinement import fork_server
from bench.driver.faults import GPU_FULL, memory_fault
from bench.driver.on_ray.progress_mirror import sink_at
from bench.driver.on_ray.ray_nodes import gpus
from bench.driver.on_ray.stage_table import STAGES, WITHOUT_TORCH
from bench.driver.outcome import Outcome, attempt, notes_of_the_log
from bench.driver.running_stages import told
from bench.driver.session import Session, made_files, place_data_of, project_digest, store_of
from bench.errors import MachineError
from bench.machine import hand_back_freed_memory, keep_freed_memory
from bench.training.progress_files import Sink, tell_in

OUT_OF_GPU_MEMORY = "OutOfMemoryError"  # torch's name of it
RETRIES = 2  # for a worker that dies: killed, out of memory, its machine gone

# The session that this worker process serves, and its workspace. Processes outlive a session where Ray was started by
# somebody else (a notebook, a test), and a later session may know other plugins.
_session_id = ""
_workspace: Workspace | None = None
_tells: Sink | None = None  # where this worker says what it does


def serve(
    session_id: str,
    session: list[Any],
    files: dict[str, Any],
    stage: str,
    args: tuple[Any, ...],
    share: float = 0.0,
) -> tuple[Outcome, dict[str, bytes] | None]:
    """One stage in a worker process: how it came out, and the files that it made, if other machines may need them.
    `share`: of a GPU, which Ray has chosen."""
    if stage not in WITHOUT_TORCH:
        _one_thread()
    with notes_of_the_log() as notes:
        ready = attempt(workspace_with, session_id, session[0], files, share)
        with told(_tells, "".join(session[1:]), stage, args):
            outcome = attempt(STAGES[stage].function, ready.value, *args) if ready.status == "ok" else ready
    if share:
        gpus().hand_back()
    if stage not in WITHOUT_TORCH:
        hand_back_freed_memory()
    if share and outcome.error_type == OUT_OF_GPU_MEMORY:  # of a method as well: a larger GPU would do
        outcome = Outcome("lost", error_type=GPU_FULL, message=outcome.message)
    # No method runs there: what lacks is the machine's.
    elif STAGES[stage].role == "student" and (fault := memory_fault(outcome.error_type, outcome.message)) is not None:
        outcome = Outcome("lost", message=f"{fault} while it ran '{stage}'")
    outcome = replace(outcome, notes=tuple(notes))
    contents = None
    if _workspace is not None and _workspace.checks:
        contents = {address: (_workspace.store.root / address).read_bytes() for address in made_files(outcome)}
    return outcome, contents


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def serve_in_worker(*args: Any) -> tuple[Outcome, dict[str, bytes] | None]:
    """`serve` in a process of Ray. What plugins' processes are forked from comes first: nothing is computed yet."""
    stage = args[3]
    keep_freed_memory()
    if stage not in WITHOUT_TORCH or "CONDENSEBENCH_DATASET" in os.environ:
        fork_server.start_early("bench.stages.lent")
    return serve(*args)


def as_task(function: Callable[..., tuple[Outcome, dict[str, bytes] | None]], *, calls: int = 0) -> Any:
    """A function with the arguments of `serve` as Ray runs it in a worker. The function travels by name, and so shares
    its module's state there. `calls`: after which the worker's process ends; 0: it is kept."""
    return ray.remote(max_retries=RETRIES, num_returns=2, max_calls=calls)(function)


task = as_task(serve_in_worker)
fresh_task = as_task(serve_in_worker, calls=1)


def workspace_with(session_id: str, session: Any, files: dict[str, Any], share: float) -> Workspace:
    """The session's workspace on this task's device, with files that other machines made in its store."""
    ws = _workspace_for(session_id, session)
    ws.device, ws.gpu_share = gpus().device(share) if share else "cpu", share
    missing: dict[Any, list[str]] = {}
    for address, reference in files.items():
        if not (ws.store.root / address).is_file():
            missing.setdefault(reference, []).append(address)
    for reference, addresses in missing.items():
        contents = ray.get(reference)
        for address in addresses:
            ws.store.adopt(address, contents[address])
    return ws


def _workspace_for(session_id: str, reference: Any) -> Workspace:
    """The workspace (plugins, opened data sets), kept for the next task of the same session."""
    global _session_id, _workspace, _tells
    if _workspace is None or session_id != _session_id:
        session: Session = ray.get(reference)
        if session.ship and project_digest() != session.code:
            raise MachineError(
                "a machine of the cluster has another version of condensebench than the one that started the run. "
                "Install the same version on every machine."
            )
        place_data_of(session)
        _workspace = Workspace(
            store_of(session),
            session.registry,
            checks=session.ship,
            limits=session.limits,
            results=session.results,
        )
        _session_id = session_id
        _tells = sink_at(session.progress)
        tell_in(_tells or "")
    return _workspace
