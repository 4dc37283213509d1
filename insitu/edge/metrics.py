"""Metrics over the holdout, and the points of their pictures.

A metric is prepared once per model (sorting scores, losses per row) and then computed for any weights
of the rows in one pass, which is what makes thousands of resamples cheap. Values equal scikit-learn's.

Scores are (n,), of a classifier the probability of the class 1; or of k > 2 classes (n, k), and labels 0 to k - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Weighted = Callable[[Vector], float]
"""A metric of one model as a function of the rows' weights, shape (n,)."""

BY_CLASS = ("roc_auc", "average_precision", "macro_f1")
"""Metrics that say nothing where a class has no rows."""

CURVE_POINTS = 101
CALIBRATION_BINS = 10
MIN_BIN_ROWS = 10
"""Aggregates over fewer rows are not reported: they could describe a person."""


def _mean_of(loss: Callable[[Vector, Vector], Vector]) -> Callable[[Vector, Vector], Weighted]:
    def prepare(y: Vector, score: Vector) -> Weighted:
        values = loss(y, score)
        return lambda w: float(w @ values / w.sum())

    return prepare


def chosen(score: Vector) -> Vector:
    """Return the class that is answered, (n,)."""
    return (score.argmax(axis=1) if score.ndim == 2 else score >= 0.5).astype(np.float64)


def class_count(score: Vector) -> int:
    """Return how many classes a classifier answers about."""
    return score.shape[1] if score.ndim == 2 else 2


