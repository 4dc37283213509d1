"""Scores champion and challenger on the same holdout rows; only aggregates leave this module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insitu.edge import metrics, paired
from insitu.edge.data import EdgeBatch, open_batch
from insitu.edge.slices import measure_slices
from insitu.errors import TrainingFailed

if TYPE_CHECKING:
    import pandas as pd


def evaluate(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return aggregates about both models on the holdout; leave golden rows in *folder*.

    Raises:
        TrainingFailed: A model cannot be loaded or cannot score the holdout.
    """
    challenger = Contestant.load(folder / "output" / "model", "challenger")
    published = spec["champion"]
    champion = Contestant.load(Path(published["folder"]), "champion") if published else None
    holdout = _open_holdout(folder, spec)
    wanted = dict.fromkeys([*challenger.inputs, *(champion.inputs if champion else ())])
    sliced = list(spec["slices"])
    _require_columns(list(wanted), holdout)
    _require_columns(sliced, holdout, who="[gate.slices] of model.toml")
    rows, y = holdout.examples(list(dict.fromkeys([*wanted, *sliced])))
    y = y.astype(np.float64)
    task = spec["holdout"]["target"]["task"]

    score = challenger.score(rows)
    result: dict[str, Any] = {
        "rows": len(rows),
        "metrics": {"challenger": metrics.measure(spec["metrics"], y, score)},
        "curves": {"challenger": metrics.curves(task, y, score)},
        "difference": None,
        "champion": published and published["version"],
    }
    old = champion.score(rows) if champion else None
    result["slices"] = [
        entry
        for column, settings in spec["slices"].items()
        for entry in measure_slices(column, settings, rows[column], spec["primary"], y, score, old, spec["error"])
    ]
    if old is not None:
        result["metrics"]["champion"] = metrics.measure(spec["metrics"], y, old)
        result["curves"]["champion"] = metrics.curves(task, y, old)
        result["difference"] = paired.difference(spec["primary"], y, score, old, spec["error"]).to_json()
    golden = rows.iloc[np.linspace(0, len(rows) - 1, min(len(rows), spec["golden_rows"]), dtype=int)]
    result["onnx"] = _keep_golden(folder, challenger, golden, spec["tolerance"])
    return result


@dataclass(frozen=True)
class Contestant:
    """A model under evaluation."""

    role: str
    model: Any
    inputs: list[str]

    @classmethod
    def load(cls, folder: Path, role: str) -> Contestant:
        """Load an MLflow model folder; raise `TrainingFailed`."""
        import mlflow.pyfunc

        try:
            model = mlflow.pyfunc.load_model(str(folder))
        except Exception as exc:
            raise TrainingFailed(f"mlflow.pyfunc cannot load the {role}: {type(exc).__name__}") from exc
        signature = model.metadata.signature
        if signature is None or signature.inputs is None or not signature.inputs.has_input_names():
            raise TrainingFailed(
                f"the {role} has no signature with column names",
                next_action="save it with signature=infer_signature(X, y) where X is a data frame",
            )
        return cls(role, model, [str(name) for name in signature.inputs.input_names()])

    def predict(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the answers for *rows*, (n,) or (n, k); raise `TrainingFailed`."""
        try:
            answers = self.model.predict(rows[self.inputs])
            return np.asarray(getattr(answers, "values", answers), dtype=np.float64)
        except Exception as exc:
            raise TrainingFailed(f"the {self.role} cannot score the holdout: {type(exc).__name__}") from exc

    def score(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return one number per row, (n,): the last column of a table of probabilities."""
        answers = self.predict(rows)
        return answers[:, -1] if answers.ndim == 2 else answers


def _open_holdout(folder: Path, spec: Mapping[str, Any]) -> EdgeBatch:
    manifest = folder / "holdout.json"
    manifest.write_text(json.dumps(spec["holdout"]))
    return open_batch({"INSITU_BATCH": str(manifest), "INSITU_OUTPUT": str(folder)})


def _require_columns(wanted: list[str], holdout: EdgeBatch, who: str = "the model") -> None:
    if missing := sorted(set(wanted) - set(holdout.schema().names)):
        raise TrainingFailed(f"{who} wants columns that the batch lacks: {', '.join(missing)}")


def _keep_golden(folder: Path, model: Contestant, rows: pd.DataFrame, tolerance: float) -> dict[str, Any] | None:
    """Keep request and answers for the smoke test; return how far an ONNX export deviates from them."""
    rows = rows[model.inputs]
    answers = model.predict(rows)
    request = {
        "dataframe_split": json.loads(rows.to_json(orient="split", index=False, date_format="iso", double_precision=15))
    }
    (folder / "golden.json").write_text(json.dumps({"request": request, "predictions": answers.tolist()}))
    export = folder / "output" / "model.onnx"
    if not export.is_file():
        return None
    from insitu.serving.payload import Column
    from insitu.serving.runtimes import OnnxRuntime

    try:
        portable = OnnxRuntime(export, [Column(name, "any") for name in model.inputs])
        table = {name: rows[name].tolist() for name in model.inputs}
        gap = float(np.abs(np.asarray(portable.predict(table), dtype=np.float64) - answers).max())
    except Exception as exc:
        return {"usable": False, "reason": f"the export cannot score the golden rows: {type(exc).__name__}"}
    return {"usable": gap <= tolerance, "max_difference": gap}
