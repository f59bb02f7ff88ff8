"""Runs stages on Ray: tasks of one thread in reused worker processes. The only file that imports ray.

Two kinds of worker never share a process: those that have methods and encoders run, and those that train and test
students. Ray keeps worker processes apart by their runtime environment, which carries the role, and the name of the
data set where a plugin gives it. Code of methods, and of compressors that plugins give, runs in neither:
bench/confinement/ forks a process for it.

On one machine every task sees the same store and only addresses travel. With an address (other machines, no shared
folder) a task returns the file that it made, Ray's object store carries it, and the task that needs it puts it in
place. Every machine needs the same version of this project installed, which is checked.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import heapq
import importlib
import itertools
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Literal, cast

# Ray starts workers at niceness 15; beside any other load an `import torch` then takes most of a minute.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")  # for its first process, beside any other load
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A task that is too large for the machine fails after as many attempts as one that crashes; Ray's own default is to
# try for ever.
os.environ.setdefault("RAY_task_oom_retries", "2")

import ray
from ray.experimental import internal_kv as kv

from bench import machine
from bench.artifacts.refs import DatasetRef, Workspace
from bench.artifacts.size_limits import given
from bench.artifacts.store import LOG
from bench.confinement import fork_server
from bench.confinement.plugin_limits import KILLED, Limits
from bench.driver.faults import GPU_FULL, RayLost, memory_fault, oom_kills
from bench.driver.leftovers import session_folder
from bench.driver.outcome import Outcome, attempt, fault_or_failure, notes_of_the_log
from bench.driver.pulse import Pulse
from bench.driver.running_stages import ENDING, told
from bench.driver.session import Session, made_files, place_data_of, project_digest, store_of
from bench.driver.shares import Share, Shares, gpu_full, plugins_that_wish, unmet
from bench.errors import MachineError, UserError
from bench.foreign.named_files import known_sets
from bench.places import known as data_places
from bench.plugins.registry import Registry
from bench.training.progress_files import Sink, folder_sink, tell_in
from bench.training.speed_ups import speed_ups
from bench.trials.trial import Trial


@dataclass(frozen=True)
class Stage:
    """A stage as Ray runs it: its function (or `module:function`), the kind of worker, and its share of a GPU where
    nothing is known of the memory that it needs (bench/driver/shares.py).

    The driver hands out stages and runs none, so it does not load their modules, nor torch, which they compute with.
    """

    place: str | Callable[..., Any]
    role: Literal["student", "method"]
    gpus: float | None  # None: what the method's module says

    @property
    def function(self) -> Callable[..., Any]:
        """What runs: its module is loaded now, unless it was."""
        if callable(self.place):
            return self.place
        module, _, name = self.place.partition(":")
        return cast(Callable[..., Any], getattr(importlib.import_module(module), name))


STAGES = {
    "describe": Stage("bench.artifacts.describe:describe", "student", gpus=0.0),
    "teach": Stage("bench.stages.teach:teach", "student", gpus=1.0),
    "condense": Stage("bench.stages.condense:condense", "method", gpus=None),
    "encode_labels": Stage("bench.stages.encode:encode_labels", "method", gpus=1.0),
    "evaluate": Stage("bench.stages.evaluate:evaluate", "student", gpus=1.0),
    "learning_curve": Stage("bench.stages.curve:learning_curve", "student", gpus=1.0),
}
WITHOUT_TORCH = {"describe"}  # where the data set was described before
OUT_OF_GPU_MEMORY = "OutOfMemoryError"  # torch's name of it
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
RETRIES = 2  # for a worker that dies: killed, out of memory, its machine gone
OBJECT_STORE_BYTES = 256 * 2**20  # on one machine nothing but addresses and small values go through it
TOKEN_HINT = (
    "If the cluster asks for a token (`ray start --head` does so where it finds one), copy ~/.ray/auth_token from its "
    "head to this machine; RAY_AUTH_MODE=disabled on every machine turns tokens off."
)
PATIENCE = 20.0  # seconds for which a cluster's server may be gone; Ray's client ends this process after 60
SHUTDOWN_WITHIN = 60.0  # seconds for Ray to end
THROUGH_RAY = "ray:"  # before a session's name: what workers say goes through the cluster
KV_NAMESPACE = "condensebench"
MIRROR_EVERY = 2.0  # seconds between looks at what the workers of a cluster say
NODES_WITHIN = 60.0  # seconds for machines of a cluster to join, where those that are there cannot do what is wished
PROBE_WITHIN = 30.0  # seconds for a machine of a cluster to tell the memory of its GPUs
TOKEN = secrets.token_hex(32)  # of the Ray processes that this process starts

_folders = contextlib.ExitStack()  # of the Ray that this process started
atexit.register(_folders.close)

# The session that this worker process serves, and its workspace. Processes outlive a session where Ray was started by
# somebody else (a notebook, a test), and a later session may know other plugins.
_session_id = ""
_workspace: Workspace | None = None
_tells: Sink | None = None  # where this worker says what it does


class RayExecutor:
    """Runs stages; at most two tasks a core wait at Ray, the rest wait here in the order of their priority.

    Args:
        registry: plugins that the stages may name.
        store: folder of the artifacts.
        jobs: tasks at once; None: one a core.
        address: of an existing cluster; None: Ray is started on this machine.
        device: where networks run, on this machine.
        arithmetic: of the worker processes, see bench.machine.
        limits: of the processes of plugins; None: the default ones.
        results: folder of the records, in which plugins have nothing to write.
        progress: folder where it stands which stages run, and how far long trainings are; None: nowhere.
        gpu_share: of a GPU that every stage which uses one gets at least; None: by the memory that it needs.
        teacher_gpus: that train a teacher together.
    """

    def __init__(
        self,
        registry: Registry,
        store: Path,
        *,
        jobs: int | None = None,
        address: str | None = None,
        device: str = "cpu",
        arithmetic: str = machine.NATIVE,
        limits: Limits | None = None,
        results: Path | None = None,
        progress: Path | None = None,
        gpu_share: float | None = None,
        teacher_gpus: int = 1,
    ) -> None:
        self._registry, self._switches = registry, machine.switches(arithmetic)
        self._owns = not ray.is_initialized()
        if self._owns:
            start(jobs, address)
        self.ship = address is not None
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
        if self.ship:  # this machine need not be like those that compute
            device = "cuda" if resources.get("GPU", 0) else "cpu"
        self._device = device
        # A process that has used one GPU cannot change to another: where a machine has several, no task with a GPU is
        # given the process of another task, which Ray would do.
        self._fresh = max((node.get("GPU", 0.0) for node in nodes()), default=0.0) > 1
        self._gpu_memory = 0 if device == "cpu" else _smallest_gpu(self.ship)
        self._shares = Shares(registry, self._gpu_memory, gpu_share, teacher_gpus)
        self._too_small: set[tuple[str, float]] = set()  # (stage, share of a GPU) that did not do
        code = project_digest() if self.ship else ""
        folders = () if results is None else (results.resolve(),)
        facts = self.ship, code, data_places(), known_sets(), given()
        self._session_id, self._progress = uuid.uuid4().hex, progress
        told_in = "" if progress is None else f"{THROUGH_RAY}{self._session_id}" if self.ship else str(progress)
        faster = ",".join(speed_ups())
        session = Session(registry, str(store), device, *facts, limits or Limits(), folders, faster, told_in)
        self._session = ray.put(session)
        self._mirror = None if progress is None or not self.ship else _Mirror(self._session_id, progress)
        cores = max(1, int(resources.get("CPU", 1)))
        self.jobs = min(jobs or cores, cores)
        # A cluster has more cores than the jobs asked for; then no more than `jobs` may be at Ray at once.
        self._free = 2 * cores if self.jobs == cores else self.jobs
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = itertools.count()
        # When shipping: address in the store -> reference to the bytes of files by address, this one's among them.
        self._files: dict[str, Any] = {}
        self._pulse = Pulse(servers(address), patience=PATIENCE if self.ship else 0.0)
        self._oom_kills = oom_kills()
        self._lost = False

    async def during(self, work: Awaitable[Any]) -> None:
        """Await some work, for as long as Ray lives. Raises RayLost where it does not."""
        task, end = asyncio.ensure_future(work), asyncio.ensure_future(self._pulse.end())
        try:
            await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._lost = True
                raise RayLost(end.result())
            await task
        finally:
            end.cancel()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run(self, stage: str, *args: Any, priority: int = 0, needs: tuple[str, ...] = ()) -> Outcome:
        """Run one of STAGES in a worker. `needs` are the addresses of the artifacts that it reads.

        Where somebody else killed a plugin's process, it runs again, as often as where a worker dies.
        """
        await self._slot(priority)
        ticket = uuid.uuid4().hex
        try:
            files = {address: self._files[address] for address in needs if address in self._files}
            share = self._share(stage, *args)
            for left in reversed(range(1 + RETRIES)):
                # The session is wrapped, so that a worker unpacks it once and not for every task.
                task = _fresh_task if share.gpus and self._fresh else _task
                outcome_ref, file_ref = task.options(**self.task_options(stage, *args, share=share)).remote(
                    self._session_id, [self._session, ticket], files, stage, args, share.gpus
                )
                try:
                    outcome: Outcome = await outcome_ref
                except ray.exceptions.RayError as error:
                    return await self._fault(stage, error)
                except asyncio.CancelledError:
                    if not self._lost:
                        with contextlib.suppress(Exception):  # Ray may be gone already
                            ray.cancel(outcome_ref)
                    raise
                for note in outcome.notes:
                    LOG.warning("%s", note)
                if outcome.error_type == GPU_FULL and share.gpus < 1 and left:
                    self._too_small.add((stage, share.gpus))
                    share = replace(share, gpus=1.0)
                elif outcome.error_type != KILLED or not left:
                    break
            if outcome.error_type == GPU_FULL:
                return replace(outcome, message=gpu_full(stage, share, self._gpu_memory, outcome.message))
            if outcome.error_type == KILLED and oom_kills() > self._oom_kills:
                return self._out_of_memory(stage)
            if self.ship:
                self._files |= dict.fromkeys(made_files(outcome), file_ref)
            return outcome
        finally:
            self._over(ticket)
            self._release()

    def _over(self, ticket: str) -> None:
        """Take back what a worker said of a stage, where it was killed before it did so itself."""
        if self._mirror is not None:
            self._mirror.over.add(f"{ticket}{ENDING}")
        if self._progress is not None:
            (self._progress / f"{ticket}{ENDING}").unlink(missing_ok=True)

    async def _fault(self, stage: str, error: ray.exceptions.RayError) -> Outcome:
        """The outcome of a stage that Ray could not end. Raises RayLost where Ray itself is gone."""
        if (gone := await self._pulse.dead()) is not None:
            self._lost = True
            raise RayLost(gone)
        # A worker that died as often as RETRIES allows died by what it did, unless the machine ran short of memory.
        if isinstance(error, ray.exceptions.WorkerCrashedError) and oom_kills() > self._oom_kills:
            return self._out_of_memory(stage)
        return fault_or_failure(error, str(error))

    @staticmethod
    def _out_of_memory(stage: str) -> Outcome:
        message = f"the machine ran out of memory while it ran '{stage}'; fewer --jobs need less"
        return Outcome("lost", message=message)

    def task_options(self, stage: str, *args: Any, share: Share | None = None) -> dict[str, Any]:
        """The role of the worker and the share of the machine that a stage gets, as Ray reads them."""
        if share is None:
            gpus = STAGES[stage].gpus
            share = self._of_this_machine(self._shares.of_method(args[0]) if gpus is None else Share(gpus))
        kind = {"CONDENSEBENCH_ROLE": STAGES[stage].role, **self._own_workers(args)}
        environment = {"env_vars": {**ONE_THREAD, **self._switches, **kind}}
        options: dict[str, Any] = {"runtime_env": environment, "num_cpus": share.cpus}
        if share.gpus:
            options["num_gpus"] = share.gpus
        if share.memory:
            options["memory"] = share.memory
        return options

    def _share(self, stage: str, *args: Any) -> Share:
        """What a stage gets: a GPU of its own where so little did not do before."""
        share = self._of_this_machine(self._shares.of(stage, *args))
        return replace(share, gpus=1.0) if (stage, share.gpus) in self._too_small else share

    def _of_this_machine(self, share: Share) -> Share:
        return replace(share, gpus=0.0) if self._device == "cpu" else share

    def expect(self, trials: Sequence[Trial]) -> None:
        """Raise UserError where what a plugin of these trials wishes for is on no machine: Ray would wait for ever.
        Machines of a cluster may come late: they are waited for, for NODES_WITHIN."""
        if self._device == "cpu" and self._shares.teacher_gpus > 1:
            raise UserError(f"--teacher-gpus {self._shares.teacher_gpus}: no GPU is here. Leave the option out.")
        deadline = time.monotonic() + (NODES_WITHIN if self.ship else 0.0)
        for who, share in plugins_that_wish(self._shares, trials):
            while (reason := unmet(self._of_this_machine(share), nodes())) is not None:
                if time.monotonic() >= deadline:
                    raise UserError(f"{who} cannot run here: {reason}.")
                time.sleep(1.0)

    def _own_workers(self, args: tuple[Any, ...]) -> dict[str, str]:
        """What keeps the workers that open a plugin's data set apart: its code runs in them, and whatever that changes
        of torch, say, stays changed. Nothing for the data sets of this project."""
        specs = [each.spec for each in args if isinstance(each, DatasetRef)] or [str(args[0])]
        name = specs[0].partition(":")[0]
        if name not in self._registry.names("dataset") or not self._registry.get("dataset", name).foreign:
            return {}
        return {"CONDENSEBENCH_DATASET": name}

    async def _slot(self, priority: int) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._count), turn))
        await turn

    def _release(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Stop what this executor started."""
        if self._mirror is not None:
            self._mirror.end(self._lost)
        if self._owns:
            _shut_down(self._lost)


