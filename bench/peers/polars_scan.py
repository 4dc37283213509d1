"""One hand-written Polars query over `scan_parquet` or `scan_csv`: the checks of the suite, no GX.

Its reader talks a service version of 2023, which Azure Stack Hub refuses.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from bench.kit.facts import COLUMNS
from bench.kit.task import Task

_START, _END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
VENDORS = ["alpha", "bravo", "carol", "delta", "echo"]


def scan(task: Task) -> pl.LazyFrame:
    """Return the blobs as one lazy frame."""
    place = task.place
    options = {
        "azure_storage_account_name": place.account,
        "azure_storage_account_key": place.key,
        "azure_storage_endpoint": place.url,
        "azure_allow_http": "true",
    }
    names = [f"az://{place.container}/{blob.name}" for blob in task.batch.blobs]
    if task.is_csv:
        rows = pl.scan_csv(names, storage_options=options, try_parse_dates=False)
        return rows.with_columns(pl.col("picked_up").str.to_datetime("%Y-%m-%d %H:%M:%S%.fZ", time_zone="UTC"))
    return pl.scan_parquet(names, storage_options=options)


def check(task: Task) -> list[str]:
    """Run the query; every row of what it returns is one boolean per expectation."""
    found = scan(task).select(COLUMNS).select(**expectations()).collect(engine="streaming")
    return [name for name, holds in found.row(0, named=True).items() if not holds]


def expectations() -> dict[str, pl.Expr]:
    """Return the suite, each expectation as an aggregate that is true when it holds."""
    id_, key, picked_up, vendor, zone, passengers, distance, fare = map(pl.col, COLUMNS)
    quantiles = ((0.05, 2, 10), (0.5, 8, 25), (0.95, 20, 80))
    return {
        "row count": pl.len().is_between(1000, 1_000_000_000),
        "column fare": fare.len() > 0,
        "picked_up not null": picked_up.null_count() == 0,
        "passengers mostly not null": passengers.is_not_null().mean() >= 0.95,
        "id unique": id_.n_unique() == id_.len(),
        "vendor, key unique": pl.struct(vendor, key).n_unique() == pl.len(),
        "vendor in set": vendor.is_in(VENDORS).all(),
        "vendor contains": (vendor == "alpha").any() & (vendor == "echo").any(),
        "vendor most common": vendor.mode().first() == "alpha",
        "passengers between": passengers.is_between(1, 6).all(),
        "distance between": distance.is_between(0, 200).all(),
        "picked_up between": picked_up.is_between(_START, _END, closed="left").all(),
        "key regex": key.str.contains("^[A-Z0-9]{12}$").all(),
        "key length": (key.str.len_chars() == 12).all(),
        "fare mean": fare.mean().is_between(10, 30),
        "fare stdev": fare.std().is_between(3, 30),
        "fare quantiles": pl.all_horizontal(fare.quantile(q).is_between(low, high) for q, low, high in quantiles),
        "zone distinct": zone.n_unique().is_between(4000, 6000),
        "zone proportion": (zone.n_unique() / zone.count()).is_between(0.00001, 0.5),
        "fare above distance": (fare > distance).all(),
    }
