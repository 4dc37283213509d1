"""What was measured of each blob, kept in the site's state: a blob that did not change is not read again.

One entry per blob version, under `statistics/ENGINE/CONTAINER/`: its columns, its rows, and each
measure of the suites that looked at it so far. Entries hold minima, frequent values and hashes of keys,
so they stay on site. They can be removed at any time. A damaged one is measured again, and where none can
be written, no more are tried: a note tells of both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from isal import isal_zlib

from data_checks.keys import KeyCounts, Run
from data_checks.measures import Measure, Partial, packed, unpacked
from insitu import tables
from insitu.batch import Blob
from insitu.errors import BlobChanged, BlobExists, BlobNotFound, InsituError
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings

_SCHEMA, _ROWS = " schema", " rows"
_CHECKSUM_BYTES = 8  # numbers after it stay aligned
_HEAD_BYTES = 8
_WRITERS = 4
_NAMED = 3
_MEASURING = (
    "conditions", "encoded", "keys", "measures", "patterns", "recipes", "scan", "sketches", "statistics",
)  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What is known of a blob: its columns, its rows (None: not yet), and values by `identity`."""

    schema: pa.Schema
    rows: int | None
    values: Mapping[str, Any] = field(default_factory=dict)

    def partial(self, measures: Collection[Measure], types: pa.Schema) -> Partial:
        """Return the values of *measures*, of which all must be known."""
        return {m.key: self.values[identity(m, types)] for m in measures}

    def lacks(self, measures: Collection[Measure], types: pa.Schema) -> tuple[Measure, ...]:
        """Return those of *measures* that are not known."""
        return tuple(m for m in measures if identity(m, types) not in self.values)


@dataclass(frozen=True)
class Joint:
    """What a comparison of the keys of several blobs found; *versions* says which, as `version_of` names them."""

    versions: frozenset[str]
    counts: KeyCounts

    def parted(self, blobs: Sequence[Blob]) -> tuple[list[Blob], list[Blob]]:
        """Return those of *blobs* that were compared, and the others."""
        old = [blob for blob in blobs if version_of(blob) in self.versions]
        return old, [blob for blob in blobs if version_of(blob) not in self.versions]


def version_of(blob: Blob) -> str:
    """Return what names this version of *blob*."""
    return sha256(json.dumps([blob.name, blob.etag]).encode()).hexdigest()[:32]


def identity(measure: Measure, types: pa.Schema) -> str:
    """Return what names the measure's values: what it measures, of columns of which type."""
    return _digest(measure.key, *(types.field(name).type for name in measure.columns))


@lru_cache(1 << 12)
def _digest(key: str, *types: pa.DataType) -> str:
    return sha256(json.dumps([key, [str(kind) for kind in types]]).encode()).hexdigest()[:32]


class Writer:
    """A thread that does one thing after the other."""

    def __init__(self) -> None:
        self._thread, self._given = ThreadPoolExecutor(1), list[Future[None]]()

    def submit(self, do: Callable[..., None], *args: Any) -> None:
        """Do it soon."""
        self._given.append(self._thread.submit(do, *args))

    def finished(self) -> list[BaseException]:
        """Wait until all is done; return what was raised."""
        self._thread.shutdown()
        return [error for given in self._given if (error := given.exception())]