def _log_loss(y: Vector, score: Vector) -> Vector:
    if score.ndim == 2:
        score, y = score[np.arange(len(y)), y.astype(np.intp)], np.ones(len(y))
    # Clipped as scikit-learn does: a sure and wrong answer costs much, not infinitely much.
    p = np.clip(score, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def _rmse(y: Vector, score: Vector) -> Weighted:
    mean_square = _mean_of(lambda y, s: (y - s) ** 2)(y, score)
    return lambda w: float(np.sqrt(mean_square(w)))


def _r2(y: Vector, score: Vector) -> Weighted:
    def weighted(w: Vector) -> float:
        spread = w @ (y - w @ y / w.sum()) ** 2
        return float(1 - w @ (y - score) ** 2 / spread)

    return weighted


def _by_threshold(y: Vector, score: Vector) -> Callable[[Vector], tuple[Vector, Vector]]:
    """Return a function of the weights: positives and negatives at each score, highest score first."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.nan))  # ties count together
    labels = y[order]

    def weighted(w: Vector) -> tuple[Vector, Vector]:
        sorted_w = w[order]
        return np.add.reduceat(sorted_w * labels, starts), np.add.reduceat(sorted_w * (1 - labels), starts)

    return weighted


def _roc_auc(y: Vector, score: Vector) -> Weighted:
    """Probability that a positive scores above a negative, ties counting half (Hanley and McNeil, 1982)."""
    at = _by_threshold(y, score)

    def weighted(w: Vector) -> float:
        positives, negatives = at(w)
        below = negatives.sum() - np.cumsum(negatives)
        return float(positives @ (below + negatives / 2) / (positives.sum() * negatives.sum()))

    return weighted


def _average_precision(y: Vector, score: Vector) -> Weighted:
    at = _by_threshold(y, score)

    def weighted(w: Vector) -> float:
        positives, negatives = at(w)
        if not negatives.any():  # every ranking of one class is perfect: that says nothing
            return float("nan")
        found = np.cumsum(positives)
        precision = found / np.maximum(found + np.cumsum(negatives), np.finfo(np.float64).tiny)
        return float(positives @ precision / positives.sum())

    return weighted


def _macro_f1(y: Vector, score: Vector) -> Weighted:
    """Mean over the classes of the harmonic mean of precision and recall (Opitz and Burst, 2019)."""
    label, guess, classes = y.astype(np.intp), chosen(score).astype(np.intp), class_count(score)
    right = label == guess
    hit = label[right]

    def weighted(w: Vector) -> float:
        labels, guesses = np.bincount(label, w, classes), np.bincount(guess, w, classes)
        hits = np.bincount(hit, w[right], classes)
        return float(np.mean(np.where(labels > 0, 2 * hits / (labels + guesses), np.nan)))

    return weighted


LOSSES: Mapping[str, Callable[[Vector, Vector], Vector]] = {
    "log_loss": _log_loss,
    "brier": lambda y, s: (y - s) ** 2,
    "accuracy": lambda y, s: (chosen(s) == y).astype(np.float64),
    "mae": lambda y, s: np.abs(y - s),
}
"""Metrics that are the mean of a value per row, shape (n,)."""

METRICS: Mapping[str, Callable[[Vector, Vector], Weighted]] = {
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "macro_f1": _macro_f1,
    "rmse": _rmse,
    "r2": _r2,
    **{name: _mean_of(loss) for name, loss in LOSSES.items()},
}


def measure(names: Sequence[str], y: Vector, score: Vector) -> dict[str, float]:
    """Return the named metrics; one that cannot be computed is NaN, which the gate refuses."""
    return {name: prepared(name, y, score)(np.ones(len(y))) for name in names}


def prepared(name: str, y: Vector, score: Vector) -> Weighted:
    """Return the metric; NaN for answers that are not finite, and where the labels make it undefined."""
    if not np.isfinite(score).all():
        return lambda _: float("nan")
    metric = METRICS[name](y, score)

    def quiet(weights: Vector) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):
            return metric(weights)

    return quiet


def rarer_rows(y: Vector, classes: int = 2) -> int:
    """Return how many rows the rarest of the classes has; 0 for fewer than may be told of."""
    rows = int(min(np.sum(y == one) for one in range(classes)))
    return rows if rows >= MIN_BIN_ROWS else 0


def score_psi(challenger: Vector, champion: Vector) -> float:
    """Return the population stability index of the challenger's answers against the champion's (Siddiqi, 2006).

    By tenths of the champion's answers, half a row added to each; NaN for answers that are not finite. Of many
    classes it is that of the class whose answers moved most.
    """
    if champion.ndim == 2:
        return float(np.max([score_psi(new, old) for new, old in zip(challenger.T, champion.T, strict=True)]))
    if not (np.isfinite(challenger).all() and np.isfinite(champion).all()):
        return float("nan")
    cuts = np.unique(np.quantile(champion, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]))
    bins = len(cuts) + 1
    new, old = (
        (np.bincount(np.searchsorted(cuts, score, side="left"), minlength=bins) + 0.5) / (len(score) + 0.5 * bins)
        for score in (challenger, champion)
    )
    return float(np.sum((new - old) * np.log(new / old)))


def curves(task: str, y: Vector, score: Vector) -> dict[str, Any]:
    """Return what the pictures show: the ROC curve, or residuals, and calibration; aggregates over ten rows or more.

    Of many classes they are of all together, each against the others (the micro-average).
    """
    if not np.isfinite(score).all() or not np.isfinite(y).all():
        return {}
    if task == "regression":
        return {"calibration": _binned(y, score), "residuals": _residuals(y, score)}
    classes = class_count(score)
    rarer = rarer_rows(y, classes)
    if not rarer:
        return {}
    if score.ndim == 2:
        y, score = np.eye(classes)[y.astype(np.intp)].ravel(), score.ravel()
    positives, negatives = _by_threshold(y, score)(np.ones(len(y)))
    grid = np.linspace(0, 1, min(CURVE_POINTS, rarer // MIN_BIN_ROWS + 1))
    false_rate, true_rate = (np.cumsum(part) / part.sum() for part in (negatives, positives))
    curve = np.interp(grid, [0, *false_rate], [0, *true_rate])
    return {
        "roc": {"false_positive_rate": grid.tolist(), "true_positive_rate": curve.tolist()},
        "calibration": _binned(y, score, answers_per_row=1 if classes == 2 else classes),
    }


def _binned(y: Vector, score: Vector, answers_per_row: int = 1) -> list[dict[str, float]]:
    """Return mean answer and mean label of tenths of the answers, in their order."""
    order, least = np.argsort(score, kind="stable"), MIN_BIN_ROWS * answers_per_row
    return [
        {"predicted": float(score[rows].mean()), "observed": float(y[rows].mean()), "rows": len(rows)}
        for rows in np.array_split(order, max(1, min(CALIBRATION_BINS, len(order) // least)))
        if len(rows) >= least
    ]


def _residuals(y: Vector, score: Vector) -> list[dict[str, float]]:
    """Return how label minus answer is spread: means of tenths of the rows, by their residuals."""
    ordered = np.sort(y - score)
    return [
        {"share": float((at + 0.5) / CALIBRATION_BINS), "residual": float(part.mean()), "rows": len(part)}
        for at, part in enumerate(np.array_split(ordered, CALIBRATION_BINS))
        if len(part) >= MIN_BIN_ROWS
    ]
