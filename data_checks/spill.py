"""What a pass holds of each blob: in memory while it is little, then in files that the pass removes at its end.

Sorted keys, which are as many as rows; and what else was measured, which is as much as 200 KB for each of 10,000 blobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np

from data_checks.keys import Run
from data_checks.measures import Partial, packed, unpacked

_HELD_BYTES = 16 << 20
_HELD_VALUES_BYTES = 8 << 20
Place = tuple[str, str]
"""The key of a measure, and the name of a blob."""


class Spill:
    """Where a pass has its keys and values; safe for several threads. Files are private: hashes can be guessed at."""

    def __init__(self, work: Path | None) -> None:
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)
        self._folder = TemporaryDirectory(prefix=".keys-", dir=work)
        self._runs: dict[Place, list[Run]] = defaultdict(list)
        self._lock, self._held_bytes, self._held_values_bytes, self._files = Lock(), 0, 0, 0

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

    def values(self, values: Partial) -> Partial:
        """Return *values*; where there are many by now, their columns are read from a file when one is asked for."""
        columns = {name: value for name, value in values.items() if isinstance(value, tuple)}
        taken = sum(int(part.estimated_size()) for parts in columns.values() for part in parts)
        with self._lock:
            if fits := self._held_values_bytes + taken <= _HELD_VALUES_BYTES:
                self._held_values_bytes += taken
            path = self._next_path()
        if fits:
            return values
        path.write_bytes(packed(columns))
        return _ValuesInFile(
            {name: value for name, value in values.items() if name not in columns}, path, tuple(columns)
        )

    def _kept(self, run: Run) -> Run:
        taken = sum(column[:].nbytes for column in run)
        with self._lock:
            if fits := self._held_bytes + taken <= _HELD_BYTES:
                self._held_bytes += taken
            path = self._next_path()
        return run if fits or not taken else _written(path, run)

    def _next_path(self) -> Path:
        self._files += 1
        return Path(self._folder.name, str(self._files))


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


@dataclass(frozen=True)
class _ValuesInFile(Mapping[str, Any]):
    """Values of which the columns, called *names*, are in the file."""

    small: Mapping[str, Any]
    path: Path
    names: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        return _columns(self.path)[name] if name in self.names else self.small[name]

    def __contains__(self, name: object) -> bool:
        return name in self.small or name in self.names  # not by reading it

    def __iter__(self) -> Iterator[str]:
        yield from (*self.small, *self.names)

    def __len__(self) -> int:
        return len(self.small) + len(self.names)


@lru_cache(2)
def _columns(path: Path) -> dict[str, Any]:
    """Return what is in the file; all columns of one blob are asked for one after the other."""
    return unpacked(path.read_bytes())


def _written(path: Path, run: Run) -> Run:
    with open(path, "wb") as file:
        for column in run:
            column[:].tofile(file)
    count = len(run[0])
    return tuple(_InFile(path, column[:].dtype, n * count, count) for n, column in enumerate(run))
