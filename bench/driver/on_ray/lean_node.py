"""Ray's node of this machine, with those of its processes alone that a run uses.

Ray starts further ones with every node: one for a dashboard that is not there, one that adds machines to a cluster, one
that sends what workers print to the driver, which does not listen. Each takes 0.4 s of CPU time to load Ray's modules.
Classes of Ray that are nobody's interface are changed for it, so that this is done with the releases of Ray alone that
it was tested with; others start as they do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import ray
import ray._private.node

from bench.driver.on_ray import setup_worker

TESTED = "2.60."  # the beginning of Ray's version


class LeanNode(ray._private.node.Node):
    """A head node without monitor, log monitor and dashboard, whose workers load Ray once."""

    latest: ClassVar[LeanNode | None] = None  # also one that is still being started

    def __init__(self, ray_params: Any, **options: Any) -> None:
        LeanNode.latest = self
        ray_params.update(no_monitor=True, include_log_monitor=False, setup_worker_path=setup_worker.__file__)
        super().__init__(ray_params, **options)

    def start_api_server(self, **_: Any) -> None:
        """Start nothing: Ray starts the dashboard's process even where no dashboard is wanted."""
        self._webui_url = ""


@contextlib.contextmanager
def lean_nodes() -> Iterator[None]:
    """Let `ray.init` start such nodes, where this release of Ray is one that was tested."""
    if not ray.__version__.startswith(TESTED):
        yield
        return
    module: Any = ray._private.node  # where `ray.init` looks for the class
    before = module.Node
    module.Node = LeanNode
    try:
        yield
    finally:
        module.Node = before
