"""Whether an ONNX export answers as the model that it was made of: through the server's own reading of requests."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from insitu.agreement import ROUNDING, Agreement, compare, per_row
from insitu.errors import InsituError
from insitu.serving.payload import BadRequest, Column, Table, parse
from insitu.serving.runtimes import OnnxRuntime, frame_of

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 10_000
_BATCH_ROWS = 1_000
_MOST_COLUMNS = 50


class Judged(Protocol):
    """The model that the export is compared with."""

    @property
    def model(self) -> Any:
        """What `mlflow.pyfunc.load_model` returned."""
        ...

    @property
    def inputs(self) -> list[str]:
        """Its columns."""
        ...

    def predict(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the answers for *rows*, (n,) or (n, k); raise `TrainingFailed`."""
        ...


def judge_export(export: Path, model: Judged, rows: pd.DataFrame, tolerance: float, task: str) -> dict[str, Any]:
    """Return how the export's answers to *rows* compare with the model's: never raises for what the export does.

    `usable` says whether it may serve, and `reason` why not; `rows` of them were compared, `missing_rows` with a value
    missing; `max_difference`, `beyond` (rows with more than the tolerance) and `flips` (of the class) say how far they
    are apart; `blanks` names columns where it answers otherwise than the model when their value is missing.

    Raises:
        TrainingFailed: The model breaks.
    """
    told: dict[str, Any] = {"sha256": sha256(export.read_bytes()).hexdigest(), "usable": False, "tolerance": tolerance}
    rows = _chosen(rows[model.inputs])
    wanted = per_row(model.predict(rows))
    try:
        columns = columns_of(model)
        portable = OnnxRuntime(export, columns)
        told["precision"] = portable.precision
        answers = np.concatenate([_answers(portable, table) for table in _tables(rows, columns)])
    except BadRequest as exc:
        return told | {"reason": f"the server would not take rows of the holdout: {exc.message} (column {exc.column})"}
    except Exception as exc:
        return told | {"reason": f"the export cannot score rows of the holdout: {type(exc).__name__}"}
    if answers.shape != wanted.shape:
        return told | {"reason": f"the export's answers have the shape {answers.shape}, the model's {wanted.shape}"}
    exact = portable.precision is None
    found = compare(answers, wanted, 0.0 if exact else tolerance, rounding_of(told), classes=task == "classification")
    return told | {
        "usable": found.holds,
        "rows": found.rows,
        "missing_rows": int(rows.isna().any(axis=1).sum()),
        "max_difference": found.max_difference if math.isfinite(found.max_difference) else None,
        "beyond": found.beyond,
        "flips": found.flips,
        "blanks": list(_blanks(portable, model, rows, columns, tolerance)),
        **({} if found.holds else {"reason": _reason(found, tolerance)}),
    }


def rounding_of(onnx: Mapping[str, Any]) -> float:
    """Return how far its precision lets the export's answers be from the model's, as a share of each."""
    return ROUNDING.get(str(onnx.get("precision")), 0.0)


def columns_of(model: Judged) -> list[Column]:
    """Return the columns of the model's signature, as the server has them."""
    signature: Sequence[Mapping[str, Any]] = model.model.metadata.signature.inputs.to_dict()
    return [Column(one["name"], one["type"], one.get("required", True)) for one in signature]


def request_of(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the request that a client would send for *rows*."""
    split = rows.to_json(orient="split", index=False, date_format="iso", double_precision=15)
    return {"dataframe_split": json.loads(split)}


def _chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """Return all rows, or as many as are compared: evenly spread, up to a quarter lacking a value."""
    if len(rows) <= MOST_ROWS:
        return rows
    missing = np.flatnonzero(rows.isna().any(axis=1).to_numpy())
    some = _spread(len(missing), MOST_ROWS // 4)
    chosen = np.union1d(_spread(len(rows), MOST_ROWS - len(some)), missing[some])
    return rows.iloc[chosen]


def _spread(n: int, most: int) -> npt.NDArray[np.intp]:
    return np.linspace(0, max(n - 1, 0), min(n, most)).astype(np.intp)


def _tables(rows: pd.DataFrame, columns: Sequence[Column]) -> Iterator[Table]:
    for start in range(0, len(rows), _BATCH_ROWS):
        yield parse(json.dumps(request_of(rows.iloc[start : start + _BATCH_ROWS])).encode(), columns)


def _answers(portable: OnnxRuntime, table: Table) -> npt.NDArray[np.float64]:
    return np.asarray(portable.predict(table), dtype=np.float64)


def _blanks(
    portable: OnnxRuntime, model: Judged, rows: pd.DataFrame, columns: Sequence[Column], tolerance: float
) -> Iterator[str]:
    """Yield each column without whose value the model answers, and the export otherwise."""
    row = request_of(rows.head(1))["dataframe_split"]
    for at, column in enumerate(columns[:_MOST_COLUMNS]):
        values = [*row["data"][0][:at], None, *row["data"][0][at + 1 :]]
        try:
            table = parse(json.dumps({"dataframe_split": {**row, "data": [values]}}).encode(), columns)
            wanted = per_row(model.predict(frame_of(table, columns)))
        except (BadRequest, InsituError):  # neither takes it
            continue
        try:
            answers = _answers(portable, table)
            same = answers.shape == wanted.shape and compare(answers, wanted, tolerance).holds
        except Exception:
            same = False
        if not same:
            yield column.name


def _reason(found: Agreement, tolerance: float) -> str:
    parts = []
    if found.beyond:
        by = f"by up to {found.max_difference:.3g}" if math.isfinite(found.max_difference) else "some are no numbers"
        parts.append(f"{found.beyond:,} differ from the model's, {by} (smoke.tolerance is {tolerance:g})")
    if found.flips:
        parts.append(f"{found.flips:,} are of another class")
    return f"of {found.rows:,} answers of the export {', '.join(parts)}"
