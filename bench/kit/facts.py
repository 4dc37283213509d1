"""Facts to validate: rides, the same at every call, 20 columns of which the suite `facts.json` names 8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

SUITE = Path(__file__).with_name("facts.json")
COLUMNS = ("id", "key", "picked_up", "vendor", "zone", "passengers", "distance", "fare")
"""Those that the suite names."""

_ROW_GROUP_ROWS = 156_250  # the same at any size, as a writer with a fixed buffer leaves them
_YEAR_US = 365 * 86_400_000_000
_NEW_YEAR_US = 1_735_689_600_000_000  # 2025-01-01 UTC
_LETTERS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", np.uint8)
_WORDS = np.array(
    ["left", "right", "at the corner", "by the station", "no one there", "two bags", "child seat", "quiet"]
)


def write(folder: Path, rows: int, blobs: int, suffix: str) -> None:
    """Write *rows* rows as *blobs* files `part-NNN.SUFFIX` (`parquet` or `csv`) of *folder*, once."""
    done = folder / ".done"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(blobs):
        path = folder / f"part-{number:03d}.{suffix}"
        first, end = rows * number // blobs, rows * (number + 1) // blobs
        groups = [
            _rides(start, min(_ROW_GROUP_ROWS, end - start), rows) for start in range(first, end, _ROW_GROUP_ROWS)
        ]
        _write(path, groups)
    done.touch()


def _write(path: Path, groups: list[pa.Table]) -> None:
    if path.suffix == ".csv":
        pc.write_csv(pa.concat_tables(groups), path)
        return
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=_ROW_GROUP_ROWS)


def _rides(start: int, n: int, rows: int) -> pa.Table:
    """Return the *n* rides from number *start* of *rows*."""
    random = np.random.default_rng([2025, start])
    ids = np.arange(start, start + n)
    picked_up = _NEW_YEAR_US + (ids * (_YEAR_US / rows)).astype(np.int64) + random.integers(0, 3_600_000_000, n)
    distance = np.round(random.gamma(2.0, 1.6, n).clip(0, 190), 2)
    fare = np.round(3 + 2.5 * distance + random.gamma(2.0, 1.5, n), 2)
    instant = pa.timestamp("us", "UTC")
    columns = {
        "id": pa.array(ids * 8 + random.integers(0, 8, n)),
        "key": _keys(random, n),
        "picked_up": pa.array(picked_up, instant),
        "dropped_off": pa.array(picked_up + random.integers(60_000_000, 5_400_000_000, n), instant),
        "vendor": _one_of(random, n, ["alpha", "bravo", "carol", "delta", "echo"], [0.4, 0.3, 0.15, 0.1, 0.05]),
        "payment": _one_of(random, n, [f"way {number:02d}" for number in range(50)]),
        "zone": _one_of(random, n, [f"Z{number:04d}" for number in range(5000)]),
        "passengers": pa.array(random.integers(1, 7, n), mask=random.random(n) < 0.02),
        "distance": pa.array(distance, mask=random.random(n) < 0.01),
        "fare": pa.array(fare),
        "tip": pa.array(random.random(n) * 9, mask=random.random(n) < 0.3),
        "total": pa.array(np.round(fare * 1.1, 2)),
        "pickup_lat": pa.array(40.5 + random.random(n) / 2),
        "pickup_lon": pa.array(-74 + random.random(n) / 2),
        "dropoff_lat": pa.array((40.5 + random.random(n) / 2).astype(np.float32)),
        "dropoff_lon": pa.array((-74 + random.random(n) / 2).astype(np.float32)),
        "driver": pa.array(random.integers(0, 60_000, n).astype(np.int32)),
        "forwarded": pa.array(random.random(n) < 0.01),
        "shared": pa.array(random.random(n) < 0.2, mask=random.random(n) < 0.05),
        "note": _notes(random, n),
    }
    return pa.table(columns)


def _keys(random: np.random.Generator, n: int) -> pa.Array:
    """Return texts of 12 letters and digits; two the same are as good as impossible."""
    data = _LETTERS[random.integers(0, len(_LETTERS), n * 12, np.uint8)]
    offsets = np.arange(0, n * 12 + 1, 12, np.int32)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(data))


def _one_of(random: np.random.Generator, n: int, values: list[str], weights: list[float] | None = None) -> pa.Array:
    chosen = random.choice(len(values), n, p=weights)
    return pa.DictionaryArray.from_arrays(pa.array(chosen.astype(np.int32)), pa.array(values)).cast(pa.string())


def _notes(random: np.random.Generator, n: int) -> pa.Array:
    """Return free text of some words and a number, one in five missing."""
    words = [pl.Series(_WORDS[random.integers(0, len(_WORDS), n)]) for _ in range(3)]
    numbers = pl.Series(random.integers(0, 100_000, n)).cast(pl.String)
    texts = pl.select(pl.concat_str([*words, numbers], separator=" ")).to_series()
    return pa.array(texts.to_numpy(), mask=random.random(n) < 0.2)


def needed_bytes(folder: Path) -> int:
    """Return the size of the column chunks that the suite needs; of CSV, everything."""
    if files := sorted(folder.glob("part-*.csv")):
        return sum(path.stat().st_size for path in files)
    chunks = (
        metadata.row_group(group).column(column)
        for metadata in map(pq.read_metadata, sorted(folder.glob("part-*.parquet")))
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )
    return sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema in COLUMNS)
