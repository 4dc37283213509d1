"""Sorted keys of blobs: in memory while they are few, then in files that the pass removes at its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import TracebackType

import numpy as np

from data_checks.keys import Run

_HELD_BYTES = 16 << 20
Place = tuple[str, str]
"""The key of a measure, and the name of a blob."""


class Spill:
    """Where the keys of a pass are; safe for several threads. Files are private: hashes can be guessed at."""

    def __init__(self, work: Path | None) -> None:
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)
        self._folder = TemporaryDirectory(prefix=".keys-", dir=work)
        self._runs: dict[Place, list[Callable[[], Run]]] = defaultdict(list)
        self._lock, self._held_bytes, self._files = Lock(), 0, 0

    def __enter__(self) -> Spill:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runs.clear()
        self._folder.cleanup()

    def __contains__(self, place: Place) -> bool:
        return place in self._runs

    def add(self, place: Place, runs: Sequence[Run]) -> None:
        """Keep *runs*, each sorted, of one measure and blob."""
        for run in runs:
            kept = self._kept(run)
            with self._lock:
                self._runs[place].append(kept)

    def runs(self, place: Place) -> list[Run]:
        """Return what was added; arrays in files are mapped, so that only what is looked at is read."""
        return [held() for held in self._runs[place]]

    def _kept(self, run: Run) -> Callable[[], Run]:
        size_bytes = sum(column.nbytes for column in run)
        with self._lock:
            if fits := self._held_bytes + size_bytes <= _HELD_BYTES:
                self._held_bytes += size_bytes
            self._files += 1
            path = Path(self._folder.name, str(self._files))
        return (lambda: run) if fits or not size_bytes else _written(path, run)


def _written(path: Path, run: Run) -> Callable[[], Run]:
    with open(path, "wb") as file:
        for column in run:
            column.tofile(file)
    shape, dtypes = len(run[0]), [column.dtype for column in run]

    def opened() -> Run:
        return tuple(
            np.memmap(path, dtype, "r", offset=8 * shape * n, shape=(shape,)) for n, dtype in enumerate(dtypes)
        )

    return opened
