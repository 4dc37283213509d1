"""How sure the difference between two models on the same holdout rows is.

How it is measured depends on the metric:

- accuracy: the adjusted Wald interval of matched proportions (Agresti and Min, Statistics in Medicine 24,
  2005), whose test is McNemar's;
- roc_auc: DeLong's interval (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988) by ranks (Sun and Xu,
  IEEE Signal Processing Letters 21, 2014);
- the others: percentiles of a paired bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
  chapter 13).

The bootstrap draws the rows themselves up to `EXACT_ROWS`. Above, it draws groups of rows by Poisson weights
(Chamandy et al., Estimating Uncertainty for Massive Data Streams, 2012): a metric is near enough linear in
the weights there, and each row counts by its influence (Efron and Tibshirani, chapter 22).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from insitu.edge.metrics import LOSSES, Vector, Weighted, chosen, class_count, prepared

RESAMPLES = 10_000
EXACT_ROWS = 2_000
GROUPS = 4_096
DELONG_ROWS = 10
"""Rows of the rarer class below which DeLong's normal interval is not trusted, and the bootstrap is asked."""

_SEED = 20130101  # the same rows, the same interval
_CHUNK_ROWS = 500


@dataclass(frozen=True)
class Difference:
    """A metric of the challenger minus that of the champion.

    Attributes:
        low: Lower end of the interval; the truth is below with a probability of at most *error*.
        high: Upper end likewise.
        error: Probability of error on each side.
        method: How the interval was found: `mcnemar`, `delong` or `bootstrap`.
    """

    estimate: float
    low: float
    high: float
    error: float
    method: str

    def to_json(self) -> dict[str, Any]:
        """Return the values by name."""
        return asdict(self)


def difference(name: str, y: Vector, challenger: Vector, champion: Vector, error: float) -> Difference:
    """Return how much better or worse the challenger's metric *name* is on the rows of *y*, (n,).

    Values are NaN where the metric is not defined on these rows, which the gate refuses.

    Args:
        name: A key of `insitu.edge.metrics.METRICS`.
        error: Probability of error that is allowed on each side, in (0, 0.5).
    """
    new, old = prepared(name, y, challenger), prepared(name, y, champion)
    whole = np.ones(len(y))
    estimate = new(whole) - old(whole)
    if not np.isfinite(estimate):
        return Difference(estimate, np.nan, np.nan, error, "bootstrap")
    rarer = min(float(y.sum()), float(len(y) - y.sum()))
    if name == "accuracy":
        return Difference(estimate, *_matched(y, challenger, champion, error), error, "mcnemar")
    if name == "roc_auc" and rarer >= DELONG_ROWS:
        spread = float(stats.norm.isf(error)) * _delong_error(y, challenger, champion)
        return Difference(estimate, max(-1.0, estimate - spread), min(1.0, estimate + spread), error, "delong")
    drawn = _resampled(new, old, len(y)) if len(y) <= EXACT_ROWS else estimate + _grouped(name, y, challenger, champion)
    told = drawn[np.isfinite(drawn)]  # a resample without one of the classes says nothing
    enough = len(told) >= 0.8 * RESAMPLES  # where many are so, the interval says nothing either
    low, high = np.quantile(told, (error, 1 - error)) if enough else (np.nan, np.nan)
    return Difference(estimate, float(low), float(high), error, "bootstrap")


