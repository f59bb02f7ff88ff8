"""The machines of a Ray: their resources, the memory of their GPUs, and the servers that a driver depends on."""

from __future__ import annotations

import importlib
from types import ModuleType

import ray

PROBE_WITHIN = 30.0  # seconds for a machine of a cluster to tell the memory of its GPUs


def servers(address: str | None) -> dict[str, tuple[str, int]]:
    """The servers without which a driver cannot go on: name -> (host, port)."""
    if address is not None and address.startswith("ray://"):
        places = {"client server": address.removeprefix("ray://")}
    else:
        context = ray.get_runtime_context()
        by_id = {node["NodeID"]: node for node in ray.nodes()}  # type: ignore[no-untyped-call]
        node = by_id[context.get_node_id()]
        raylet = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
        places = {"gcs_server": context.gcs_address, "raylet": raylet}
    split = {name: place.rpartition(":") for name, place in places.items()}
    return {name: (host.strip("[]"), int(port)) for name, (host, _, port) in split.items()}


def nodes() -> list[dict[str, float]]:
    """Ray's resources of each machine that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def smallest_gpu(ship: bool) -> int:
    """Bytes of the smallest GPU, of this machine or of all that a cluster has; 0 where a machine does not tell."""
    if not ship:
        return min(gpus().memory(), default=0)
    probe = ray.remote(max_calls=1)(gpus().memory)
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


def gpus() -> ModuleType:
    """bench.training.gpus, which loads torch: a driver and a stage without a GPU do without."""
    return importlib.import_module("bench.training.gpus")
