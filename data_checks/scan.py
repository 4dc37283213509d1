"""The pass over the data: every row group is read once, measured and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import polars as pl
import polars.selectors as cs
import pyarrow as pa

from data_checks.measures import ROWS, Measure, Partial, measure, merged
from data_checks.parquet import IN_FLIGHT, RowGroup, Table
from data_checks.report import Progress
from insitu.errors import DataError

T = TypeVar("T")
R = TypeVar("R")


def frame_of(rows: pa.Table) -> pl.DataFrame:
    """Return *rows* as Polars; NaN becomes null, as pandas and therefore GX see it."""
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)  # from_arrow(Table), for mypy
    return frame.with_columns(cs.float().fill_nan(None))


def scan(
    table: Table, measures: Collection[Measure], on_progress: Callable[[Progress], None] | None = None
) -> tuple[Partial, int]:
    """Return the measurements of the whole table and how many bytes were read.

    Memory is bounded by the row groups in flight and by what `tally` and `keys` keep.

    Raises:
        DataError: A row group cannot be decoded or measured.
        BlobChanged: A blob is not the pinned version any more.
    """
    columns = {column for m in measures for column in m.columns}

    def measured(part: RowGroup) -> tuple[Partial, int]:
        rows, bytes_read = table.read(part, columns)
        try:
            return measure(frame_of(rows), measures), bytes_read
        except (pl.exceptions.PolarsError, ValueError, OverflowError) as exc:
            raise DataError(
                f"row group {part.index} of blob {part.blob.name} holds values that cannot be measured",
                found=type(exc).__name__,
                wanted="values within the range of their column's type",
                next_action="write the blob again, or take it out of the batch",
            ) from None  # Polars quotes values

    whole: Partial = {}
    read_bytes = 0
    for done, (partial, bytes_read) in enumerate(_in_flight(measured, table.row_groups), start=1):
        whole, read_bytes = merged(whole, partial, measures), read_bytes + bytes_read
        if on_progress:
            on_progress(Progress(done, len(table.row_groups), whole[ROWS.key], read_bytes))
    return whole, read_bytes


def _in_flight(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the results in order, never working further ahead than `IN_FLIGHT` items."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        pending: list[Future[R]] = []
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > IN_FLIGHT:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()
