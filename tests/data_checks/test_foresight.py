"""Of many blobs a plan looks at some: of those that are new, and of those that earlier runs have measured."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from example_blobs import pinned, store_of, suite_of

from data_checks import asked
from data_checks.baseline import DriftCheck
from data_checks.engine import foresee, validate
from data_checks.foresight import foresee_some
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.settings import DriftSettings, ReadingSettings

SUITE = suite_of(("expect_column_values_to_be_between", {"column": "a", "min_value": 0}))


def test_a_look_at_some_blobs_tells_what_all_of_them_hold(tmp_path: Path) -> None:
    store, batch = store_of(tmp_path / "blobs", [pa.table({"a": [n, n + 1]}) for n in range(20)])
    state, drift = FolderBlobs(tmp_path / "state"), DriftCheck(DriftSettings(), batch)
    reading = ReadingSettings()
    old = Batch.of(batch.container, batch.blobs[:12])
    validate(SUITE, store, old, reading=reading, state=state, drift=DriftCheck(DriftSettings(), old))

    whole = foresee_some(SUITE, store, batch, reading=reading, state=state, drift=drift)
    some = foresee_some(SUITE, store, batch, reading=reading, state=state, drift=drift, most=4)
    assert (whole.looked_at, some.looked_at) == (20, 8)
    assert (whole.blobs, whole.known_blobs, whole.rows, whole.columns) == (20, 12, 40, 1)
    assert (some.blobs, some.known_blobs, some.rows, some.columns) == (20, 12, 40, 1)
    assert whole.bytes_to_read > 0
    assert abs(some.bytes_to_read - whole.bytes_to_read) <= whole.bytes_to_read / 10


def test_the_bytes_of_text_are_those_that_a_validation_reads(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.csv").write_text("a,b\n" + "1,x\n" * 30_000)
    store, batch = pinned(tmp_path)
    foretold = foresee(SUITE, store, batch).bytes_to_read
    assert foretold == validate(SUITE, store, batch).bytes_read
    assert foretold > batch.size_bytes, "types are found in a look of its own"


def test_what_a_suite_asks_is_kept_by_a_validation_until_suite_or_columns_are_others(tmp_path: Path) -> None:
    rows = pa.table({"a": [1, None, 3], "b": ["x", "y", "z"]})
    store, batch = store_of(tmp_path / "blobs", [rows])
    state, schema = FolderBlobs(tmp_path / "state"), rows.schema
    where = {"row_condition": "a > 1", "condition_parser": "pandas"}
    suite = suite_of(
        ("expect_column_values_to_be_between", {"column": "a", "min_value": 0}),
        ("expect_column_values_to_be_unique", {"column": "b"}),
        ("expect_column_values_to_not_be_null", {"column": "b", **where}),
        ("expect_column_values_to_not_be_null", {"column": "gone"}),
    )
    before = foresee(suite, store, batch)
    assert (len(before.second_pass), before.columns) == (1, 2)
    assert [note for note in before.notes if "gone" in note]
    validate(suite, store, batch, state=state)
    assert asked.load(state, suite, schema)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "data_checks.judge", None)  # importing it fails, as if it were not installed
        patch.delattr("data_checks.judge")
        later = foresee(suite, store, batch, state=state)
    assert replace(later, known_blobs=0, columns=2, bytes_to_read=before.bytes_to_read) == before
    assert (later.known_blobs, later.columns, later.bytes_to_read) == (1, 0, 0)
    assert asked.load(state, SUITE, schema) is None
    assert asked.load(state, suite, schema.append(pa.field("c", pa.int64()))) is None

    [name] = state.names("statistics/asked/")
    kept = state.read(name)
    for damaged in (b"{", kept.replace(b'["a"', b'["c"', 1)):
        state.replace(name, damaged, etag=state.stat(name).etag)
        assert damaged != kept
        assert asked.load(state, suite, schema) is None
    assert foresee(suite, store, batch, state=state) == later  # asked anew
    validate(suite, store, batch, state=state)
    assert asked.load(state, suite, schema)
