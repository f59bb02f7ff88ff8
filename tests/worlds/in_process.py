"""A stand-in for Ray that serves every task at once in this process, so that a test sees the worker's side as well."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from bench.driver.on_ray import executor, ray_nodes, serving
from bench.stages import isolation


class _Task:
    """What `ray.remote` gives, without Ray."""

    def options(self, **_: Any) -> _Task:
        return self

    def remote(self, *args: Any) -> list[asyncio.Future]:
        """Two references that have their values already."""
        references = []
        for value in serving.serve(*args):
            references.append(asyncio.get_running_loop().create_future())
            references[-1].set_result(value)
        return references


def serve_in_process(monkeypatch: pytest.MonkeyPatch, **resources: float) -> None:
    """Let the executor believe that Ray runs here, with one core and these resources. All stages share the process,
    which a run never lets them do; methods have processes of their own as in a run."""
    stand_in = SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=lambda: {"CPU": 1.0, **resources},
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 1.0, "memory": 2.0**40, **resources}}],
        put=lambda value: value,
        get=lambda value: value,
        exceptions=ray.exceptions,
    )
    for module in (executor, ray_nodes, serving):
        monkeypatch.setattr(module, "ray", stand_in)
    monkeypatch.setattr(executor, "servers", lambda _: {})
    monkeypatch.setattr(serving, "task", _Task())
    monkeypatch.setattr(serving, "fresh_task", _Task())
    monkeypatch.setattr(serving, "_session_id", "")
    monkeypatch.setattr(serving, "_workspace", None)
    monkeypatch.setattr(isolation, "_method_code_ran", False)  # by an earlier test
