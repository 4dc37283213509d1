"""The rows that are looked for: all of a batch, or an even share of a large one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from insitu.residency.batch import rows_of, source_of
from insitu.residency.decode import parts
from insitu.residency.scan import Scanner
from insitu.residency.verdict import rule


def batches(*sizes: int) -> list[pa.RecordBatch]:
    ends = np.cumsum(sizes)
    return [pa.record_batch({"n": np.arange(end - size, end)}) for size, end in zip(sizes, ends, strict=True)]


@pytest.mark.parametrize("sizes", [(1000,), (1,) * 300, (7, 500, 1, 90)])
def test_of_more_rows_than_are_wanted_every_nth_is_kept(sizes: tuple[int, ...]) -> None:
    rows = rows_of(batches(*sizes), max_rows=100)
    kept = rows.table["n"].to_pylist()

    assert rows.coverage() == {"rows": sum(sizes), "rows_looked_for": len(kept)}
    assert 50 <= len(kept) <= 100
    assert {*np.diff(kept)} == {kept[1]}


def test_a_column_that_only_a_later_blob_has_is_looked_for_too() -> None:
    rows = rows_of([pa.record_batch({"a": [1, 2]}), pa.record_batch({"a": [0.5], "b": ["an identifier"]})])
    source = source_of(rows)

    assert source.matrices[0].values.ravel().tolist() == [1.0, 2.0, 0.5]
    assert source.words[0].values == (b"an identifier",)


def test_a_batch_without_rows_or_columns_is_nothing_to_look_for() -> None:
    assert source_of(rows_of([])).matrices == []
    assert source_of(rows_of([pa.record_batch({"a": pa.array([], pa.int64())})])).matrices == []


def times() -> tuple[pa.Table, list[str]]:
    moments = [datetime(2013, 1, 1, tzinfo=UTC) + timedelta(seconds=7777 * number**2) for number in range(50)]
    zoned = pa.table({"when": pa.array(moments, pa.timestamp("us", tz="Nowhere/Land"))})
    return zoned, [f"{moment:%Y-%m-%d %H:%M:%S.%f}" for moment in moments]


def test_times_of_a_zone_that_the_machine_does_not_know_are_looked_for_in_utc() -> None:
    table, text = times()
    scanner = Scanner(source_of(rows_of(table.to_batches())))
    assert rule(scanner.scan(parts("times.txt", "\n".join(text).encode()))).rows_found == 50


def test_lines_too_short_for_winnowing_are_found_without_their_neighbours() -> None:
    table, text = times()
    scanner = Scanner(source_of(rows_of(table.to_batches())))
    found = [rule(scanner.scan(parts("one.txt", line.encode()))).rows_found for line in text]
    assert found == [1] * 50


def test_a_column_that_counts_is_nobodys_and_one_that_does_not_is_found() -> None:
    counting, drawn = np.arange(1000), np.random.default_rng(1).integers(0, 1000, 1000)
    found = []
    for numbers in (counting, drawn):
        scanner = Scanner(source_of(rows_of(pa.table({"n": numbers}).to_batches())))
        found.append(rule(scanner.scan(parts("n.bin", numbers.tobytes()))).rows_found)
    assert found[0] == 0
    assert found[1] > 950  # three that happen to count evenly tell nothing