@dataclass(frozen=True)
class Statistics:
    """The entries of one container, for one way of reading it.

    They are written by threads of its own, those of one blob in their order, until it is left as a context.
    """

    state: BlobStore
    container: str
    reading: ReadingSettings
    _writers: tuple[Writer, ...] = field(default_factory=lambda: tuple(Writer() for _ in range(_WRITERS)), repr=False)
    _damaged: set[str] = field(default_factory=set, repr=False)
    _refusals: list[InsituError] = field(default_factory=list, repr=False)

    def __enter__(self) -> Statistics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures = [failure for writer in self._writers for failure in writer.finished()]
        if failures and error is None:
            raise failures[0]

    @property
    def notes(self) -> Iterator[str]:
        """What people should know about the entries; complete once this was left as a context."""
        if self._damaged:
            others = len(self._damaged) - _NAMED
            named = ", ".join(sorted(self._damaged)[:_NAMED]) + (f" and {others} more" if others > 0 else "")
            yield f"what was kept of some blobs is damaged, so they are measured again: {named}"
        if self._refusals:
            yield f"what was measured is not kept, so the next run reads it again: {self._refusals[0].what}"

    def held(self, blobs: Sequence[Blob]) -> frozenset[str]:
        """Return the names of those *blobs* of whose versions something is kept; one listing, nothing is read."""
        there = set(self.state.names(f"{self._folder}/"))
        if not there:  # to name the entries of 10,000 blobs takes half a second
            return frozenset()
        return frozenset(blob.name for blob in blobs if self._name(blob) in there)

    def load(self, blob: Blob) -> Known | None:
        """Return what is known of this version of *blob*; None where that is nothing, or is damaged."""
        data = self._read(blob.name, self._name(blob))
        if data is None:
            return None
        values = unpacked(data)
        schema = pa.ipc.read_schema(pa.py_buffer(values.pop(_SCHEMA)))
        return Known(schema, values.pop(_ROWS), values)

    def save(self, blob: Blob, known: Known) -> None:
        """Keep what is *known* of *blob*. That it could not be written costs time later, and nothing else."""
        self._submit(blob.name, self._save, blob, known)

    def _save(self, blob: Blob, known: Known) -> None:
        head = {_SCHEMA: known.schema.serialize().to_pybytes(), _ROWS: known.rows}
        self._write(self._name(blob), packed({**head, **known.values}))

    def load_run(self, blob: Blob, measure: Measure, types: pa.Schema) -> Run | None:
        """Return the sorted keys of *blob*; None where they were not kept."""
        data = self._read(blob.name, self._name(blob, identity(measure, types)))
        return None if data is None else _run(data)

    def load_joint(self, measure: Measure, types: pa.Schema, blobs: Sequence[Blob]) -> Joint | None:
        """Return what the last comparison of keys found that had the first of *blobs*; None where there was none."""
        data = self._read(_first(blobs).name, self._joint_name(measure, types, blobs))
        if data is None:
            return None
        found = json.loads(bytes(data))
        return Joint(frozenset(found["versions"]), KeyCounts(found["repeated"], found["distinct"]))

    def save_joint(
        self, measure: Measure, types: pa.Schema, blobs: Sequence[Blob], counts: KeyCounts, earlier: Joint | None
    ) -> None:
        """Keep the *counts* of the keys of *blobs* together, unless *earlier* says the same."""
        joint = Joint(frozenset(map(version_of, blobs)), counts)
        if joint != earlier:
            content = json.dumps({"versions": sorted(joint.versions), **asdict(counts)}).encode()
            self._submit("", self._write, self._joint_name(measure, types, blobs), content)

    def save_run(self, blob: Blob, measure: Measure, types: pa.Schema, runs: Sequence[Run]) -> None:
        """Keep the sorted keys of *blob*, which were compared with those of others and will be again."""
        self._submit(blob.name, self._save_run, blob, identity(measure, types), runs)

    def _save_run(self, blob: Blob, of: str, runs: Sequence[Run]) -> None:
        columns = [_joined([part[:] for part in parts]) for parts in zip(*runs, strict=True)]
        if len(runs) > 1:
            columns = list(pl.DataFrame(dict(zip("ab", columns, strict=False))).sort("a").to_numpy().T)
        head = columns[0].dtype.kind.encode() + bytes([len(columns)]) + bytes(6)  # numbers stay aligned
        self._write(self._name(blob, of), head, *(np.ascontiguousarray(column).data for column in columns))

    def _submit(self, of: str, do: Callable[..., None], *args: Any) -> None:
        def unless_refused() -> None:
            if not self._refusals:  # each would be tried for seconds
                do(*args)

        self._writers[hash(of) % _WRITERS].submit(unless_refused)

    @cached_property
    def _folder(self) -> str:
        return f"statistics/{measured_by()}/{self.container}"

    def _name(self, blob: Blob, of: str = "") -> str:
        version = json.dumps([blob.name, blob.etag, self.reading.model_dump(mode="json")])
        return f"{self._folder}/{sha256(version.encode()).hexdigest()}{of and f'.{of}'}.arrow"

    def _joint_name(self, measure: Measure, types: pa.Schema, blobs: Sequence[Blob]) -> str:
        first = version_of(_first(blobs))  # a batch may have many such groups, and they grow
        read = json.dumps([identity(measure, types), first, self.reading.model_dump(mode="json")])
        return f"{self._folder}/joint/{sha256(read.encode()).hexdigest()}"

    def _read(self, of: str, name: str) -> memoryview | None:
        try:
            data = self.state.read(name)
        except BlobNotFound:
            return None
        content = unsealed(name, data)
        if content is None:
            self._damaged.add(of)
        return content

    def _write(self, name: str, *content: bytes | memoryview) -> None:
        try:
            self._put(name, sealed(name, *content))
        except BlobChanged:
            pass  # another run is at the same blob
        except InsituError as exc:
            self._refusals.append(exc)

    def _put(self, name: str, data: bytes) -> None:
        try:
            self.state.create(name, data)
        except BlobExists:
            self.state.replace(name, data, etag=self.state.stat(name).etag)


def _first(blobs: Sequence[Blob]) -> Blob:
    return min(blobs, key=lambda blob: blob.name)


def sealed(name: str, *content: bytes | memoryview) -> bytes:
    """Return the bytes of the entry *name* that holds *content*."""
    return b"".join((_checksum(name, *content), *content))  # the one copy: keys are many


def unsealed(name: str, data: bytes) -> memoryview | None:
    """Return what the entry *name* holds; None where its bytes are damaged, or were meant for another one."""
    content = memoryview(data)[_CHECKSUM_BYTES:]
    return content if _checksum(name, content) == data[:_CHECKSUM_BYTES] else None


def _checksum(name: str, *content: bytes | memoryview) -> bytes:
    """Return what tells damage, and an entry that was meant for another blob."""
    found = isal_zlib.crc32(name.encode())
    for piece in content:
        found = isal_zlib.crc32(piece, found)
    return bytes(found.to_bytes(_CHECKSUM_BYTES, "little"))


def _run(content: memoryview) -> Run:
    """Return the keys that `Statistics.save_run` wrote: a letter, how many columns there are, and their numbers."""
    numbers = np.frombuffer(content[_HEAD_BYTES:], f"<{chr(content[0])}8")
    return tuple(np.split(numbers, content[1]))


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@cache
def measured_by() -> str:
    """Return the name of what computes the entries: another way of measuring is another entry."""
    here, below = Path(__file__).parent, Path(str(tables.__file__)).parent
    own = (here / f"{name}.py" for name in _MEASURING)
    sources = sorted([*own, *below.glob("*.py")])
    digest = sha256(f"{pl.__version__} {pa.__version__}".encode())
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
