"""How much an artifact could hold is bounded whatever the encoding, also one that no scan finds."""

from __future__ import annotations

import lzma
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from leaky import COLUMNS, PEOPLE

from insitu.adapters.local.blobs import FolderBlobs
from insitu.errors import StateDamaged
from insitu.residency.account import Account
from insitu.residency.capacity import bits_per_row, bound, capacity_of, compressed_bytes

PEOPLE_TABLE = pa.table(dict(zip(COLUMNS, PEOPLE.T, strict=True)))


def test_a_bound_is_bytes_over_the_bits_of_a_row() -> None:
    assert bound(100, 80.0) == 10
    assert bound(0, 80.0) == 0


@pytest.mark.parametrize("mask", [0, 0x5A])
def test_rows_that_no_scan_finds_are_within_the_bound(tmp_path: Path, mask: int) -> None:
    hidden = tmp_path / "weights"
    hidden.write_bytes(bytes(byte ^ mask for byte in PEOPLE[:100].tobytes()))
    found = capacity_of([hidden], PEOPLE_TABLE, len(PEOPLE), metrics=0)
    assert found["rows"] >= 100
    assert found["of"] == len(PEOPLE)


def test_what_repeats_counts_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(PEOPLE.tobytes())
    once, twice = compressed_bytes([tmp_path / "one"]), compressed_bytes([tmp_path / "one", tmp_path / "two"])
    assert once <= twice < 1.05 * once


def test_a_large_file_is_packed_piece_by_piece_and_wholly(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).bytes(6 << 20)  # no compressor makes anything of it
    (tmp_path / "large").write_bytes(noise)
    assert len(noise) <= compressed_bytes([tmp_path / "large"]) < 1.01 * len(noise)


def test_a_row_tells_no_more_than_the_rarity_of_its_values_nor_than_it_is_packed_to() -> None:
    rng = np.random.default_rng(2)
    sex = pa.table({"sex": rng.integers(0, 2, 4000)})
    assert 0.9 < bits_per_row(sex) <= 1.0
    copied = pa.table({"a": (drawn := rng.normal(size=4000)), "b": drawn, "c": drawn})
    assert bits_per_row(copied) < 2 * bits_per_row(pa.table({"a": drawn}))


@pytest.mark.parametrize(
    "table",
    [
        pa.table({}),
        pa.table({"a": pa.array([], pa.float64())}),
        pa.table({"a": [1] * 100}),
        pa.table({"a": [None, 1.0], "b": [{"x": 1}, None], "c": ["x", None], "d": [[1], [2]]}),
        pa.table({"a": pa.array(["x", "y", None]).dictionary_encode()}),
        pa.table({"a": pa.array([None, None]), "b": [True, None], "c": [b"x", None], "d": [np.float16(1), None]}),
        pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([None, *range(127)], pa.int8()), list(range(128)))}),
        pa.table({"a": [datetime.now(UTC), None], "b": [Decimal("1.5"), None], "c": [timedelta(1), None]}),
    ],
)
def test_rows_that_tell_nothing_count_a_bit_each(table: pa.Table) -> None:
    assert bits_per_row(table) >= 1.0


def test_metrics_count_too(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    found = capacity_of([tmp_path / "empty"], PEOPLE_TABLE, len(PEOPLE), metrics=20)
    assert found["metric_bits"] == 350
    assert found["rows"] >= 350 // found["bits_per_row"]


def test_an_account_adds_up_and_counts_a_run_once(tmp_path: Path) -> None:
    account = Account(FolderBlobs(tmp_path), "people")
    assert account.taken_before("one", 5) == 0
    for run, rows in (("one", 1), ("two", 30), ("one", 20), ("one", 20), ("two", 30), ("one", 1)):
        account.take(run, "tiny", rows)
    assert [(entry["run_key"], entry["rows"]) for entry in account.entries()] == [("two", 30), ("one", 20)]
    before = [account.taken_before(run, rows) for run, rows in (("two", 30), ("one", 20), ("new", 9))]
    assert before == [0, 30, 50]
    (tmp_path / account.name).write_text("[")
    with pytest.raises(StateDamaged):
        account.take("three", "tiny", 1)


def test_xz_is_what_the_bound_goes_by(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(PEOPLE.tobytes())
    assert abs(compressed_bytes([tmp_path / "one"]) - len(lzma.compress(PEOPLE.tobytes(), preset=6))) < 64
