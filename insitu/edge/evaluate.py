"""Scores champion and challenger on the same holdout rows; only aggregates leave this module.

What cannot be judged is refused here by name, whatever the training script said of itself: labels that are no
classes, answers that are no probabilities, a model that reads the label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insitu.edge import metrics, paired
from insitu.edge.data import EdgeBatch, open_part
from insitu.edge.slices import measure_slices
from insitu.errors import GateFailed, InsituError, TrainingFailed

if TYPE_CHECKING:
    import pandas as pd

_ROUNDING = 1e-6
"""How far single precision takes a probability beyond its ends."""

_PROBABILITIES = 'save a classifier with pyfunc_predict_fn="predict_proba", or the like of its flavour'


def evaluate(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return aggregates about both models on the holdout; leave golden rows of a trained one in *folder*.

    The challenger is what was trained in *folder*, or the files that the spec names. A champion that cannot be
    loaded, or cannot score these rows, is told as `lost` where the gate has a policy for that.

    Raises:
        TrainingFailed: A model cannot be loaded or cannot score the holdout.
        GateFailed: The holdout cannot judge a model, or a model's answers cannot be judged.
    """
    holdout, target = open_part(folder, spec, "holdout"), spec["holdout"]["target"]
    task, classes = target["task"], len(target.get("classes") or (0, 1))
    trained = folder / "output" / "model"
    challenger = _load(Path((spec.get("challenger") or {}).get("folder", trained)), "challenger", holdout, spec)
    champion, lost = _champion(spec, holdout)
    sliced = list(spec["slices"])
    _require_columns(sliced, holdout, who="[gate.slices] of model.toml")
    rows, y = holdout.examples(
        list(dict.fromkeys([*challenger.inputs, *(champion.inputs if champion else ()), *sliced]))
    )
    y = y.astype(np.float64)
    _require_labels(task, y, classes)

    score, old = challenger.score(rows, task, classes), None
    if champion:
        try:
            old = _finite(champion.score(rows, task, classes))
        except InsituError as error:
            lost = _lost(spec, error)
    result = _aggregates(spec, task, y, score, old) | {
        "champion": (spec["champion"] or {}).get("version"),
        "lost": lost,
    }
    result["slices"] = [
        entry
        for column, settings in spec["slices"].items()
        for entry in measure_slices(column, settings, rows[column], spec["primary"], y, score, old, spec["error"])
    ]
    if spec["golden_rows"]:
        golden = rows.iloc[np.linspace(0, len(rows) - 1, min(len(rows), spec["golden_rows"]), dtype=int)]
        result["onnx"] = onnx = _judge_export(folder, challenger, rows, spec["tolerance"], task)
        _keep_golden(folder, challenger, golden, onnx, task)
    return result


def _aggregates(
    spec: Mapping[str, Any], task: str, y: metrics.Vector, score: metrics.Vector, old: metrics.Vector | None
) -> dict[str, Any]:
    """Return what the holdout says on the whole: metrics, curves, difference, and what keeps it from saying more."""
    scores = {"challenger": score} | ({} if old is None else {"champion": old})
    return {
        "rows": len(y),
        "rarer_rows": metrics.rarer_rows(y, metrics.class_count(score)) if task == "classification" else None,
        "constant": bool(len(score) > 1 and not np.ptp(score, axis=0).any()),  # not of answers that are no numbers
        "metrics": {role: metrics.measure(spec["metrics"], y, one) for role, one in scores.items()},
        "curves": {role: metrics.curves(task, y, one) for role, one in scores.items()},
        "difference": None
        if old is None
        else paired.difference(spec["primary"], y, score, old, spec["error"]).to_json(),
        "score_psi": None if old is None else metrics.score_psi(score, old),
    }


def _champion(spec: Mapping[str, Any], holdout: EdgeBatch) -> tuple[Contestant | None, str | None]:
    """Return the champion, or why there is none to compare with, where the gate has a policy for that."""
    published = spec["champion"]
    if not published or published.get("lost"):
        return None, published and published["lost"]
    try:
        return _load(Path(published["folder"]), "champion", holdout, spec), None
    except InsituError as error:
        return None, _lost(spec, error)


def _load(folder: Path, role: str, holdout: EdgeBatch, spec: Mapping[str, Any]) -> Contestant:
    """Load a model; raise `TrainingFailed`, also where it would run code and model.toml does not allow that."""
    if not spec.get("residency", {}).get("pickle", True):
        from insitu.residency.loading import require_no_code

        require_no_code(folder, role)
    return Contestant.load(folder, role, holdout)


def _lost(spec: Mapping[str, Any], error: InsituError) -> str:
    """Return why the champion is no champion; raise *error* where that fails the run."""
    if spec.get("unusable_champion", "fail") == "fail":
        # Over advice on how to save a model: the champion is what it is.
        error.next_action = "see gate.unusable_champion in model.toml, or mend the champion"
        raise error
    return error.what


