"""Rows of the holdout that the training part holds, too, are found whatever the blob is called; only counts leave."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.edge.data import EdgeBatch
from insitu.edge.overlap import count_overlap, require_apart
from insitu.errors import GateFailed

ROWS: dict[str, Any] = {
    "delay": [1.0, 2.0, None, 4.0],
    "count": [7, None, 7, 8],
    "carrier": ["UA", "AA", "UA", None],
    "late": [True, False, None, True],
    "at": [datetime(2013, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)],
    "stops": [["ORD"], [], None, ["DEN", "SLC"]],
}


@pytest.fixture
def store(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


def part(store: FolderBlobs, name: str, rows: Any) -> EdgeBatch:
    data = io.BytesIO()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.table(rows), data)
    store.create(name, data.getvalue())
    batch = Batch.of("c", [store.stat(name)])
    return EdgeBatch(batch, store, {"label_column": "delay"}, {}, store.root, store.root)


def but(**changes: Any) -> dict[str, Any]:
    return {**ROWS, **changes}


def test_a_blob_that_was_copied_into_another_month_is_found_without_its_rows_that_have_no_label(
    store: FolderBlobs,
) -> None:
    assert count_overlap(part(store, "month=1/a", ROWS), part(store, "month=2/a", ROWS)) == (3, 3)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("delay", [1.5, 2.5, None, 4.5]),
        ("count", [6, 1, 1, 1]),
        ("carrier", ["ua", "A A", "UA", "None"]),
        ("late", [False, True, None, None]),
        ("at", [datetime(2013, 1, day, 1, tzinfo=UTC) for day in (1, 2, 3, 4)]),
        ("stops", [["DEN"], None, None, []]),
    ],
)
def test_one_other_value_makes_another_row(store: FolderBlobs, column: str, values: list[Any]) -> None:
    train, holdout = part(store, "a", ROWS), part(store, "b", but(**{column: values}))
    assert count_overlap(train, holdout) == (3, 0)


def test_values_that_change_places_make_another_row(store: FolderBlobs) -> None:
    train = part(store, "a", {"delay": [1.0], "x": [2], "y": [3]})
    assert count_overlap(train, part(store, "b", {"delay": [1.0], "x": [3], "y": [2]})) == (1, 0)


def test_a_row_that_comes_twice_counts_twice_in_the_holdout_and_once_is_enough_in_training(store: FolderBlobs) -> None:
    twice = pa.concat_tables([pa.table(ROWS), pa.table(ROWS)])
    assert count_overlap(part(store, "a", ROWS), part(store, "b", twice)) == (6, 6)
    assert count_overlap(part(store, "c", twice), part(store, "d", ROWS)) == (3, 3)


def test_whole_numbers_and_numbers_are_one_value_and_a_new_column_is_left_out(store: FolderBlobs) -> None:
    late = but(count=pa.array([7.0, None, 7.0, 8.0]), new=[1, 2, 3, 4])
    assert count_overlap(part(store, "a", ROWS), part(store, "b", late)) == (3, 3)


def test_many_rows_that_are_all_different_have_nothing_in_common(store: FolderBlobs) -> None:
    n = 200_000
    rows = {"delay": np.arange(2 * n) % 97, "x": np.arange(2 * n), "y": np.arange(2 * n) // 2}
    train = part(store, "a", {name: values[:n] for name, values in rows.items()})
    assert count_overlap(train, part(store, "b", {name: values[n:] for name, values in rows.items()})) == (n, 0)


def test_overlap_is_a_failure_that_tells_counts_and_what_to_do_unless_it_is_allowed(store: FolderBlobs) -> None:
    half = but(delay=[1.0, 2.5, 3.5, 4.5])
    train, holdout = part(store, "a", ROWS), part(store, "b", half)
    with pytest.raises(GateFailed, match="rows of the holdout are in the training part") as caught:
        require_apart(train, holdout, 0.2)
    assert "1 of 4 rows" in str(caught.value)
    assert "gate.max_overlap" in str(caught.value)
    assert "UA" not in str(caught.value)
    assert require_apart(train, holdout, 0.25) == {"rows": 4, "found": 1}
