"""The pass over the data: every part is read once, measured and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from threading import BoundedSemaphore
from typing import Protocol, TypeVar

import polars as pl
import polars.selectors as cs
import pyarrow as pa

from data_checks import keys
from data_checks.encoded import Encoded
from data_checks.measures import Measure, Partial, measure, merged
from data_checks.spill import Spill
from insitu.batch import Blob
from insitu.errors import DataError
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings
from insitu.tables.streams import BlobFile
from insitu.tables.table import IN_FLIGHT, Part, Shape, fetch, read, shape_of

T = TypeVar("T")
R = TypeVar("R")
_MEASURING = BoundedSemaphore(IN_FLIGHT)
"""Room in memory and on the cores: as many parts are decoded at a time, while others are fetched."""

Keep = Callable[[Blob, Partial], Partial]


@dataclass(frozen=True)
class Work:
    """One part, and what to measure of it; it can be pickled."""

    part: Part
    measures: tuple[Measure, ...]

    @property
    def columns(self) -> frozenset[str]:
        """The columns that are read."""
        return frozenset(column for m in self.measures for column in m.columns)


@dataclass(frozen=True)
class Measured:
    """What was found in one part."""

    partial: Partial
    bytes_read: int


def frame_of(rows: pa.Table) -> pl.DataFrame:
    """Return *rows* as Polars; NaN becomes null, as pandas and therefore GX see it."""
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)  # from_arrow(Table), for mypy
    return frame.with_columns(cs.float().fill_nan(None)) if rows.num_columns else frame


class Scanner(Protocol):
    """Opens blobs and measures parts, on this machine or on many."""

    def opened(self, blob: Blob) -> Shape:
        """Return what opening *blob* tells; raise `DataError`, `BlobChanged`."""
        ...

    def measured(self, works: Sequence[Work], schema: pa.Schema, keep: Keep) -> Iterator[Measured]:
        """Yield what was found in each of *works*, in their order; what piles up goes through *keep*.

        Raises:
            DataError: A part cannot be decoded or measured.
            BlobChanged: A blob is not the pinned version any more.
        """
        ...

    def rows(self, part: Part, schema: pa.Schema, columns: Collection[str]) -> Iterator[tuple[pa.Table, int]]:
        """Yield the rows of *part* themselves, and how many bytes were read for them."""
        ...


@dataclass(frozen=True)
class LocalScanner:
    """Scans with the threads of this process."""

    store: BlobStore
    reading: ReadingSettings

    def opened(self, blob: Blob) -> Shape:
        return shape_of(self.store, blob, self.reading)

    def measured(self, works: Sequence[Work], schema: pa.Schema, keep: Keep) -> Iterator[Measured]:
        return in_flight(lambda work: measure_part(self, work, schema, keep), works, 2 * IN_FLIGHT)

    def rows(self, part: Part, schema: pa.Schema, columns: Collection[str]) -> Iterator[tuple[pa.Table, int]]:
        return read(self.store, part, schema, columns, self.reading)


def kept_whole(_: Blob, piece: Partial) -> Partial:
    """Take nothing out of *piece*."""
    return piece


def measure_part(scanner: LocalScanner, work: Work, schema: pa.Schema, keep: Keep = kept_whole) -> Measured:
    """Return the measurements of one part of a batch with the columns *schema*; raise `DataError`, `BlobChanged`."""
    fetched = fetch(scanner.store, work.part, work.columns, scanner.reading)
    with _MEASURING:
        return folded(pieces(scanner, work, schema, fetched), work, keep)


def pieces(scanner: LocalScanner, work: Work, schema: pa.Schema, fetched: BlobFile | None = None) -> Iterator[Measured]:
    """Yield what is found in each table that a part is read as; raise `DataError`, `BlobChanged`."""
    found = read(scanner.store, work.part, schema, work.columns, scanner.reading, fetched=fetched, encoded=True)
    for rows, bytes_read in found:
        yield Measured(_measured(work, rows), bytes_read)


def folded(found: Iterable[Measured], work: Work, keep: Keep) -> Measured:
    """Return what was *found* in the pieces of one part, merged, without what *keep* takes out."""
    whole: Partial = {}
    bytes_read = 0
    for piece in found:
        whole = merged([whole, keep(work.part.blob, piece.partial)], work.measures)
        bytes_read += piece.bytes_read
    return Measured(whole, bytes_read)


def spilled_to(spill: Spill, measures: Collection[Measure]) -> Keep:
    """Return what takes the keys out of measurements and puts them into *spill*."""
    own = {m.key for m in measures if m.spilled}

    def keep(blob: Blob, piece: Partial) -> Partial:
        extents = {}
        for key in own:
            if key in piece:
                extents[key] = piece[key].extents
                spill.add((key, blob.name), piece[key].runs)
        return {**piece, **extents}

    return keep


def by_blob(works: Sequence[Work], found: Iterable[Measured], spill: Spill) -> Iterator[tuple[Blob, Measured]]:
    """Yield each blob's measurements, merged in the order of its parts, as soon as its last part is *found*."""
    pairs = zip(works, found, strict=True)
    for blob, parts in groupby(pairs, key=lambda pair: pair[0].part.blob):
        some = list(parts)
        measures = some[0][0].measures
        whole = dict(merged((one.partial for _, one in some), measures))
        for m in measures:
            if m.spilled and m.key in whole:
                whole[m.key] = keys.whole(whole[m.key], partial(spill.runs, (m.key, blob.name)))
        yield blob, Measured(whole, sum(one.bytes_read for _, one in some))


def in_flight(do: Callable[[T], R], items: Iterable[T], most: int = IN_FLIGHT) -> Iterator[R]:
    """Yield the results in order, never working further ahead than *most* items."""
    with ThreadPoolExecutor(most) as pool:
        pending: list[Future[R]] = []
        try:
            for item in items:
                pending.append(pool.submit(do, item))
                if len(pending) > most:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()


def _measured(work: Work, rows: pa.Table) -> Partial:
    """Return the measurements of *rows*; of an encoded column, most are those of its few distinct values."""
    encoded = {
        field.name: Encoded(field.name, rows[field.name]) for field in rows.schema if pa.types.is_dictionary(field.type)
    }
    by_row = {column for m in work.measures if not (m.over or m.look or m.of_nulls) for column in m.columns}
    try:
        frame = frame_of(rows.drop_columns(list(encoded)))
        texts = [column.rows if name in by_row else column.filled for name, column in encoded.items()]
        return measure(frame.with_columns(texts), work.measures, encoded)
    except (pl.exceptions.PolarsError, ValueError, OverflowError) as exc:
        raise DataError(
            f"{work.part.where} of blob {work.part.blob.name} holds values that cannot be measured",
            found=type(exc).__name__,
            wanted="values within the range of their column's type",
            next_action="write the blob again, or take it out of the batch",
        ) from None  # Polars quotes values
