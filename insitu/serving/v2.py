"""The Open Inference Protocol, version 2: a tensor per column, or one of all columns; JSON alone.

An error names tensors and types, and never holds a value of the request.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .payload import BadRequest, Column, Table, checked, floats, integers, only

_CASTS: Mapping[str, Callable[[list[Any]], list[Any]]] = {
    "BOOL": only(bool),
    **{f"INT{bits}": integers(bits) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": integers(64) for bits in (8, 16, 32, 64)},
    **dict.fromkeys(("FP16", "FP32", "FP64"), floats),
    "BYTES": only(str, type(None)),
}
_DATATYPES = {"boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64"}
_OF_TYPES = {bool: "BOOL", int: "INT64", str: "BYTES"}
_PREDICTIONS = "predictions"
_MAX_DIMENSIONS = 2
_NAME_CHARACTERS = 80


@dataclass(frozen=True)
class Asked:
    """A request: its rows, the id that it wants back, and the outputs that it wants; None is all of them."""

    table: Table
    id: str | None
    outputs: tuple[str, ...] | None


def read(body: bytes, columns: Sequence[Column]) -> Asked:
    """Return what *body* asks; raise `BadRequest` where it is none of the protocol, or not of the model's columns."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("not_json", "the body is not JSON; tensors in binary are not taken") from None
    inputs = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(inputs, list) or not inputs or not all(isinstance(one, dict) for one in inputs):
        raise BadRequest("unknown_form", "wanted a JSON object whose inputs are a list of tensors")
    table: Table = {}
    for name, values in (pair for one in inputs for pair in _columns_of(one, columns, alone=len(inputs) == 1)):
        if name in table:
            raise BadRequest("duplicate_column", "two tensors are this column", name)
        table[name] = values
    if len(set(map(len, table.values()))) > 1:
        raise BadRequest("wrong_shape", "every tensor must have as many rows")
    asked = request.get("id")
    return Asked(checked(table, columns), asked if isinstance(asked, str) else None, _wanted(request))


def _wanted(request: Mapping[str, Any]) -> tuple[str, ...] | None:
    outputs = request.get("outputs")
    if not outputs:
        return None
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
        raise BadRequest("unknown_form", "outputs must be a list of objects with a name")
    return tuple(str(one.get("name")) for one in outputs)


def _columns_of(
    tensor: Mapping[str, Any], columns: Sequence[Column], *, alone: bool
) -> Iterator[tuple[str, list[Any]]]:
    """Yield name and values of each column that *tensor* is: of one, or of all where it is *alone*."""
    name, shape, values = str(tensor.get("name"))[:_NAME_CHARACTERS], tensor.get("shape"), _flat(tensor)
    sizes = shape if isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape) else []
    if not 1 <= len(sizes) <= _MAX_DIMENSIONS or math.prod(sizes) != len(values):
        raise BadRequest("wrong_shape", "wanted a shape of rows, or of rows and columns, with as many values", name)
    if len(sizes) == 1 or (sizes[1] == 1 and len(columns) > 1):
        yield name, values
    elif alone and sizes[1] == len(columns):
        yield from ((column.name, values[at :: len(columns)]) for at, column in enumerate(columns))
    else:
        raise BadRequest("wrong_shape", f"wanted one column, or alone all {len(columns)} columns of the model", name)


def _flat(tensor: Mapping[str, Any]) -> list[Any]:
    name, datatype, data = str(tensor.get("name"))[:_NAME_CHARACTERS], tensor.get("datatype"), tensor.get("data")
    cast = _CASTS.get(datatype) if isinstance(datatype, str) else None
    if cast is None:
        raise BadRequest("wrong_type", f"wanted a datatype of {', '.join(_CASTS)}", name)
    if (tensor.get("parameters") or {}).get("content_type") == "base64":
        raise BadRequest("wrong_type", "values in base64 are not taken", name)
    if isinstance(data, list) and data and all(isinstance(row, list) for row in data):
        data = [value for row in data for value in row]
    if not isinstance(data, list):
        raise BadRequest("wrong_shape", "data must be a list of values, or a list of rows", name)
    try:
        return cast(data)
    except (TypeError, ValueError, OverflowError):
        raise BadRequest("wrong_type", f"wanted values of type {datatype}", name) from None


def answer(predictions: list[Any], metadata: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Return the response; raise `BadRequest` where it wants outputs that the model has not."""
    outputs = {tensor["name"]: tensor for tensor in tensors(predictions)}
    wanted = asked.outputs or tuple(outputs)
    if not set(wanted) <= outputs.keys():
        raise BadRequest("unknown_output", f"the model's outputs are {', '.join(outputs)}")
    told = {"model_name": metadata.get("model", ""), "model_version": metadata.get("version", "")}
    return told | ({} if asked.id is None else {"id": asked.id}) | {"outputs": [outputs[name] for name in wanted]}


def tensors(predictions: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield the predictions as tensors: one or, of a model that answers with records, one per field."""
    if predictions and isinstance(predictions[0], dict):
        for name in predictions[0]:
            yield _tensor(str(name), [row[name] for row in predictions])
    else:
        yield _tensor(_PREDICTIONS, predictions)


def _tensor(name: str, values: list[Any]) -> dict[str, Any]:
    shape = [len(values)]
    while values and isinstance(values[0], list):
        shape.append(len(values[0]))
        values = [value for row in values for value in row]
    kinds = set(map(type, values)) - {type(None)}
    datatype = _OF_TYPES.get(next(iter(kinds)), "FP64") if len(kinds) == 1 else "FP64"
    return {"name": name, "datatype": datatype, "shape": shape, "data": values}


def described(metadata: Mapping[str, Any], columns: Sequence[Column], example: list[Any] | None) -> dict[str, Any]:
    """Return what the protocol tells of a model; its outputs are those of *example*, one row's, if there is one."""
    inputs = [
        {"name": column.name, "datatype": _DATATYPES.get(column.type, "BYTES"), "shape": [-1]} for column in columns
    ]
    outputs = [
        {"name": one["name"], "datatype": one["datatype"], "shape": [-1, *one["shape"][1:]]}
        for one in tensors(example or [])
    ]
    return {
        "name": metadata.get("model", ""),
        "versions": [metadata.get("version", "")],
        "platform": "onnxruntime_onnx" if metadata["runtime"] == "onnx" else "mlflow_pyfunc",
        "inputs": inputs,
        "outputs": outputs,
    }
