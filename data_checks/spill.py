"""Sorted keys of blobs: in memory while they are few, then in files that the pass removes at its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
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
        self._runs: dict[Place, list[Run]] = defaultdict(list)
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
        """Return what was added; of what is in files, only what is sliced is read."""
        return list(self._runs[place])

    def _kept(self, run: Run) -> Run:
        size_bytes = sum(column[:].nbytes for column in run)
        with self._lock:
            if fits := self._held_bytes + size_bytes <= _HELD_BYTES:
                self._held_bytes += size_bytes
            self._files += 1
            path = Path(self._folder.name, str(self._files))
        return run if fits or not size_bytes else _written(path, run)


@dataclass(frozen=True)
class _InFile:
    """64-bit numbers within a file, from the one numbered *start* on."""

    path: Path
    dtype: np.dtype
    start: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> np.ndarray:
        first, end, _ = part.indices(self.count)
        return np.fromfile(self.path, self.dtype, max(0, end - first), offset=8 * (self.start + first))


def _written(path: Path, run: Run) -> Run:
    with open(path, "wb") as file:
        for column in run:
            column[:].tofile(file)
    count = len(run[0])
    return tuple(_InFile(path, column[:].dtype, n * count, count) for n, column in enumerate(run))
