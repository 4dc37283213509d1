"""What turns a table into predictions: ONNX Runtime, or MLflow's pyfunc.

Both are imported only when used: an image holds the libraries of one of them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .payload import Column, Table


class Runtime(Protocol):
    """A loaded model."""

    quick: bool
    """Whether a few rows take so little time that a thread would cost more."""

    def predict(self, table: Table) -> list[Any]:
        """Return one JSON value for each row."""
        ...


def load_metadata(folder: Path, extra: str) -> dict[str, Any]:
    """Return what the image says about itself: `metadata.json`, and *extra* (JSON) over it."""
    return {**json.loads((folder / "metadata.json").read_bytes()), **json.loads(extra or "{}")}


def load_runtime(folder: Path, metadata: Mapping[str, Any]) -> Runtime:
    """Load the model of the image; lets the libraries' errors through."""
    columns = [Column(**column) for column in metadata["columns"]]
    if metadata["runtime"] == "onnx":
        return OnnxRuntime(folder / "model.onnx", columns, metadata.get("onnx_output"))
    return PyfuncRuntime(folder / "model", columns)


# Missing strings are empty in ONNX, which has no null.
_ONNX_TYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": object,
}
_ONNX_FLOATS = {"tensor(float)": "float32", "tensor(double)": "float64"}


class OnnxRuntime:
    """A model whose inputs are named for its columns, or that has one matrix as its input.

    Of several outputs the one that *output* names is the prediction; by default the last of floats,
    which for a classifier exported without zipmap are the probabilities.
    """

    quick = True

    def __init__(self, model: Path, columns: Sequence[Column], output: str | None = None) -> None:
        # ONNX Runtime for Linux reports home from 1.29 on, and starts to while it is imported.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("INSITU_THREADS", "1"))
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(model), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {i.name: _ONNX_TYPES[i.type] for i in self._session.get_inputs()}
        self._matrix = not self._inputs.keys() <= {column.name for column in columns}
        if self._matrix and len(self._inputs) != 1:
            raise ValueError("the inputs of the ONNX model are not named for the columns of the signature")
        outputs = {o.name: o.type for o in self._session.get_outputs()}
        floats = [name for name, kind in outputs.items() if kind in _ONNX_FLOATS]
        self._output = output or (floats or list(outputs))[-1]
        self.precision = _ONNX_FLOATS.get(outputs.get(self._output, ""))
        """What its answers are computed to; None where they are no numbers with a fraction."""

    def predict(self, table: Table) -> list[Any]:
        """Return one value for each row, or one list where the output has several columns."""
        if not any(map(len, table.values())):
            return []
        (found,) = self._session.run([self._output], self._feed(table))
        is_column = getattr(found, "ndim", 0) == 2 and found.shape[1] == 1  # as exports of regressions answer
        return plain(found[:, 0] if is_column else found)

    def _feed(self, table: Table) -> dict[str, Any]:
        if self._matrix:
            ((name, kind),) = self._inputs.items()
            return {name: np.ascontiguousarray(_array(list(table.values()), kind).T)}
        return {name: _array(table[name], kind)[:, None] for name, kind in self._inputs.items()}


def _array(values: list[Any], kind: Any) -> Any:
    found = np.array(values, dtype=kind)
    if kind is object:
        found[found == np.array(None)] = ""
    return found


_PANDAS_TYPES: Mapping[str, str] = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "object",
    "datetime": "datetime64[ns]",
}


class PyfuncRuntime:
    """Any model of MLflow's format, loaded as MLflow loads it."""

    quick = False

    def __init__(self, model: Path, columns: Sequence[Column]) -> None:
        from mlflow.pyfunc import load_model

        self._columns = columns
        self._model = load_model(str(model))

    def predict(self, table: Table) -> list[Any]:
        """Return one value for each row: a number, a list, or for a frame an object."""
        frame = frame_of(table, self._columns)
        return [] if frame.empty else plain(self._model.predict(frame))


def frame_of(table: Table, columns: Sequence[Column]) -> Any:
    """Return *table* as the data frame that MLflow's models take."""
    import pandas

    types = {column.name: _PANDAS_TYPES[column.type] for column in columns}
    return pandas.DataFrame(table).astype({name: types[name] for name in table})


def plain(found: Any) -> list[Any]:
    """Return predictions (array, series, frame or list) as JSON values; not-a-number becomes null."""
    if hasattr(found, "to_dict") and hasattr(found, "columns"):
        found = found.to_dict(orient="records")
    values = found.tolist() if hasattr(found, "tolist") else list(found)
    if hasattr(found, "dtype") and found.dtype.kind == "f" and bool(np.isfinite(found).all()):
        return list(values)
    return [_finite(value) for value in values]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if hasattr(value, "item"):  # a NumPy scalar inside a list
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
