"""CSV and JSON Lines: the rows that pandas reads, in bounded memory, and what is wrong said by place and name."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_helpers import read_apart, rows_of, stored

from insitu.errors import BlobChanged, DataError
from insitu.settings import ReadingSettings
from insitu.tables.table import open_table, read

TOKEN = "c4n4ry-7f3a"
MB = 1_000_000


def refusal(root: Path, name: str, content: bytes, columns: list[str] | None = None, **reading: Any) -> str:
    """Return what is said of a blob that cannot be read."""
    with pytest.raises(DataError, match=re.escape(name)) as caught:
        rows_of(root, {name: content}, columns, **reading)
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


# What is read


CSV = b'''\
whole,number,text,flag,when,none,code
1,1.5,x,true,2013-01-01T05:00:00Z,,007
NA,-2,"a, b",False,2013-01-02T05:00:00Z,NaN,008
-3,NaN,"two
lines",TRUE,n/a,null,009
4,1e3,"say ""so""",,2013-01-03T05:00:00Z,,
'''


def test_types_are_found_and_what_pandas_takes_for_missing_is_null(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"a.csv": CSV})
    kinds = [str(kind) for kind in rows.schema.types]
    assert kinds == ["int64", "double", "string", "bool", "string", "null", "int64"]
    assert rows["text"].to_pylist() == ["x", "a, b", "two\nlines", 'say "so"']
    assert rows["flag"].to_pylist() == [True, False, True, None]
    theirs = pd.read_csv(io.BytesIO(CSV))
    assert rows.to_pandas().isna().equals(theirs.isna())
    assert [rows[n].null_count for n in rows.schema.names] == [1, 1, 0, 1, 1, 4, 1]


def test_declared_types_are_what_the_columns_have(tmp_path: Path) -> None:
    types = {"whole": "number", "code": "text", "when": "timestamp", "flag": "text", "none": "date"}
    rows = rows_of(tmp_path, {"a.csv": CSV}, types=types)
    assert rows["code"].to_pylist() == ["007", "008", "009", None]
    assert (rows.schema.field("when").type, rows.schema.field("none").type) == (pa.timestamp("us", "UTC"), pa.date32())
    assert str(rows["when"][0]) == "2013-01-01 05:00:00+00:00"
    assert rows["whole"].to_pylist() == [1.0, None, -3.0, 4.0]
    assert rows["flag"].to_pylist() == ["true", "False", "TRUE", None]


@pytest.mark.parametrize(
    ("text", "kind", "first"),
    [
        ("2013-01-01T01:00:00+05:30", pa.timestamp("us", "UTC"), "2012-12-31 19:30:00+00:00"),
        ("2013-01-01 01:00:00.25", pa.timestamp("us"), "2013-01-01 01:00:00.250000"),
        ("2013-01-01", pa.timestamp("us"), "2013-01-01 00:00:00"),
    ],
)
def test_instants_are_in_utc_when_they_have_a_zone(tmp_path: Path, text: str, kind: pa.DataType, first: str) -> None:
    blobs = {"a.csv": f"t\n{text}\n".encode(), "a.jsonl": json.dumps({"t": text}).encode()}
    for name, content in blobs.items():
        rows = rows_of(tmp_path / name[2:], {name: content}, types={"t": "timestamp"})
        assert (rows.schema.field("t").type, str(rows["t"][0])) == (kind, first)


def test_json_lines_are_objects_whose_keys_may_be_missing(tmp_path: Path) -> None:
    content = b'{"n":1,"s":"2013-01-01","f":true,"in":{"k":[1]}}\n\n{"s":null,"n":2.5}\n{"f":false}'
    rows = rows_of(tmp_path, {"a.jsonl": content}, types={"late": "integer"})
    assert rows.to_pydict() == {
        "n": [1.0, 2.5, None],
        "s": ["2013-01-01", None, None],
        "f": [True, None, False],
        "in": [{"k": [1]}, None, None],
        "late": [None, None, None],
    }
    assert rows.schema.field("late").type == pa.int64()


def test_a_dates_column_of_json_lines_is_declared(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"a.ndjson": b'{"x":1,"d":"2013-01-31"}'}, types={"d": "date"})
    assert rows.schema == pa.schema({"x": pa.int64(), "d": pa.date32()})
    assert str(rows["d"][0]) == "2013-01-31"


@pytest.mark.parametrize(
    ("name", "content", "delimiter"),
    [
        ("a.csv", b"x;y\n1;2,5\n", ";"),
        ("a.tsv", b"x\ty\n1\t2,5\n", ","),
        ("a.CSV.gz", gzip.compress(b"x,y\n1,", mtime=0) + gzip.compress(b'"2,5"\n', mtime=0) + bytes(20), ","),
        ("a.csv", codecs.BOM_UTF8 + b'x,y\r\n1,"2,5"', ","),
    ],
)
def test_how_a_blob_is_written_is_no_part_of_its_rows(
    tmp_path: Path, name: str, content: bytes, delimiter: str
) -> None:
    assert rows_of(tmp_path, {name: content}, delimiter=delimiter).to_pydict() == {"x": [1], "y": ["2,5"]}


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"a.csv": b"x,y"})
    assert (rows.schema.names, rows.num_rows) == (["x", "y"], 0)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_rows_are_the_same_whatever_columns_are_asked_for(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"n": range(1000), "s": [f"text {n}" for n in range(1000)]})
    text = frame.to_csv(index=False) if name == "a.csv" else frame.to_json(orient="records", lines=True)
    for columns in (["s"], ["n", "s"], []):
        rows = rows_of(tmp_path, {name: str(text).encode()}, columns)
        assert rows.num_rows == 1000 if columns else rows["rows"].to_pylist() == [1000]
        assert rows.schema.names == (columns or ["rows"])


def test_blocks_end_where_rows_do_whatever_quotes_are_in_them(tmp_path: Path) -> None:
    lines = ['5" pipe', '"two\nlines, and ""quotes"""', "plain", '"a\n\n\nb"', 'x"y"z', '""']
    row = "".join(f"{n},{text}\n" for n, text in enumerate(lines * 20_000))
    rows = rows_of(tmp_path, {"a.csv": f"n,s\n{row}".encode()}, max_line_mb=1)
    assert rows["n"].to_pylist() == list(range(120_000))
    parsed = ['5" pipe', 'two\nlines, and "quotes"', "plain", "a\n\n\nb", 'x"y"z', None]
    assert rows["s"].to_pylist() == parsed * 20_000


def test_the_first_row_may_be_longer_than_what_is_looked_at_first(tmp_path: Path) -> None:
    long = "x" * 3_000_000
    assert rows_of(tmp_path / "csv", {"a.csv": f"s,n\n{long},1\n".encode()}).to_pydict() == {"s": [long], "n": [1]}
    rows = rows_of(tmp_path / "json", {"a.jsonl": json.dumps({"s": long, "n": 1}).encode()})
    assert rows.to_pydict() == {"s": [long], "n": [1]}


CELLS = st.one_of(
    st.none(),
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1).filter(lambda s: s == s.strip()),
)
COLUMNS = st.fixed_dictionaries(
    {
        "whole": st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=5, max_size=5),
        "number": st.lists(st.one_of(st.none(), st.floats(allow_nan=False)), min_size=5, max_size=5),
        "text": st.lists(CELLS, min_size=5, max_size=5),
        "flag": st.lists(st.one_of(st.none(), st.booleans()), min_size=5, max_size=5),
    }
)
TYPES = {"whole": "integer", "number": "number", "text": "text", "flag": "flag"}
MISSING = ["NA", "N/A", "NULL", "NaN", "None", "n/a", "nan", "null", "<NA>", "#N/A", "#NA", "-nan", "-NaN"]


@settings(derandomize=True, max_examples=40, deadline=None)
@given(COLUMNS)
def test_csv_gives_back_what_was_written(columns: dict[str, list[Any]]) -> None:
    columns["text"] = [None if text in MISSING else text for text in columns["text"]]
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    with TemporaryDirectory() as folder:
        rows = rows_of(Path(folder), {"a.csv": frame.to_csv(index=False, na_rep="NA").encode()}, types=TYPES)
    assert rows.to_pydict() == columns


@settings(derandomize=True, max_examples=40, deadline=None)
@given(COLUMNS)
def test_json_lines_give_back_what_was_written(columns: dict[str, list[Any]]) -> None:
    columns["number"] = [None if x in (float("inf"), float("-inf")) else x for x in columns["number"]]
    objects = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in objects).encode()
    with TemporaryDirectory() as folder:
        rows = rows_of(Path(folder), {"a.jsonl": content}, types=TYPES)
    assert rows.to_pydict() == columns


# What is refused


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", b"", "0 bytes"),
        ("a.jsonl", b"", "0 bytes"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "no text"),
        ("a.csv.gz", b"", "no end of the compressed data in 0 bytes"),
        ("a.csv", b"a,a\n1,2\n", "a"),
        ("a.csv", "a\nx\n".encode("utf-16"), "the byte order mark of UTF-16 at byte 0"),
        ("a.csv", "a\nx\n".encode("utf-32"), "the byte order mark of UTF-32 at byte 0"),
        ("a.csv", "a\nx\n".encode("utf-16-le"), "a zero at byte 1, as in UTF-16"),
        ("a.csv", "a,b\n1,é\n2,é\n".encode("latin-1"), "byte 6 belongs to no character"),
        ("a.jsonl", b'{"a":"\xc3"}', "byte 6 belongs to no character"),
        ("a.csv", b"a\n" + "é".encode()[:1], "the last character, before byte 3, is incomplete"),
        ("a.csv", f"a,b\n1,2\n1,2,{TOKEN}\n".encode(), "3 fields in row 3"),
        ("a.csv", f"a,b\n1,2\n{TOKEN}\n".encode(), "1 fields in row 3"),
        ("a.csv", b"a,b\n1,2\n,,\n", "3 fields in row 3"),
        ("a.csv", f'a,b\n1,x\n1,"{TOKEN}\n2,x\n'.encode(), "row 3 (the header is row 1) has a quote"),
        ("a.csv", b'a,"b\n1,2\n', "row"),
        ("a.jsonl", f'{{"a":1}}\n{{"a":"{TOKEN}"}}'.encode(), "string in row 2, number before"),
        ("a.jsonl", b'{"a":1}\n[1]', "one JSON object per line"),
        ("a.jsonl", f'{{"a":"{TOKEN}\n"}}'.encode(), "one JSON object per line"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, name: str, content: bytes, found: str) -> None:
    assert found in refusal(tmp_path, name, content)


MANY = {"csv": b"a,b\n" + b"1,x\n" * 600_000, "jsonl": b'{"a":1,"b":"x"}\n' * 150_000}


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("z.csv", f"{TOKEN},x\n", ["column a", "row 600,002", 'types.a = "number" or "text"']),
        ("z.csv", "1.5,x\n", ["column a", "row 600,002", "a whole number"]),
        ("z.csv", f"1,{TOKEN},2\n", ["3 fields in row 600,002"]),
        ("z.csv", f'1,"{TOKEN}\n', ["row 600,002", "a quote that is not closed"]),
        ("z.jsonl", f'{{"a":"{TOKEN}"}}\n', ["column a", "row 150,001", "a whole number"]),
        ("z.jsonl", '{"a":2.5}\n', ["column a", "row 150,001", 'types.a = "number"']),
        ("z.jsonl", '{"a":1e30}\n', ["column a", "row 150,001"]),
        ("z.jsonl", f'{{"a":1,"late":"{TOKEN}"}}\n', ["late in row 150,001", "types.late"]),
        ("z.jsonl", f'{{"a":1,"b":"{TOKEN}\n', ["row 150,001 is not JSON"]),
        ("z.jsonl", "[1]\n", ["row 150,001 is not an object"]),
    ],
)
def test_what_comes_after_the_first_rows_is_named_by_row(tmp_path: Path, name: str, row: str, said: list[str]) -> None:
    many = MANY[name.split(".")[1]]
    message = refusal(tmp_path, name, many + row.encode() + many[4:])
    assert [words for words in said if words not in message] == []


def test_bytes_that_are_no_text_are_named_by_offset(tmp_path: Path) -> None:
    content = MANY["csv"] + "1,é\n".encode() + b"1,\xff\n"
    assert f"byte {len(MANY['csv']) + 7:,} belongs" in refusal(tmp_path, "a.csv", content)
    assert "after decompression" in refusal(tmp_path / "gz", "a.csv.gz", gzip.compress(content))


def test_a_declared_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    message = refusal(tmp_path, "a.csv", b"a,b\n1,2\n", types={"a": "number", "height": "number", "age": "text"})
    assert "no column age, height" in message


@pytest.mark.parametrize(("kind", "name"), [("date", "a.csv"), ("timestamp", "a.csv"), ("date", "a.jsonl")])
def test_a_value_that_is_no_date_is_named_by_place(tmp_path: Path, kind: str, name: str) -> None:
    content = f"d\n2013-01-01\n{TOKEN}\n" if name == "a.csv" else f'{{"d":"2013-01-01"}}\n{{"d":"{TOKEN}"}}'
    message = refusal(tmp_path, name, content.encode(), types={"d": kind})
    assert "column d" in message
    assert "row" in message
    assert 'types.d = "text"' in message


ZIPPED = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(50_000)), mtime=0)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (ZIPPED[:-9], "no end of the compressed data"),
        (ZIPPED[: len(ZIPPED) // 2], "no end of the compressed data"),
        (ZIPPED[:50_000] + b"\xff\xff" + ZIPPED[50_002:], "damage within the first"),
        (ZIPPED[:-6] + b"\xff" + ZIPPED[-5:], "damage within the first"),
        (ZIPPED + b"more of other kind", "damage within the first"),
        (b"a,b\n1,2\n" * 10, "damage within the first"),
    ],
)
def test_damaged_gzip_is_refused(tmp_path: Path, content: bytes, found: str) -> None:
    assert found in refusal(tmp_path, "a.csv.gz", content)


def test_a_blob_that_changes_while_it_is_read_gives_nothing_of_the_new_version(tmp_path: Path) -> None:
    store, batch = stored(tmp_path, {"a.csv": b"a\n" + b"1\n" * 15_000_000})
    table = open_table(store, batch, ReadingSettings())
    rows = read(store, table.parts[0], table.schema, ["a"], ReadingSettings())
    seen = {1: next(rows)[0].num_rows}
    store.replace("a.csv", b"a\n" + b"2\n" * 15_000_000, etag=batch.blobs[0].etag)

    def read_on() -> None:
        for piece, _ in rows:
            for value in set(piece["a"].unique().to_pylist()):
                seen[value] = seen.get(value, 0) + 1

    with pytest.raises(BlobChanged):
        read_on()
    assert set(seen) == {1}


def test_every_byte_is_accounted_for(tmp_path: Path) -> None:
    store, batch = stored(tmp_path, {"a.csv": b"a\n" + b"1\n" * 12_000_000})
    table = open_table(store, batch, ReadingSettings())
    assert table.opening_bytes == store.bytes_read <= 2 * MB
    pieces = list(read(store, table.parts[0], table.schema, ["a"], ReadingSettings()))
    assert sum(n for _, n in pieces) == batch.size_bytes == store.bytes_read - table.opening_bytes
    assert sum(rows.num_rows for rows, _ in pieces) == 12_000_000
    assert len(pieces) > 1


# What would take too much memory

Writer = Callable[[Path], object]


def write_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"a,b\n1,2\n2," if path.name == "b.csv" else b'{"a":1}\n{"a":"')
        for _ in range(300):
            file.write(b"x" * MB)


def write_quote(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'a,b\n1,2\n"2,')
        for _ in range(300):
            file.write(b"1,2345678\n" * (MB // 10))


def write_bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"a,b\n")
        for _ in range(400):
            file.write(b"1,2345678\n" * (MB // 10))


@pytest.mark.parametrize(
    ("name", "write", "found"),
    [
        ("b.csv", write_line, "row 3 (the header is row 1) has no end within 16 MB"),
        ("b.jsonl", write_line, "row 2 has no end within 16 MB"),
        ("b.csv", write_quote, "row 3 (the header is row 1) has no end within 16 MB"),
        ("b.csv.gz", write_bomb, "max_ratio"),
    ],
)
def test_what_grows_beyond_measure_is_refused_in_bounded_memory(
    tmp_path: Path, name: str, write: Writer, found: str
) -> None:
    write(tmp_path / name)
    said, grown_mb = read_apart(tmp_path)
    assert f"blob {name}" in said
    assert found in said
    assert grown_mb < 200


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl"])
def test_memory_does_not_grow_with_the_blob(tmp_path: Path, name: str) -> None:
    row = b'{"a":1,"b":"some text or other"}\n' if name == "a.jsonl" else b"1,some text or other\n"
    content = (b"" if name == "a.jsonl" else b"a,b\n") + row * (300 * MB // len(row))
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    said, grown_mb = read_apart(tmp_path)
    assert said == f"{300 * MB // len(row)} rows"
    assert grown_mb < 200