@dataclass(frozen=True)
class Contestant:
    """A model under evaluation."""

    role: str
    model: Any
    inputs: list[str]

    @classmethod
    def load(cls, folder: Path, role: str, holdout: EdgeBatch) -> Contestant:
        """Load an MLflow model folder; raise `TrainingFailed`, also where it wants other columns than it may have."""
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
        inputs = [str(name) for name in signature.inputs.input_names()]
        _require_columns(inputs, holdout, who=f"the {role}")
        if (label := str(holdout.target["label_column"])) in inputs:
            raise TrainingFailed(
                f"the {role} reads the column that it shall predict",
                found=f"{label} in its signature",
                wanted="inputs that are known before the outcome",
                next_action=f"leave {label} out of the features and of the signature",
            )
        return cls(role, model, inputs)

    def predict(self, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the answers for *rows*, (n,) or (n, k); raise `TrainingFailed`."""
        try:
            answers = self.model.predict(rows[self.inputs].astype(self._widened(rows)))
            return np.asarray(getattr(answers, "values", answers), dtype=np.float64)
        except Exception as exc:
            raise TrainingFailed(f"the {self.role} cannot score the holdout: {type(exc).__name__}") from exc

    def _widened(self, rows: pd.DataFrame) -> dict[str, type[float]]:
        """Return the columns of whole numbers that the model takes as numbers, as the image's server reads them.

        Training rows of such a column are numbers where a value is missing; MLflow would refuse the others.
        """
        kinds = {str(one["name"]): one["type"] for one in self.model.metadata.signature.inputs.to_dict()}
        return {name: float for name in self.inputs if kinds[name] == "double" and rows[name].dtype.kind in "iu"}

    def score(self, rows: pd.DataFrame, task: str, classes: int = 2) -> npt.NDArray[np.float64]:
        """Return one number per row, (n,): the last column of a table of probabilities; of many classes all, (n, k).

        Raises:
            TrainingFailed: The model breaks, or gives another number of answers.
            GateFailed: The answers of a classifier are no probabilities; what is not finite is left to the gate.
        """
        answers = self.predict(rows)
        if classes > 2:
            return self._probabilities(answers, len(rows), classes)
        score = answers[:, -1] if answers.ndim == 2 and answers.shape[1] else answers
        if score.shape != (len(rows),):
            raise TrainingFailed(f"the {self.role} does not give one answer per row", wanted=f"{len(rows)} answers")
        if task == "classification" and np.any((score < -_ROUNDING) | (score > 1 + _ROUNDING)):
            raise GateFailed(
                f"the {self.role}'s answers are no probabilities",
                found="numbers outside 0 to 1",
                wanted="the probability of the class 1",
                next_action=_PROBABILITIES,
            )
        return score

    def _probabilities(self, answers: npt.NDArray[np.float64], rows: int, classes: int) -> npt.NDArray[np.float64]:
        """Return the answers, (rows, classes); raise `GateFailed` unless each row is one probability per class."""
        if answers.shape != (rows, classes):
            raise GateFailed(
                f"the {self.role} does not give a probability for each class",
                found=f"answers of shape {answers.shape}",
                wanted=f"({rows}, {classes}): one for each of target.classes, in their order",
                next_action=f"see that the training part has every class; {_PROBABILITIES}",
            )
        known = answers[np.isfinite(answers).all(axis=1)]
        beyond = (known < -_ROUNDING) | (known > 1 + _ROUNDING)
        if beyond.any() or np.any(np.abs(known.sum(axis=1) - 1) > classes * _ROUNDING):
            raise GateFailed(
                f"the {self.role}'s answers are no probabilities",
                found="numbers outside 0 to 1, or rows that do not add up to 1",
                wanted="the probability of each class",
                next_action=_PROBABILITIES,
            )
        return answers


def _finite(score: metrics.Vector) -> metrics.Vector:
    """Return the champion's answers; raise `GateFailed` when one is no number. A challenger's metrics tell of that."""
    if not np.isfinite(score).all():
        raise GateFailed("answers of the champion are no finite numbers")
    return score


def _require_labels(task: str, y: metrics.Vector, classes: int) -> None:
    if len(y) < metrics.MIN_BIN_ROWS:
        raise GateFailed(
            "the holdout is too small to tell anything of it", wanted=f"{metrics.MIN_BIN_ROWS} rows with a known label"
        )
    if task == "classification" and not np.isin(y, range(classes)).all():
        raise GateFailed(
            "the labels of the holdout are no classes",
            found="other values than 0 and 1",
            wanted="0 and 1",
            next_action="set target.label_is, label_above or classes in model.toml, or mend the label column",
        )
    if not np.isfinite(y).all():
        raise GateFailed("labels of the holdout are not finite", next_action="mend the label column")


def _require_columns(wanted: list[str], holdout: EdgeBatch, who: str) -> None:
    if missing := sorted(set(wanted) - set(holdout.schema().names)):
        raise TrainingFailed(f"{who} wants columns that the batch lacks: {', '.join(missing)}")


def _judge_export(
    folder: Path, model: Contestant, rows: pd.DataFrame, tolerance: float, task: str
) -> dict[str, Any] | None:
    export = folder / "output" / "model.onnx"
    if not export.is_file():
        return None
    from insitu.edge.parity import judge_export

    return judge_export(export, model, rows, tolerance, task)


def _keep_golden(
    folder: Path, model: Contestant, rows: pd.DataFrame, onnx: Mapping[str, Any] | None, task: str
) -> None:
    """Keep request and answers for the smoke test, and how far apart answers of the image may be."""
    from insitu.edge.parity import request_of, rounding_of

    golden = {
        "request": request_of(rows[model.inputs]),
        "predictions": model.predict(rows).tolist(),
        "rounding": rounding_of(onnx) if onnx and onnx["usable"] else 0.0,
        "classes": task == "classification",
    }
    (folder / "golden.json").write_text(json.dumps(golden))
