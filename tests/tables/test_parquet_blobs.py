"""Parquet blobs: only the needed bytes are read, and no blob takes more memory than it may."""

from __future__ import annotations

import base64
import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from table_helpers import parquet, read_apart, rows_of, stored

from insitu.errors import DataError
from insitu.settings import ReadingSettings
from insitu.tables.table import cost_bytes, fetch, open_table, read

READING = ReadingSettings()
noise = np.random.default_rng(0)
ROWS = pa.table(
    {
        "n": pa.array([None if n % 7 == 0 else n for n in range(5000)], pa.int32()),
        "few": pa.array([None if n % 11 == 0 else f"value {n % 5}" for n in range(5000)]),
        "many": pa.array([f"text {n}" for n in range(5000)]),
        "bytes": pa.array([bytes([n % 256]) * (n % 9) for n in range(5000)]),
        "list": pa.array([[f"{n % 3}"] * (n % 4) for n in range(5000)]),
        "struct": pa.array([{"s": f"{n % 3}", "n": n} for n in range(5000)]),
        "map": pa.array([[(f"{n % 3}", n)] for n in range(5000)], pa.map_(pa.string(), pa.int64())),
        "money": pa.array(range(5000), pa.decimal128(12, 2)),
        "day": pa.array(range(5000), pa.date32()),
        "instant": pa.array(range(5000), pa.timestamp("us", "UTC")),
        "local": pa.array([None if n % 3 == 0 else n for n in range(5000)], pa.timestamp("ms")),
        "real": pa.array([None if n % 13 == 0 else [0.1, -0.0, math.nan, math.inf][n % 4] * n for n in range(5000)]),
        "narrow": pa.array(np.arange(5000, dtype=np.float32) / 3),
        "whole": pa.array([None if n % 5 == 0 else 2**62 - n for n in range(5000)]),
        "even": pa.array([f"{n:012}" for n in range(5000)]),
        "flag": pa.array([n % 2 == 0 for n in range(5000)]),
        "none": pa.nulls(5000),
    }
)


@pytest.mark.parametrize(
    "options",
    [
        {"row_group_size": 700},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"use_dictionary": False, "write_page_checksum": True},
        {"data_page_size": 200, "dictionary_pagesize_limit": 500},
        {"use_dictionary": False, "column_encoding": {"many": "DELTA_BYTE_ARRAY", "few": "DELTA_LENGTH_BYTE_ARRAY"}},
        {"store_decimal_as_integer": True, "compression": "none"},
    ],
)
def test_every_value_is_as_it_was_written(tmp_path: Path, options: dict[str, Any]) -> None:
    content = {"a": parquet(ROWS, **options)}
    for encoded in (False, True):
        for room_mb in (1000, 2):  # with the least room, what could be large is expanded a few rows at a time
            rows = rows_of(tmp_path, content, max_row_group_mb=room_mb, encoded=encoded)
            assert rows.drop_columns(["real"]).equals(ROWS.drop_columns(["real"]))
            assert [str(n) for n in rows["real"].to_pylist()] == [str(n) for n in ROWS["real"].to_pylist()]  # NaN, -0.0


def test_how_a_column_is_encoded_is_no_part_of_its_type(tmp_path: Path) -> None:
    column = ROWS["few"].dictionary_encode()
    encoded = pa.table(
        {"few": column, "within": pa.array([["x"]] * 5000, pa.list_(pa.dictionary(pa.int8(), "string")))}
    )
    rows = rows_of(tmp_path, {"a": parquet(encoded)})
    assert rows["few"].equals(ROWS["few"])
    assert rows.schema == pa.schema({"few": pa.string(), "within": pa.list_(pa.field("element", pa.string()))})


def test_texts_of_few_values_come_in_their_dictionary_only_when_asked_for(tmp_path: Path) -> None:
    store, batch = stored(tmp_path, {"a": parquet(ROWS)})
    table = open_table(store, batch, READING)
    ((rows, _),) = read(store, table.parts[0], table.schema, ["few", "many"], READING, encoded=True)
    assert pa.types.is_dictionary(rows["few"].type)
    assert rows["many"].type == pa.string_view()
    assert rows.cast(pa.schema([table.schema.field(name) for name in rows.schema.names])).equals(
        ROWS.select(rows.schema.names)
    )


def test_what_was_fetched_before_is_not_read_again(tmp_path: Path) -> None:
    store, batch = stored(tmp_path, {"a": parquet(ROWS)})
    table = open_table(store, batch, READING)
    fetched = fetch(store, table.parts[0], ["few"], READING)
    before = store.bytes_read
    ((rows, n),) = read(store, table.parts[0], table.schema, ["few"], READING, fetched=fetched)
    assert rows.equals(ROWS.select(["few"]))
    assert (store.bytes_read, n) == (before, before - table.opening_bytes)


