"""A session: what the workers of one executor are told, and which files travel between machines."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import places
from bench.artifacts import size_limits
from bench.confinement.plugin_limits import Limits
from bench.driver.outcome import Outcome
from bench.foreign import named_files
from bench.places import absolute_path
from bench.plugins.registry import ROOT, Registry
from bench.training import speed_ups


@dataclass(frozen=True)
class Session:
    """What all tasks of one executor share."""

    registry: Registry
    store: str
    device: str
    ship: bool
    code: str  # digest of this project's files, where other machines have to have the same
    data: str = ""  # the folders of data sets (bench.places), where there are any
    named_files: str = ""  # where files lie that methods name by their content (bench.foreign.named_files)
    size_limits: Mapping[str, str] = field(default_factory=dict)  # of the store (bench.artifacts.size_limits), by name
    limits: Limits = field(default_factory=Limits)  # of the processes of plugins
    results: tuple[Path, ...] = ()  # the folders of records that plugins have nothing to write in
    speed_ups: str = ""  # bench.training.speed_ups, where any were asked for
    progress: str = ""  # where workers say what they do: a folder, or `ray:` and a name; "": nowhere


def use_cluster_token() -> None:
    """Use the token that this machine has for clusters, as `ray start` does; a cluster without tokens ignores it. Ray
    reads the environment when it is imported, so this comes before."""
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token"))
    if "RAY_AUTH_MODE" not in os.environ and ("RAY_AUTH_TOKEN" in os.environ or file.is_file()):
        os.environ["RAY_AUTH_MODE"] = "token"


def project_digest() -> str:
    """Hex sha256 of the files of this project that decide a result."""
    content = hashlib.sha256()
    for folder in ("bench", "methods", "protocols"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".toml", ".safetensors"):
                content.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes())
    return content.hexdigest()


def store_of(session: Session) -> Path:
    """The driver's store where all is one machine; else one of this machine's own."""
    if not session.ship:
        return Path(session.store)
    if folder := os.environ.get("CONDENSEBENCH_STORE"):
        return absolute_path(folder)
    return Path(tempfile.gettempdir()) / f"condensebench-{os.getuid()}"


def place_data_of(session: Session) -> None:
    """Look for data sets where the driver does, keep as much of them, and train with its speed-ups. Where data lie,
    other machines' own variables say first."""
    if session.data and not (session.ship and places.VARIABLE in os.environ):
        os.environ[places.VARIABLE] = session.data
    if session.speed_ups:
        os.environ[speed_ups.VARIABLE] = session.speed_ups
    else:
        os.environ.pop(speed_ups.VARIABLE, None)
    if session.named_files:
        os.environ[named_files.VARIABLE] = session.named_files
    size_limits.place(session.size_limits, ours_first=session.ship)


def made_files(outcome: Outcome) -> list[str]:
    """The addresses of the artifacts that a stage made and that other stages read from the store."""
    if outcome.status != "ok":
        return []
    refs = outcome.value if isinstance(outcome.value, list) else [outcome.value]
    return [each.address for each in refs if hasattr(each, "address") and not getattr(each, "shipped", False)]
