"""Of many blobs a plan looks at some: of those that are new, and of those that earlier runs have measured."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from example_blobs import store_of, suite_of

from data_checks.baseline import DriftCheck
from data_checks.engine import validate
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