def test_a_narrow_gap_between_chunks_is_read_instead_of_asking_twice(tmp_path: Path) -> None:
    wide = pa.table(
        {
            "a": np.random.default_rng(1).normal(size=20_000),
            "tiny": [1] * 20_000,
            "b": np.random.default_rng(1).normal(size=20_000),
        }
    )
    store, batch = stored(tmp_path, {"a": parquet(wide)})
    table = open_table(store, batch, READING)
    asked = len(store.ranges)
    ((rows, n),) = read(store, table.parts[0], table.schema, ["a", "b"], READING)
    assert rows.equals(wide.select(["a", "b"]))
    assert len(store.ranges) == asked + 1
    chunks = pq.read_metadata(io.BytesIO(parquet(wide))).row_group(0)
    needed = sum(chunks.column(at).total_compressed_size for at in (0, 2))
    assert needed < n <= needed * 1.025


def test_only_the_needed_column_chunks_are_read(tmp_path: Path) -> None:
    wide = pa.table({f"c{n}": noise.normal(size=20_000) for n in range(30)})
    store, batch = stored(tmp_path, {"a": parquet(wide, row_group_size=5_000)})
    table = open_table(store, batch, READING)
    assert table.opening_bytes == store.bytes_read <= 32 << 10
    pieces = [piece for part in table.parts for piece in read(store, part, table.schema, ["c3", "c20"], READING)]
    assert sum(n for _, n in pieces) == store.bytes_read - table.opening_bytes
    needed = sum(cost_bytes(part, ["c3", "c20"]) for part in table.parts)
    assert 2 * 20_000 * 8 <= needed == store.bytes_read - table.opening_bytes < batch.size_bytes / 10
    assert pa.concat_tables([rows for rows, _ in pieces]).equals(wide.select(["c3", "c20"]))


def test_neighbouring_chunks_are_read_at_once(tmp_path: Path) -> None:
    wide = pa.table({f"c{n}": noise.normal(size=5_000) for n in range(30)})
    store, batch = stored(tmp_path, {"a": parquet(wide)})
    table = open_table(store, batch, READING)
    before = len(store.ranges)
    list(read(store, table.parts[0], table.schema, [f"c{n}" for n in range(10, 20)], READING))
    assert len(store.ranges) - before == 1


def test_no_columns_are_rows_all_the_same(tmp_path: Path) -> None:
    counts = rows_of(tmp_path, {"a": parquet(ROWS, row_group_size=2000)}, [])
    assert counts["rows"].to_pylist() == [2000, 2000, 1000]


def test_shapes_and_parts_travel_between_processes(tmp_path: Path) -> None:
    store, batch = stored(tmp_path, {"a": parquet(ROWS, row_group_size=2000), "b": parquet(ROWS)})
    table = open_table(store, batch, READING)
    sent = pickle.loads(pickle.dumps(table))
    assert (sent, sent.rows) == (table, 10_000)
    read_there = [rows for part in sent.parts for rows, _ in read(store, part, sent.schema, ["n"], READING)]
    assert [rows.num_rows for rows in read_there] == [2000, 2000, 1000, 5000]


class InMemoryKeys(pe.KmsClient):  # type: ignore[misc]
    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


def encrypted(*, plaintext_footer: bool) -> bytes:
    settings = pe.EncryptionConfiguration("f", column_keys={"c": ["n"]}, plaintext_footer=plaintext_footer)
    keys = pe.CryptoFactory(lambda _: InMemoryKeys())
    sink, rows = io.BytesIO(), ROWS.select(["n", "few"])
    how = keys.file_encryption_properties(pe.KmsConnectionConfig(), settings)
    with pq.ParquetWriter(sink, rows.schema, encryption_properties=how) as writer:
        writer.write_table(rows)
    return sink.getvalue()


@pytest.mark.parametrize(("plaintext_footer", "found"), [(False, "an encrypted footer"), (True, "encrypted columns")])
def test_encrypted_blobs_are_named(tmp_path: Path, plaintext_footer: bool, found: str) -> None:
    with pytest.raises(DataError, match=found) as caught:
        rows_of(tmp_path, {"a": encrypted(plaintext_footer=plaintext_footer)}, ["few"])
    assert "no key is configured" in str(caught.value)


