"""The fingerprint of a batch names its content, whatever the order and the time."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.batch import Batch, Blob

NOON = datetime(2013, 10, 1, 12, tzinfo=UTC)
BLOBS = tuple(Blob(f"month={n:02d}/a.parquet", f'"e{n}"', 100 * n, NOON, None) for n in range(1, 5))

blobs = st.builds(
    Blob,
    name=st.text(min_size=1),
    etag=st.text(),
    size_bytes=st.integers(0, 2**50),
    last_modified=st.datetimes(timezones=st.just(UTC)),
    md5=st.none() | st.text("0123456789abcdef", min_size=32, max_size=32),
)


@given(st.permutations(BLOBS))
def test_the_order_of_the_blobs_changes_nothing(order: list[Blob]) -> None:
    batch = Batch.of("flights", order)
    assert batch.fingerprint == Batch.of("flights", BLOBS).fingerprint
    assert [blob.name for blob in batch.blobs] == sorted(blob.name for blob in BLOBS)


def test_the_time_and_the_md5_change_nothing() -> None:
    later = [replace(blob, last_modified=NOON + timedelta(days=3), md5="0" * 32) for blob in BLOBS]
    assert Batch.of("flights", later).fingerprint == Batch.of("flights", BLOBS).fingerprint


def test_the_same_bytes_in_another_container_keep_their_fingerprint() -> None:
    assert Batch.of("copy", BLOBS).fingerprint == Batch.of("flights", BLOBS).fingerprint


@pytest.mark.parametrize("change", [{"etag": '"other"'}, {"size_bytes": 301}, {"name": "month=03/b.parquet"}])
def test_etag_size_and_name_each_change_it(change: dict[str, Any]) -> None:
    changed = [*BLOBS[:2], replace(BLOBS[2], **change), BLOBS[3]]
    assert Batch.of("flights", changed).fingerprint != Batch.of("flights", BLOBS).fingerprint


def test_one_blob_more_or_less_changes_it() -> None:
    prints = {Batch.of("flights", BLOBS[:n]).fingerprint for n in range(len(BLOBS) + 1)}
    assert len(prints) == len(BLOBS) + 1


@given(st.lists(blobs, max_size=4), st.lists(blobs, max_size=4))
def test_different_content_has_a_different_fingerprint(some: list[Blob], others: list[Blob]) -> None:
    one, two = Batch.of("c", some), Batch.of("c", others)
    assert (one.fingerprint == two.fingerprint) == (one.blobs == two.blobs)


@given(st.lists(blobs, max_size=5))
def test_a_batch_survives_its_manifest(some: list[Blob]) -> None:
    batch = Batch.of("flights", some)
    again = Batch.from_json(json.loads(json.dumps(batch.to_json())))
    assert again == batch
    assert again.fingerprint == batch.fingerprint == batch.to_json()["fingerprint"]
    assert [(b.last_modified, b.md5) for b in again.blobs] == [(b.last_modified, b.md5) for b in batch.blobs]


def test_the_size_is_the_sum_of_the_blobs() -> None:
    assert Batch.of("flights", BLOBS).size_bytes == 1000
    assert Batch.of("flights", ()).size_bytes == 0


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"container": "c"},
        {"container": "c", "blobs": [{}]},
        {"container": "c", "blobs": [{"name": "a", "etag": "e", "size_bytes": "many", "last_modified": "2013"}]},
        {"container": "c", "blobs": [{"name": "a", "etag": "e", "size_bytes": 1, "last_modified": 2013}]},
        {"container": "c", "blobs": 3},
        {"container": "c", "blobs": ["a"]},
    ],
)
def test_what_is_no_manifest_raises_one_of_the_promised_errors(value: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Batch.from_json(value)
