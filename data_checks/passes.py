"""The passes over one batch: what is known already is not read, what is read is read once.

A pass measures of every blob what is not known of it yet. Usually there is one; a second settles what
the summaries of the first left open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pyarrow as pa

from data_checks import keys
from data_checks.keys import KeyCounts, Run
from data_checks.measures import ROWS, Columns, Measure, Partial, merged
from data_checks.scan import Scanner, Work, by_blob, spilled_to
from data_checks.spill import Place, Spill
from data_checks.statistics import Joint, Known, Statistics, identity
from data_checks.watch import Watch
from insitu.batch import Batch, Blob
from insitu.tables.table import IN_FLIGHT, Shape, Table, table_of

_MOST_KEPT_KEYS = 1 << 24
"""In larger batches keys that overlap are read again by the next run: kept, they would be as large as the columns."""

_FEW_NEW = 4  # of as many known blobs one may be new, for its keys to be compared with theirs one blob after the other


class Passes:
    """One batch, what is known of it, and what was read to know it.

    Attributes:
        table: The columns of the batch.
        bytes_read: What was asked of the store so far.
    """

    def __init__(
        self, batch: Batch, scanner: Scanner, spill: Spill, statistics: Statistics | None, watch: Watch
    ) -> None:
        """Open the blobs that are not known.

        Raises:
            DataError: A blob is unreadable, or the blobs' columns differ.
            BlobChanged: A blob is not the pinned version any more.
        """
        self._batch, self._scanner, self._spill, self._statistics = batch, scanner, spill, statistics
        self._watch = watch
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            found = list(pool.map(self._opened, batch.blobs))
        self._known = {blob.name: known for blob, (known, _) in zip(batch.blobs, found, strict=True)}
        self._shapes = {shape.blob.name: shape for _, shape in found}
        self.table: Table = table_of(batch, [shape for _, shape in found])
        self.bytes_read = self.table.opening_bytes

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know about the columns, and about what was kept of them."""
        return (*self.table.notes, *(self._statistics.notes if self._statistics else ()))

    def measured(self, measures: Collection[Measure], *, kept: bool = True) -> Partial:
        """Return *measures* of the whole batch; those of no rows are empty.

        Args:
            kept: Whether the next run may want them, too.

        Raises:
            DataError: A blob cannot be decoded or measured.
            BlobChanged: A blob is not the pinned version any more.
        """
        works = self.outstanding(measures)
        self._watch.expect(self._batch.blobs, self.table.rows, works)
        for blob, found in self._scanned(works):
            self._learn(blob, found, measures, kept=kept)
        for blob in self._batch.blobs:
            if self._known[blob.name].rows == 0 and self._shapes[blob.name].opening_bytes:
                self._learn(blob, {}, (), kept=kept)  # opened now, and there is nothing to measure
        whole = dict(self.merged(measures, self._batch.blobs))
        for m in measures:
            if m.spilled and whole:
                whole[m.key] = self._counted(m, whole[m.key], kept=kept)
        return whole

    def outstanding(self, measures: Collection[Measure]) -> list[Work]:
        """Return what has to be read for *measures*; raise `DataError`, `BlobChanged` when a blob must be opened."""
        lacking = {blob: self._known[blob.name].lacks(measures, self.table.schema) for blob in self._batch.blobs}
        self._open([blob for blob in self._batch.blobs if lacking[blob]])
        return [Work(part, some) for blob, some in lacking.items() if some for part in self._shapes[blob.name].parts]

    def merged(self, measures: Collection[Measure], blobs: Collection[Blob]) -> Partial:
        """Return *measures* of some blobs, which must have been measured; those of no rows are empty."""
        filled = [known for blob in blobs if (known := self._known[blob.name]).rows]
        return merged((known.partial(measures, self.table.schema) for known in filled), measures)

    def rows(self, columns: Collection[str]) -> pa.Table:
        """Return *columns* of the whole batch, in memory; raise `DataError`, `BlobChanged`."""
        schema = self.table.schema
        pieces = [pa.schema([field for field in schema if field.name in columns]).empty_table()]
        self._open(self._batch.blobs)
        for part in (part for blob in self._batch.blobs for part in self._shapes[blob.name].parts):
            for rows, bytes_read in self._scanner.rows(part, schema, columns):
                pieces.append(rows)
                self.bytes_read += bytes_read
        return pa.concat_tables(pieces)

    def _opened(self, blob: Blob) -> tuple[Known, Shape]:
        known = self._statistics.load(blob) if self._statistics else None
        if known is not None:
            held = replace(known, values=self._spill.values(known.values))
            return held, Shape(blob, known.schema, known.rows, 0, ())
        shape = self._scanner.opened(blob)
        return Known(shape.schema, shape.rows), shape

    def _open(self, blobs: Sequence[Blob]) -> None:
        """Open those of *blobs* that are known from an earlier run, but not well enough."""
        closed = [blob for blob in blobs if not self._shapes[blob.name].parts and self._shapes[blob.name].rows != 0]
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for shape in pool.map(self._scanner.opened, closed):
                self._shapes[shape.blob.name] = shape
                self.bytes_read += shape.opening_bytes

    def _scanned(self, works: Sequence[Work]) -> Iterator[tuple[Blob, Partial]]:
        keep = spilled_to(self._spill, [m for work in works for m in work.measures])
        found = self._watch.over(works, self._scanner.measured(works, self.table.schema, keep))
        for blob, one in by_blob(works, found, self._spill):
            self.bytes_read += one.bytes_read
            yield blob, one.partial

    def _learn(self, blob: Blob, partial: Partial, measures: Collection[Measure], *, kept: bool) -> None:
        known, schema = self._known[blob.name], self.table.schema
        values = {identity(m, schema): partial[m.key] for m in measures if m.key in partial}
        rows = partial.get(ROWS.key, known.rows)
        known = replace(known, rows=rows, values={**known.values, **values})
        self._known[blob.name] = replace(known, values=self._spill.values(known.values))
        if kept and self._statistics:
            self._statistics.save(blob, known)

    def _counted(self, measure: Measure, extents: Columns, *, kept: bool) -> KeyCounts:
        filled = [blob for blob in self._batch.blobs if self._known[blob.name].rows]

        def together(numbers: Sequence[int]) -> KeyCounts:
            return self._together(measure, [filled[n] for n in numbers], kept=kept)

        counts = keys.counted(extents, together)
        if counts.repeated and measure.exact:
            again: KeyCounts = self.measured([measure.exact], kept=kept)[measure.exact.key]
            return again
        return counts

    def _together(self, measure: Measure, blobs: Sequence[Blob], *, kept: bool) -> KeyCounts:
        """Return the counts of the keys of *blobs*, which overlap, and keep them for the next batch."""
        statistics, schema = self._statistics, self.table.schema
        pa.default_memory_pool().release_unused()  # what decoding took: 100 MB
        earlier = statistics.load_joint(measure, schema, blobs) if statistics else None
        counts = self._grown(measure, blobs, earlier, kept=kept) if earlier else None
        if counts is None:
            counts = keys.counted_together(self._runs(measure, blobs, kept=kept))
        if kept and statistics:
            statistics.save_joint(measure, schema, blobs, counts, earlier)
        return counts

    def _grown(self, measure: Measure, blobs: Sequence[Blob], earlier: Joint, *, kept: bool) -> KeyCounts | None:
        """Return the counts of the keys of *blobs* from those of some of them; None where all must be compared."""
        old, new = earlier.parted(blobs)
        if len(old) < len(earlier.versions) or (new and (earlier.counts.repeated or _FEW_NEW * len(new) > len(old))):
            return None
        if not new:
            return earlier.counts
        runs = self._runs(measure, new, kept=kept)
        counts, newcomers = keys.counted_together(runs), keys.Newcomers(runs)

        def are_apart(blob: Blob) -> bool:
            run = self._statistics.load_run(blob, measure, self.table.schema) if self._statistics else None
            return run is not None and not newcomers.meet(run)

        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            alone = not counts.repeated and all(pool.map(are_apart, old))
        return counts + earlier.counts if alone else None

    def _runs(self, measure: Measure, blobs: Sequence[Blob], *, kept: bool) -> list[Run]:
        """Return the keys of *blobs*: from this pass, from an earlier one, or by reading their columns again."""
        places = {blob: (measure.key, blob.name) for blob in blobs}
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            loaded = set(pool.map(partial(self._load_run, measure), self._unheld(places)))
        again = self._unheld(places)
        self._open(again)
        list(self._scanned([Work(part, (measure,)) for blob in again for part in self._shapes[blob.name].parts]))
        few = sum(known.rows or 0 for known in self._known.values()) <= _MOST_KEPT_KEYS
        for blob, place in places.items():
            if kept and few and self._statistics and blob not in loaded:
                self._statistics.save_run(blob, measure, self.table.schema, self._spill.runs(place))
        return [run for place in places.values() for run in self._spill.runs(place)]

    def _unheld(self, places: Mapping[Blob, Place]) -> list[Blob]:
        return [blob for blob, place in places.items() if place not in self._spill]

    def _load_run(self, measure: Measure, blob: Blob) -> Blob | None:
        """Return *blob* if its keys were kept by an earlier pass and are in the spill now."""
        run = self._statistics.load_run(blob, measure, self.table.schema) if self._statistics else None
        if run is None:
            return None
        self._spill.add((measure.key, blob.name), [run])
        return blob
