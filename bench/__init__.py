"""CondenseBench: dataset condensation methods and soft-label compressors compared under fixed protocols.

    import bench
    records = bench.run(datasets=["digits"], methods=["random", "herding"], ipcs=[1, 10], results="results/mine")
    table = bench.leaderboard(records)     # a pandas DataFrame
    records = bench.load("results/mine")

Nothing heavy is imported before one of these is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.driver.run import load, run
    from bench.reports.leaderboard.rows import leaderboard

from bench.engine import ENGINE_VERSION

__all__ = ["ENGINE_VERSION", "leaderboard", "load", "run"]


def __getattr__(name: str) -> Any:
    if name in ("run", "load"):
        from bench.driver import run

        return getattr(run, name)
    if name == "leaderboard":
        from bench.reports.leaderboard import rows

        return rows.leaderboard
    raise AttributeError(f"module 'bench' has no attribute '{name}'")