class _Mirror:
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


def _sink(place: str) -> Sink | None:
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


def start(jobs: int | None, address: str | None) -> None:
    """Start Ray on this machine, or connect to the cluster at `address`. Raises UserError."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            _knock(address)
            _authenticate(address)
            ray.init(address=address, **quiet)
            _terminated_is_interrupted()
            return
        # `local`: never some cluster that happens to run here or that RAY_ADDRESS names; that takes --ray-address.
        # Workers of both roles may idle without Ray ending them: a new one imports torch again.
        folder = _folders.enter_context(session_folder())
        with _private_token():
            ray.init(
                address="local",
                _temp_dir=str(folder),
                num_cpus=jobs,
                include_dashboard=False,
                configure_logging=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _system_config={"num_workers_soft_limit": 2 * (jobs or os.cpu_count() or 1)},
                **quiet,
            )
        # Ray would print what it writes of dead servers and workers; the run says it by itself.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    except Exception as error:  # a bare one where the rest does not answer within 30 s, as on a machine that is busy
        _folders.close()
        place = "could not be started" if address is None else f"could not be reached at '{address}'"
        reason = str(error).strip().partition("\n")[0].rstrip(".")  # Ray's own goes on for pages
        hint = f" {TOKEN_HINT}" if address is not None and not isinstance(error, OSError | ValueError) else ""
        raise UserError(f"Ray {place}: {reason}.{hint}") from None
    _terminated_is_interrupted()


def servers(address: str | None) -> dict[str, tuple[str, int]]:
    """The servers without which a driver cannot go on: name -> (host, port)."""
    if address is not None and address.startswith("ray://"):
        places = {"client server": address.removeprefix("ray://")}
    else:
        context = ray.get_runtime_context()
        nodes = {node["NodeID"]: node for node in ray.nodes()}  # type: ignore[no-untyped-call]
        node = nodes[context.get_node_id()]
        raylet = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
        places = {"gcs_server": context.gcs_address, "raylet": raylet}
    split = {name: place.rpartition(":") for name, place in places.items()}
    return {name: (host.strip("[]"), int(port)) for name, (host, _, port) in split.items()}


def _shut_down(lost: bool) -> None:
    """Stop Ray on this machine, or leave the cluster.

    Ray's own ending may wait for ever for the answer of a server that is `lost`: the servers of this process are ended
    first then. Nothing is waited for longer than SHUTDOWN_WITHIN.
    """
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


def _knock(address: str) -> None:
    """Raise OSError where nobody answers: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _authenticate(address: str) -> None:
    """Raise RuntimeError where a cluster refuses this machine's token. Ray itself would try for two minutes, and
    print a line every second, so a process of its own asks, and is ended at the first refusal."""
    if not address.rpartition(":")[2].isdigit() or "://" in address:
        return
    code = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, address], stderr=subprocess.PIPE, text=True) as asking:
        assert asking.stderr is not None
        for line in asking.stderr:
            if "Unauthenticated" in line:
                asking.kill()
                raise RuntimeError("it asks for a token, and this machine has none or another one")


