"""Ports of this machine, and waiting for what is behind them."""

from __future__ import annotations

import time
from collections.abc import Callable

from insitu.twin.programs import free_port as free_port
from insitu.twin.programs import listens as listens


def wait_until(ready: Callable[[], object], timeout_s: float = 30, what: str = "being ready") -> None:
    """Return when *ready* says so; fail after *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.05)
