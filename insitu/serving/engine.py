"""The loaded model, and how many requests it takes at once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .payload import Column, Table, rows_of
from .runtimes import Runtime

_FEW_ROWS = 100
_BRIEF_S = 0.005
_BLANK: Mapping[str, Any] = {"boolean": False, "integer": 0, "long": 0, "float": 0.0, "double": 0.0, "string": ""}


@dataclass(frozen=True)
class Limits:
    """What the server takes.

    Attributes:
        max_body_bytes: Longer requests get 413.
        max_requests: Scoring requests that are read, wait or are scored; further ones get 503.
        body_timeout_s: How long a client may take to send its request; slower ones get 408.
        workers: Threads that score.
    """

    max_body_bytes: int = 16 << 20
    max_requests: int = 64
    body_timeout_s: float = 30.0
    workers: int = 1

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Limits:
        """Return what `INSITU_MAX_BODY_BYTES`, `…_MAX_REQUESTS`, `…_BODY_TIMEOUT_S` and `…_WORKERS` say."""
        return cls(
            int(environ.get("INSITU_MAX_BODY_BYTES", cls.max_body_bytes)),
            int(environ.get("INSITU_MAX_REQUESTS", cls.max_requests)),
            float(environ.get("INSITU_BODY_TIMEOUT_S", cls.body_timeout_s)),
            int(environ.get("INSITU_WORKERS", len(os.sched_getaffinity(0)))),
        )


class Busy(Exception):
    """As many requests as the server takes are in it."""


class Engine:
    """Scores tables, few at a time.

    Args:
        load: Returns the model; lets the libraries' errors through.
        columns: The model's.
    """

    def __init__(self, load: Callable[[], Runtime], columns: Sequence[Column], limits: Limits) -> None:
        self._load, self._columns, self._limits = load, columns, limits
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="scoring")
        self._runtime: Runtime | None = None
        self._quick_rows = 0
        self.in_flight = 0
        self.example: list[Any] | None = None
        """What the model answers to a row of blanks; None where it does not take one."""

    @property
    def loaded(self) -> bool:
        """Whether it can score."""
        return self._runtime is not None

    async def load(self) -> None:
        """Load the model and ask it once, so that the first request is no slower than the next."""
        loop = asyncio.get_running_loop()
        runtime = await loop.run_in_executor(self._pool, self._load)
        seconds = await loop.run_in_executor(self._pool, self._warm_up, runtime)
        self._quick_rows = min(_FEW_ROWS, int(_BRIEF_S / seconds)) if runtime.quick and seconds else 0
        self._runtime = runtime

    def _warm_up(self, runtime: Runtime) -> float | None:
        """Return how many seconds a row takes; None where the model wants other values than blanks."""
        blanks = {column.name: [_BLANK.get(column.type)] for column in self._columns}
        try:
            self.example = runtime.predict(blanks)
            started = time.perf_counter()
            runtime.predict(blanks)
        except Exception:  # noqa: BLE001  a model may refuse blanks: then its first request warms it up
            return None
        return time.perf_counter() - started

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count the block among the requests in flight; raise `Busy` when there are too many."""
        if self.in_flight >= self._limits.max_requests:
            raise Busy
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def predict(self, table: Table) -> list[Any]:
        """Return one value per row: of few rows at once, where a thread would cost more than the model."""
        assert self._runtime
        if rows_of(table) <= self._quick_rows:
            return self._runtime.predict(table)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._runtime.predict, table)
