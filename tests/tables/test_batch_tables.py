"""The blobs of a batch as one table: what a later blob may have other, and the columns in the names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from table_helpers import parquet, rows_of, stored

from insitu.errors import DataError
from insitu.settings import ReadingSettings
from insitu.tables.table import Table, open_table

ROWS = pa.table({"a": [1, 2, None], "b": ["x", "y", "z"]})
never_null = pa.schema([*ROWS.schema, pa.field("c", pa.int64(), nullable=False)])


def opened(root: Path, blobs: dict[str, bytes], types: dict[str, str] | None = None) -> Table:
    return open_table(*stored(root, blobs), ReadingSettings.model_validate({"types": types or {}}))


def written(name: str, rows: pa.Table) -> bytes:
    if name.endswith(".csv"):
        return bytes(rows.to_pandas().to_csv(index=False).encode())
    return parquet(rows)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_column_that_is_new_in_a_later_blob_is_null_in_the_earlier_ones(tmp_path: Path, kind: str) -> None:
    later = pa.table({"a": [4], "new": ["n"], "b": ["w"]})
    blobs = {f"1.{kind}": written(f"1.{kind}", ROWS), f"2.{kind}": written(f"2.{kind}", later)}
    rows = rows_of(tmp_path, blobs)
    assert rows.schema.names == ["a", "b", "new"]
    assert rows["new"].to_pylist() == [None, None, None, "n"]
    assert rows["b"].to_pylist() == ["x", "y", "z", "w"]
    assert opened(tmp_path, blobs).notes == (f"column new is new in blob 2.{kind}: earlier rows have none",)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (ROWS.select(["a"]), "column b is missing"),
        (ROWS.rename_columns(["a", "c"]), "column b is missing; column c is new"),
        (ROWS.set_column(0, "a", pa.array([1.5, 2, 3])), "column a is double, not int64"),
        (ROWS.select(["b", "a"]), "another order"),
        (pa.table([*ROWS.columns, pa.array([1, 2, 3])], schema=never_null), "column c is new and never null"),
    ],
)
def test_other_differences_are_refused(tmp_path: Path, other: pa.Table, difference: str) -> None:
    with pytest.raises(DataError, match=r"blob 2 has other columns than 1") as caught:
        opened(tmp_path, {"1": parquet(ROWS), "2": parquet(other)})
    assert difference in str(caught.value)


def test_a_column_that_came_must_stay(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="blob 3 has other columns") as caught:
        opened(tmp_path, {"1": parquet(ROWS), "2": parquet(ROWS.append_column("c", [[1, 2, 3]])), "3": parquet(ROWS)})
    assert "column c is missing" in str(caught.value)


def test_types_that_were_found_in_text_give_way(tmp_path: Path) -> None:
    blobs = {"1.csv": b"a,b,c\n1,,x\n", "2.csv": b"a,b,c\n1.5,2,\n", "3.csv": b"a,b,c\n2,,\n"}
    rows = rows_of(tmp_path, blobs)
    assert rows.schema == pa.schema({"a": pa.float64(), "b": pa.int64(), "c": pa.string()})
    assert rows.to_pydict() == {"a": [1.0, 1.5, 2.0], "b": [None, 2, None], "c": ["x", None, None]}


def test_no_type_brings_a_column_back(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column b is missing") as caught:
        opened(tmp_path, {"1.csv": b"a,b\n1,2\n", "2.csv": b"a\n1\n"})
    assert "types." not in str(caught.value)


def test_other_types_in_text_are_to_be_declared(tmp_path: Path) -> None:
    blobs = {"1.csv": b"a\n1\n", "2.csv": b"a\nx\n"}
    with pytest.raises(DataError, match="column a is string, not int64") as caught:
        opened(tmp_path, blobs)
    assert 'types."a" under [data.reading]' in str(caught.value)
    assert rows_of(tmp_path, blobs, types={"a": "text"})["a"].to_pylist() == ["1", "x"]


def test_keys_of_json_lines_come_in_any_order(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"1.jsonl": b'{"a":1,"b":2}', "2.jsonl": b'{"b":3,"a":4}'})
    assert rows.to_pydict() == {"a": [1, 4], "b": [2, 3]}


@pytest.mark.parametrize("other", ["b.parquet", "b.jsonl"])
def test_formats_are_not_mixed(tmp_path: Path, other: str) -> None:
    with pytest.raises(DataError, match="mixes formats") as caught:
        opened(tmp_path, {"a.csv.gz": b"", "a.csv": b"", other: b""})
    assert f"{other} is" in str(caught.value)


def test_rows_are_counted_without_reading_where_that_is_known(tmp_path: Path) -> None:
    assert opened(tmp_path / "1", {"1": parquet(ROWS), "2": parquet(ROWS.slice(1))}).rows == 5
    assert opened(tmp_path / "2", {"1.csv": b"a\n1\n"}).rows is None
    assert opened(tmp_path / "3", {}).rows == 0


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["year=2012/month=1/x", "year=2013/month=02/x"], {"year": [2012, 2013], "month": [1, 2]}),
        (["key=1/x", "key=b/x"], {"key": ["1", "b"]}),
        (["k=__HIVE_DEFAULT_PARTITION__/x", "k=a%20b%2Fc=d/x"], {"k": ["a b/c=d", None]}),
        (["in/k=-5/deep/x", "in/k=__HIVE_DEFAULT_PARTITION__/x"], {"k": [-5, None]}),
    ],
)
def test_names_hold_columns_as_arrow_reads_them(
    tmp_path: Path, names: list[str], columns: dict[str, list[object]]
) -> None:
    rows = rows_of(tmp_path, {name: parquet({"v": [0]}) for name in names})
    assert rows.select(list(columns)).sort_by([(name, "ascending") for name in columns]).to_pydict() == columns
    assert rows.schema.names == ["v", *columns]
    theirs = ds.dataset(tmp_path, format="parquet", partitioning="hive").to_table()
    assert {name: set(theirs[name].to_pylist()) for name in columns} == {n: set(v) for n, v in columns.items()}


def test_a_blobs_own_name_is_no_key(tmp_path: Path) -> None:
    assert rows_of(tmp_path, {"x=1": parquet({"v": [0]}), "y=2": parquet({"v": [1]})}).to_pydict() == {"v": [0, 1]}


def test_a_key_that_the_blobs_hold_is_left_to_them(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"month=01/x.csv": b"month,v\n7,1\n", "month=02/x.csv": b"month,v\n8,2\n"})
    assert rows.to_pydict() == {"month": [7, 8], "v": [1, 2]}


def test_a_key_that_later_blobs_hold_is_null_before(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"month=01/x.csv": b"v\n1\n", "month=02/x.csv": b"v,month\n2,8\n"})
    assert rows.to_pydict() == {"v": [1, 2], "month": [None, 8]}


def test_a_partition_column_alone_has_as_many_rows(tmp_path: Path) -> None:
    blobs = {"k=1/x": parquet({"v": [0, 0]}), "k=2/x": parquet({"v": [0]})}
    assert rows_of(tmp_path, blobs, ["k"])["k"].to_pylist() == [1, 1, 2]


def test_blobs_with_other_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="partition keys") as caught:
        opened(tmp_path, {"k=1/x": parquet(ROWS), "x": parquet(ROWS)})
    assert "blob x" in str(caught.value)
