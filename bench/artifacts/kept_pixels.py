"""How many bytes of decoded photographs a run may keep: told before anything is decoded."""

from __future__ import annotations

from bench.artifacts.refs import Workspace
from bench.artifacts.tried import try_to_open
from bench.photographs.cache_limits import cache_limit, shown
from bench.sources import FileSource


def pixels_to_keep(ws: Workspace, spec: str) -> str | None:
    """A sentence on what of a data set's photographs is still to be decoded; None where nothing is, or nothing is kept.

    No photograph is read. Raises UserError where the limit is no size.
    """
    limit = cache_limit()
    try:
        data = ws.data(spec)
        dataset = data.dataset
        if not dataset.files():  # drawn, or part of a package: opening it would take longer than the rest of a start
            return None
        if data.spec.plugin.foreign:
            try_to_open(data.spec, data.root, ws.limits, splits=True)
        splits = {"train": dataset.train(), "test": dataset.test()}
        sizes = {name: each.undecoded() for name, each in splits.items() if isinstance(each, FileSource)}
    except Exception:  # its files are not here, or its `load` fails: whoever opens it tells why
        return None
    if not limit or not any(sizes.values()):
        return None
    parts = ", ".join(f"{name} {shown(size)}" for name, size in sizes.items() if size)
    return (
        f"{spec}: a split that is read whole is decoded once and kept in {ws.store.root / 'datasets'}: {parts} "
        f"(limit {shown(limit)}, see --cache-limit)."
    )
