from __future__ import annotations

import json
import math
from typing import Any

import pytest

from insitu.serving import v2
from insitu.serving.payload import BadRequest, Column

COLUMNS = [Column("carrier", "string"), Column("distance", "double"), Column("hour", "long")]
NUMBERS = [Column("a", "double"), Column("b", "float")]
METADATA = {"model": "late", "version": "3", "runtime": "pyfunc"}


def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


CARRIER = tensor("carrier", "BYTES", [2], ["AA", None])
DISTANCE = tensor("distance", "FP32", [2, 1], [[1.5], [None]])
HOUR = tensor("hour", "INT8", [2], [3, 23])


def read(*inputs: Any, columns: list[Column] = COLUMNS, **more: Any) -> v2.Asked:
    return v2.read(json.dumps({"inputs": inputs, **more}).encode(), columns)


def test_a_tensor_is_a_column_in_whatever_order() -> None:
    asked = read(HOUR, CARRIER, DISTANCE, id="x")
    assert (asked.id, asked.table["carrier"], asked.table["hour"]) == ("x", ["AA", None], [3, 23])
    assert list(asked.table) == ["carrier", "distance", "hour"]
    assert asked.table["distance"][0] == 1.5
    assert math.isnan(asked.table["distance"][1])


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2], [3, 4], [5, 6]]])
def test_one_tensor_may_be_all_columns(data: Any) -> None:
    assert read(tensor("input-0", "FP64", [3, 2], data), columns=NUMBERS).table == {"a": [1, 3, 5], "b": [2, 4, 6]}


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([], "unknown_form"),
        ([4711], "unknown_form"),
        ([CARRIER, DISTANCE], "missing_column"),
        ([CARRIER, DISTANCE, HOUR, HOUR], "duplicate_column"),
        ([CARRIER, DISTANCE, tensor("hour", "INT64", [1], [4711])], "wrong_shape"),
        ([CARRIER, DISTANCE, HOUR, tensor("x", "INT64", [2], [4711, 1])], "unknown_column"),
        ([tensor("hour", "INT64", [3], [4711])], "wrong_shape"),
        ([tensor("hour", "INT64", [-1], [])], "wrong_shape"),
        ([tensor("hour", "INT64", [True], [4711])], "wrong_shape"),
        ([tensor("hour", "INT64", [1, 1, 1], [4711])], "wrong_shape"),
        ([tensor("x", "INT64", [1, 2], [4711, 1])], "wrong_shape"),
        ([tensor("hour", "INT64", [1], "4711")], "wrong_shape"),
        ([tensor("hour", "INT64", [2], [[4711], 1])], "wrong_type"),
        ([tensor("hour", "INT8", [1], [4711])], "wrong_type"),
        ([tensor("hour", "DATE", [1], [4711])], "wrong_type"),
        ([tensor("hour", "BYTES", [1], [4711])], "wrong_type"),
        ([tensor("carrier", "BYTES", [1], ["NDcxMQ=="]) | {"parameters": {"content_type": "base64"}}], "wrong_type"),
        ([CARRIER, DISTANCE, tensor("hour", "FP64", [2], [4711.5, 1])], "wrong_type"),
    ],
)
def test_a_refusal_names_no_value(inputs: list[Any], code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(*inputs)
    assert caught.value.code == code
    assert "4711" not in json.dumps(caught.value.to_json())


def test_answers_are_tensors_of_their_own_shape_and_type() -> None:
    told = {
        (one["name"], one["datatype"], tuple(one["shape"]))
        for predictions in ([0.5, None], [[0.5, 0.5]], ["a"], [1, 2], [True], [], [{"low": 1.0, "n": 2}])
        for one in v2.tensors(predictions)
    }
    assert told == {
        ("predictions", "FP64", (2,)), ("predictions", "FP64", (1, 2)), ("predictions", "BYTES", (1,)),
        ("predictions", "INT64", (2,)), ("predictions", "BOOL", (1,)), ("predictions", "FP64", (0,)),
        ("low", "FP64", (1,)), ("n", "INT64", (1,)),
    }  # fmt: skip


def test_outputs_are_those_that_were_asked_for() -> None:
    rows = [{"low": 1.0, "high": 2.0}]
    table = {"outputs": [{"name": "high"}]}
    answer = v2.answer(
        rows, METADATA, read(tensor("a", "FP64", [1], [0]), tensor("b", "FP64", [1], [0]), columns=NUMBERS, **table)
    )
    assert [one["data"] for one in answer["outputs"]] == [[2.0]]
    asked = read(tensor("x", "FP64", [1, 2], [0, 0]), columns=NUMBERS, outputs=[{"name": "middle"}])
    with pytest.raises(BadRequest, match="low, high"):
        v2.answer(rows, METADATA, asked)
