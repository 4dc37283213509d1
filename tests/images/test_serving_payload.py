from __future__ import annotations

import json
import math
from typing import Any

import pytest

from insitu.serving.payload import BadRequest, Column, parse

COLUMNS = [Column("carrier", "string"), Column("distance", "double"), Column("hour", "long")]
ROWS = [["AA", 100.5, 3], ["UA", 2000.0, 23]]
NAMES = ["carrier", "distance", "hour"]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
BY_COLUMN = {name: [row[at] for row in ROWS] for at, name in enumerate(NAMES)}


@pytest.mark.parametrize(
    "request_body",
    [
        {"input_data": {"columns": NAMES, "data": ROWS, "index": [0, 1]}},
        {"input_data": {"columns": NAMES[::-1], "data": [row[::-1] for row in ROWS]}},
        {"input_data": RECORDS},
        {"input_data": ROWS},
        {"data": ROWS},
        {"data": RECORDS},
        {"dataframe_split": {"columns": NAMES, "data": ROWS}},
        {"dataframe_records": RECORDS},
        {"inputs": BY_COLUMN},
        {"inputs": ROWS},
        {"instances": RECORDS},
        {"instances": ROWS, "params": {}},
    ],
)
def test_every_form_is_the_same_table(request_body: Any) -> None:
    assert parse(json.dumps(request_body).encode(), COLUMNS) == BY_COLUMN


@pytest.mark.parametrize(
    ("body", "code", "column"),
    [
        (b"", "not_json", None),
        (b"{", "not_json", None),
        (b"\xff", "not_json", None),
        (b"[" * 100_000, "not_json", None),
        (b"[1]", "unknown_form", None),
        (b"{}", "unknown_form", None),
        (b'{"data": [], "inputs": []}', "unknown_form", None),
        (b'{"data": 4711}', "unknown_form", None),
        (b'{"data": [["AA", 1, 1]], "params": {"a": 4711}}', "unknown_form", None),
        (b'{"data": [["AA", 1]]}', "wrong_shape", None),
        (b'{"data": [4711]}', "wrong_shape", None),
        (b'{"inputs": {"carrier": ["AA"], "distance": [1], "hour": []}}', "wrong_shape", None),
        (b'{"inputs": {"carrier": "4711"}}', "wrong_shape", None),
        (b'{"input_data": {"columns": ["a", "a"], "data": []}}', "duplicate_column", None),
        (b'{"input_data": {"columns": [4711], "data": []}}', "unknown_form", None),
        (b'{"data": [{"carrier": "4711", "distance": 1}]}', "missing_column", "hour"),
        (b'{"data": [{"carrier": "4711", "distance": 1, "hour": 1, "x": 1}]}', "unknown_column", "x"),
        (b'{"data": [[4711, 1, 1]]}', "wrong_type", "carrier"),
        (b'{"data": [["AA", "4711", 1]]}', "wrong_type", "distance"),
        (b'{"data": [["AA", true, 1]]}', "wrong_type", "distance"),
        (b'{"data": [["AA", 1, 4711.5]]}', "wrong_type", "hour"),
        (b'{"data": [["AA", 1, null]]}', "wrong_type", "hour"),
        (b'{"data": [["AA", 1, NaN]]}', "wrong_type", "hour"),
        (b'{"data": [["AA", 1, Infinity]]}', "wrong_type", "hour"),
        (b'{"data": [["AA", 1, 9223372036854775808]]}', "wrong_type", "hour"),
        (b'{"data": [["AA", 1, [4711]]]}', "wrong_type", "hour"),
    ],
)
def test_a_refusal_names_the_column_and_no_value(body: bytes, code: str, column: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(body, COLUMNS)
    assert (caught.value.code, caught.value.column) == (code, column)
    assert "4711" not in json.dumps(caught.value.to_json())


def test_missing_values_are_taken_where_the_type_has_them() -> None:
    table = parse(b'{"data": [[null, null, 1.0]]}', COLUMNS)
    assert table["carrier"] == [None]
    assert math.isnan(table["distance"][0])
    assert table["hour"] == [1]


def test_a_column_that_is_not_required_may_be_left_out() -> None:
    columns = [Column("a", "long"), Column("b", "double", required=False)]
    table = parse(b'{"data": [{"a": 1}, {"a": 2}]}', columns)
    assert table["a"] == [1, 2]
    assert all(map(math.isnan, table["b"]))


def test_no_rows_are_a_table_too() -> None:
    assert parse(b'{"data": []}', COLUMNS) == {"carrier": [], "distance": [], "hour": []}