WHOLE = parquet(ROWS, compression="none", row_group_size=1000, write_page_checksum=True)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "no Parquet footer in 0 bytes"),
        (WHOLE[:-1024], "no Parquet footer"),
        (WHOLE[len(WHOLE) // 2 :], "row group"),
        (WHOLE.replace(b"text 77", b"text 78", 1), "row group 0 cannot be decoded"),
        (WHOLE[:4] + bytes(600) + WHOLE[604:], "row group 0 cannot be decoded"),
        (WHOLE[:4] + b"\xff" * 600 + WHOLE[604:], "row group 0 cannot be decoded"),
    ],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_damage_is_named(tmp_path: Path, content: bytes, found: str, encoded: bool) -> None:
    with pytest.raises(DataError, match=r"month=1/a\.parquet") as caught:
        rows_of(tmp_path, {"month=1/a.parquet": content}, encoded=encoded)
    assert found in str(caught.value)


@pytest.mark.parametrize("encoded", [False, True])
def test_text_that_is_no_utf8_is_damage(tmp_path: Path, encoded: bool) -> None:
    content = parquet(ROWS.select(["many"]), compression="none", use_dictionary=False).replace(
        b"text 77", b"text \xff7"
    )
    with pytest.raises(DataError, match="row group 0 cannot be decoded"):
        rows_of(tmp_path, {"a": content}, encoded=encoded)


@pytest.mark.parametrize("encoded", [False, True])
def test_no_flipped_byte_ends_the_process_or_goes_unseen(tmp_path: Path, encoded: bool) -> None:
    small = parquet(ROWS.slice(0, 50).select(["n", "few", "many", "list"]), write_page_checksum=True)
    sound = rows_of(tmp_path, {"a": small}, encoded=encoded)
    footer = len(small) - 8 - int.from_bytes(small[-8:-4], "little")
    for place in noise.integers(0, len(small), 300):
        content = bytearray(small)
        content[place] ^= 1 << int(noise.integers(8))
        try:
            rows = rows_of(tmp_path, {"a": bytes(content)}, encoded=encoded)
        except DataError:
            continue
        assert rows.num_rows == 50
        if place < footer:  # which has no checksum: a name or a type in it may differ. The values have one
            assert [column.to_pylist() for column in rows.columns] == [column.to_pylist() for column in sound.columns]


def large(kind: str) -> bytes:
    """Return a small file whose one row group would take a lot of memory."""
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int32)), ["x" * 1_000_000])
    if kind == "dictionary":
        return parquet({"s": same}, dictionary_pagesize_limit=8 << 20)
    if kind == "dictionary of many":
        names = [*(f"a rather common value {n}" for n in range(30_000)), "x" * 900_000]
        indices = np.concatenate([np.arange(30_001), np.full(100_000, 30_000)]).astype(np.int32)
        values = pa.DictionaryArray.from_arrays(pa.array(indices), names)
        return parquet({"s": values}, dictionary_pagesize_limit=8 << 20)
    if kind == "nested":
        return parquet({"s": pa.array([["x" * 20_000]] * 30_000)})
    if kind == "prefixes":
        values = pa.array(["x" * 20_000] * 30_000)
        return parquet({"s": values}, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY")
    if kind == "repeated numbers":
        return parquet({"s": np.zeros(75_000_000, np.int64)}, row_group_size=75_000_000)
    return parquet({"s": pa.array(["x" * 20_000] * 30_000)}, use_dictionary=False, compression="zstd")


LARGE = ["dictionary", "dictionary of many", "nested", "prefixes", "repeated numbers", "compressed"]


@pytest.mark.parametrize("kind", LARGE)
def test_a_row_group_that_would_be_too_large_is_found_before_it_is(tmp_path: Path, kind: str) -> None:
    content = large(kind)
    assert len(content) < 3_000_000
    stored(tmp_path, {"b": content})
    said, grown_mb = read_apart(tmp_path, max_row_group_mb=100)
    assert "row group 0 of blob b is too large in memory" in said
    assert "column s" in said
    assert "max_row_group_mb" in said
    assert grown_mb < 450  # expanded, each takes from 600 MB to 1 TB


def varint(number: int) -> bytes:
    number *= 2  # zigzag
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def test_a_footer_that_makes_a_large_page_small_is_not_believed(tmp_path: Path) -> None:
    content = large("compressed")
    size = pq.read_metadata(io.BytesIO(content)).row_group(0).column(0).total_uncompressed_size
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert size > 400_000_000
    truth = varint(size)
    lie = bytes([byte | 128 for byte in varint(1000).ljust(len(truth) - 1, b"\0")]) + b"\0"
    assert truth in content[start:]
    content = content[:start] + content[start:].replace(truth, lie)
    assert pq.read_metadata(io.BytesIO(content)).row_group(0).column(0).total_uncompressed_size == 1000
    stored(tmp_path, {"b": content})
    said, grown_mb = read_apart(tmp_path, max_row_group_mb=100)
    assert "row group 0 of blob b is too large in memory" in said
    assert grown_mb < 100


def test_a_limit_is_about_the_columns_that_are_read(tmp_path: Path) -> None:
    rows = pa.table({"small": range(20_000), "s": ["x" * 1000] * 20_000})
    assert rows_of(tmp_path, {"a": parquet(rows)}, ["small"], max_row_group_mb=1).num_rows == 20_000
    with pytest.raises(DataError, match="too large in memory"):
        rows_of(tmp_path, {"a": parquet(rows)}, ["small", "s"], max_row_group_mb=1)
    assert rows_of(tmp_path, {"a": parquet(rows)}, ["small", "s"], max_row_group_mb=30).equals(rows)
