"""GX on DuckDB over a view of the blobs: less memory, and every statement reads anew."""

from __future__ import annotations

from bench.kit.task import Task
from bench.peers.gx_duckdb import on_duckdb


def check(task: Task) -> list[str]:
    """Validate the view."""
    return on_duckdb(task, "view")
