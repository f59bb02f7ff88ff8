"""Wheels, built and installed without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def build_wheel(source: Path, folder: Path) -> Path:
    """The wheel of the project in `source`, written to `folder`."""
    _pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, site: Path) -> None:
    """Unpack a wheel into a folder that PYTHONPATH can name; what it depends on is taken from this environment."""
    _pip("install", "--target", str(site), str(wheel))


def _pip(verb: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", verb, "--no-deps", "--no-index"]
    subprocess.run([*command, *arguments], check=True)