def mcnemar(only_new: int, only_old: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (Psychometrika 12, 1947).

    Args:
        only_new: Rows that the challenger alone got right.
        only_old: Rows that the champion alone got right.
    """
    return float(stats.binomtest(only_new, only_new + only_old).pvalue) if only_new + only_old else 1.0


def _matched(y: Vector, challenger: Vector, champion: Vector, error: float) -> tuple[float, float]:
    """Return the interval of the difference of two accuracies: half a row is added to each cell of the table."""
    right_new, right_old = (chosen(score) == y for score in (challenger, champion))
    n = len(y) + 2
    gained, lost = np.sum(right_new & ~right_old) + 0.5, np.sum(~right_new & right_old) + 0.5
    middle = (gained - lost) / n
    spread = stats.norm.isf(error) * np.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    return max(-1.0, float(middle - spread)), min(1.0, float(middle + spread))


def _placements(y: Vector, score: Vector) -> tuple[Vector, Vector]:
    """Return per positive the share of negatives below it, and per negative the share of positives above it."""
    positive = y == 1
    m, n = int(positive.sum()), int((~positive).sum())
    whole = stats.rankdata(score)
    among_positives, among_negatives = stats.rankdata(score[positive]), stats.rankdata(score[~positive])
    return (whole[positive] - among_positives) / n, 1 - (whole[~positive] - among_negatives) / m


def _delong_error(y: Vector, challenger: Vector, champion: Vector) -> float:
    """Return the standard error of the difference of two areas under correlated ROC curves."""
    (new_above, new_below), (old_above, old_below) = _placements(y, challenger), _placements(y, champion)
    variance = sum(np.var(d, ddof=1) / len(d) for d in (new_above - old_above, new_below - old_below))
    return float(np.sqrt(variance))


def _resampled(new: Weighted, old: Weighted, n: int) -> Vector:
    """Return the difference over resamples of the rows, (RESAMPLES,)."""
    random = np.random.default_rng(_SEED)
    draws = (np.bincount(random.integers(0, n, n), minlength=n).astype(np.float64) for _ in range(RESAMPLES))
    return np.array([new(weights) - old(weights) for weights in draws])


def _grouped(name: str, y: Vector, challenger: Vector, champion: Vector) -> Vector:
    """Return how far resamples are from the estimate, (RESAMPLES,): groups of rows at random, weighted by Poisson."""
    random = np.random.default_rng(_SEED)
    influence = INFLUENCES[name]
    of_rows = influence(y, challenger) - influence(y, champion)
    order = random.permutation(len(of_rows))
    groups = min(GROUPS, len(of_rows))
    sums = np.add.reduceat(of_rows[order], np.linspace(0, len(order), groups, endpoint=False).astype(np.int64))
    drawn = []
    for start in range(0, RESAMPLES, _CHUNK_ROWS):
        weights = random.poisson(1.0, (min(_CHUNK_ROWS, RESAMPLES - start), groups)).astype(np.float64)
        drawn.append((weights @ sums) / weights.sum(axis=1) * (groups / len(of_rows)))
    return np.concatenate(drawn)


def _of_mean(loss: Callable[[Vector, Vector], Vector]) -> Callable[[Vector, Vector], Vector]:
    def influence(y: Vector, score: Vector) -> Vector:
        values = loss(y, score)
        centred: Vector = values - values.mean()
        return centred

    return influence


def _of_rmse(y: Vector, score: Vector) -> Vector:
    squares = (y - score) ** 2
    mean = squares.mean()
    return (squares - mean) / (2 * np.sqrt(mean)) if mean else np.zeros_like(squares)


def _of_r2(y: Vector, score: Vector) -> Vector:
    lost, spread = (y - score) ** 2, (y - y.mean()) ** 2
    values: Vector = (lost.mean() / spread.mean() * spread - lost) / spread.mean()
    return values


def _of_average_precision(y: Vector, score: Vector) -> Vector:
    """Return the derivative by each row's weight: of its own precision, and of that of every positive below it."""
    order = np.argsort(-score, kind="stable")
    labels, starts = y[order], np.flatnonzero(np.diff(score[order], prepend=np.nan))  # ties count together
    positives, rows = np.add.reduceat(labels, starts), np.diff(np.append(starts, len(y)))
    seen = np.cumsum(rows)
    precision, found = np.cumsum(positives) / seen, positives.sum()
    average = positives @ precision / found
    of_positive = np.cumsum((positives / seen)[::-1])[::-1]
    of_any = np.cumsum((positives * precision / seen)[::-1])[::-1]
    at = np.repeat(np.arange(len(starts)), rows)
    values = np.empty(len(y))
    values[order] = (labels * (precision[at] - average + of_positive[at]) - of_any[at]) * len(y) / found
    return values


def _of_auc(y: Vector, score: Vector) -> Vector:
    above, below = _placements(y, score)
    positive, values = y == 1, np.empty(len(y))
    area = above.mean()
    values[positive] = (above - area) * len(y) / len(above)
    values[~positive] = (below - area) * len(y) / len(below)
    return values


def _of_macro_f1(y: Vector, score: Vector) -> Vector:
    label, guess, classes = y.astype(np.intp), chosen(score).astype(np.intp), class_count(score)
    right = label == guess
    counts = np.bincount(label, minlength=classes) + np.bincount(guess, minlength=classes)
    per_count = 1 / np.maximum(counts, 1)
    f1_per_count = 2 * np.bincount(label[right], minlength=classes) * per_count**2
    values: Vector = 2 * right * per_count[label] - f1_per_count[label] - f1_per_count[guess]
    return values * len(y) / classes


INFLUENCES: Mapping[str, Callable[[Vector, Vector], npt.NDArray[np.float64]]] = {
    "roc_auc": _of_auc,
    "average_precision": _of_average_precision,
    "macro_f1": _of_macro_f1,
    "rmse": _of_rmse,
    "r2": _of_r2,
    **{name: _of_mean(loss) for name, loss in LOSSES.items()},
}
"""How much each row moves a metric, times the number of rows: mean 0, shape (n,)."""
