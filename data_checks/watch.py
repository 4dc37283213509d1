"""Watches the passes: how far they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from data_checks.measures import ROWS
from data_checks.report import Progress
from data_checks.scan import Measured, Work
from insitu.batch import Blob
from insitu.tables.table import cost_bytes


class Watch:
    """Tells *tell* how far the passes over a batch are."""

    def __init__(self, tell: Callable[[Progress], None] | None) -> None:
        self._tell, self._started = tell, time.monotonic()
        self._now = Progress()

    def expect(self, blobs: Sequence[Blob], rows: int | None, works: Sequence[Work]) -> None:
        """Say what a pass is about to read: *works*, of all *blobs*."""
        read = len({work.part.blob for work in works})
        known = len(blobs) - read
        total = self._now.bytes_done + sum(cost_bytes(work.part, work.columns) for work in works)
        done = 0 if rows is None else rows - sum(work.part.rows or 0 for work in works)
        self._update(
            blobs=len(blobs), cached_blobs=known, blobs_done=known, rows=rows, rows_done=done, bytes_total=total
        )  # fmt: skip

    def over(self, works: Sequence[Work], found: Iterable[Measured]) -> Iterator[Measured]:
        """Pass on what was *found* in *works*, and tell of each."""
        for number, one in enumerate(found, start=1):
            ends = number == len(works) or works[number].part.blob != works[number - 1].part.blob
            self._update(
                rows_done=self._now.rows_done + one.partial.get(ROWS.key, works[number - 1].part.rows or 0),
                bytes_done=self._now.bytes_done + one.bytes_read,
                blobs_done=self._now.blobs_done + ends,
            )
            yield one

    def _update(self, **changes: Any) -> None:
        self._now = replace(self._now, **changes, seconds=time.monotonic() - self._started)
        if self._tell:
            self._tell(self._now)
