"""Worlds for tests: small data, plugins and records that many tests share."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the project
