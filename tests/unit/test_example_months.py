"""The example data: twelve months as blobs, each put in place once."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from insitu.adapters.local.blobs import FolderBlobs
from insitu.demo import FIRST_MONTHS, MONTHS, add_month, blob_name, months_in_place, put_months
from insitu.errors import UsageError


@pytest.fixture
def store(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path)


def test_a_month_is_one_blob_of_its_own_flights(store: FolderBlobs) -> None:
    assert put_months(store, range(2, 4)) == ["month=02/flights.parquet", "month=03/flights.parquet"]
    table = pq.read_table(io.BytesIO(store.read(blob_name(2))))
    assert table.shape == (24_951, 19)
    assert table["month"].unique().to_pylist() == [2]
    assert table["arr_delay"].null_count > 0


def test_months_that_are_in_place_are_left_alone(store: FolderBlobs) -> None:
    store.create(blob_name(1), b"mine")
    assert put_months(store, range(1, 3)) == [blob_name(2)]
    before = [(blob.name, blob.etag) for blob in store.list()]
    assert put_months(store, range(1, 3)) == []
    assert [(blob.name, blob.etag) for blob in store.list()] == before
    assert store.read(blob_name(1)) == b"mine"


def test_the_same_month_is_the_same_bytes_everywhere(tmp_path: Path) -> None:
    stores = [FolderBlobs(tmp_path / name) for name in ("one", "two")]
    for store in stores:
        put_months(store, range(2, 3))
    assert stores[0].stat(blob_name(2)).etag == stores[1].stat(blob_name(2)).etag


def test_the_next_month_fills_the_first_hole(store: FolderBlobs) -> None:
    for month in (1, 2, 4):
        store.create(blob_name(month), b"x")
    assert add_month(store) == blob_name(3)
    assert months_in_place(store) == [1, 2, 3, 4]


def test_other_blobs_are_no_months(store: FolderBlobs) -> None:
    for name in ("month=13/flights.parquet", "month=01/other.parquet", "flights.parquet"):
        store.create(name, b"x")
    assert months_in_place(store) == []


def test_after_twelve_months_there_is_none_to_add(store: FolderBlobs) -> None:
    for month in range(1, MONTHS + 1):
        store.create(blob_name(month), b"x")
    with pytest.raises(UsageError, match="all twelve months"):
        add_month(store)


@pytest.mark.parametrize("months", [range(1, 14), range(13, 14), range(3), range(5, 3)])
def test_months_that_the_year_lacks_are_refused_before_anything_is_put(store: FolderBlobs, months: range) -> None:
    with pytest.raises(UsageError, match="months 1 to 12"):
        put_months(store, months)
    assert months_in_place(store) == []


def test_the_first_months_leave_some_to_add() -> None:
    assert 2 <= FIRST_MONTHS < MONTHS