@contextlib.contextmanager
def _private_token() -> Iterator[None]:
    """Only this run may talk to the processes that it starts: by a token of its own, in memory. Ray would write one to
    the home folder, and it says on the terminal that it uses one. RAY_AUTH_MODE, where it is set, decides instead."""
    if "RAY_AUTH_MODE" in os.environ:
        yield
        return
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")  # ray.init sets the first
    before = {name: os.environ.get(name) for name in names}
    os.environ["RAY_AUTH_TOKEN"] = TOKEN
    log = logging.getLogger("ray._private.authentication")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _serve(
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
        ready = attempt(_workspace_with, session_id, session[0], files, share)
        with told(_tells, "".join(session[1:]), stage, args):
            outcome = attempt(STAGES[stage].function, ready.value, *args) if ready.status == "ok" else ready
    if share:
        _gpus().hand_back()
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


def _serve_in_worker(*args: Any) -> tuple[Outcome, dict[str, bytes] | None]:
    """`_serve` in a process of Ray. What plugins' processes are forked from comes first: nothing is computed yet."""
    stage = args[3]
    if stage not in WITHOUT_TORCH or "CONDENSEBENCH_DATASET" in os.environ:
        fork_server.start_early("bench.stages.lent")
    return _serve(*args)


def as_task(serve: Callable[..., tuple[Outcome, dict[str, bytes] | None]], *, calls: int = 0) -> Any:
    """A function with the arguments of `_serve` as Ray runs it in a worker. The function travels by name, and so shares
    its module's state there. `calls`: after which the worker's process ends; 0: it is kept."""
    return ray.remote(max_retries=RETRIES, num_returns=2, max_calls=calls)(serve)


_task = as_task(_serve_in_worker)
_fresh_task = as_task(_serve_in_worker, calls=1)


def nodes() -> list[dict[str, float]]:
    """Ray's resources of each machine that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _smallest_gpu(ship: bool) -> int:
    """Bytes of the smallest GPU, of this machine or of all that a cluster has; 0 where a machine does not tell."""
    if not ship:
        return min(_gpus().memory(), default=0)
    probe = ray.remote(max_calls=1)(_gpus().memory)
    answering = [
        probe.options(num_cpus=0, num_gpus=0.01, resources={f"node:{node['NodeManagerAddress']}": 0.001}).remote()
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["Resources"].get("GPU")
    ]
    answers, silent = ray.wait(answering, num_returns=len(answering), timeout=PROBE_WITHIN)
    for reference in silent:
        ray.cancel(reference)
    memories = [ray.get(answer) for answer in answers]
    return 0 if silent or not all(memories) else min(each for answer in memories for each in answer)


def _gpus() -> ModuleType:
    """bench.training.gpus, which loads torch: a driver and a stage without a GPU do without."""
    return importlib.import_module("bench.training.gpus")


def _workspace_with(session_id: str, session: Any, files: dict[str, Any], share: float) -> Workspace:
    """The session's workspace on this task's device, with files that other machines made in its store."""
    ws = _workspace_for(session_id, session)
    ws.device, ws.gpu_share = _gpus().device(share) if share else "cpu", share
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
        _tells = _sink(session.progress)
        tell_in(_tells or "")
    return _workspace
