"""Metrics are those of scikit-learn; curves show no single row."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as sk

from insitu.edge.metrics import METRICS, Vector, curves, measure
from insitu.settings import KNOWN_METRICS

RANDOM = np.random.default_rng(7)
TRUTH = (RANDOM.random(400) < 0.3).astype(np.float64)
GOOD = np.clip(0.5 * TRUTH + 0.5 * RANDOM.random(400), 0, 1)
POOR = RANDOM.random(400)
PLAINLY: dict[str, Callable[[Vector, Vector], float]] = {
    "roc_auc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "log_loss": sk.log_loss,
    "brier": sk.brier_score_loss,
    "accuracy": lambda y, s: sk.accuracy_score(y, s >= 0.5),
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
}


def test_every_known_metric_can_be_measured() -> None:
    assert set(METRICS) == set(KNOWN_METRICS) == set(PLAINLY)


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_agrees_with_scikit_learn(name: str) -> None:
    y, score = (TRUTH, GOOD) if KNOWN_METRICS[name].task == "classification" else (100 * POOR, 90 * POOR + GOOD)
    assert measure([name], y, score) == {name: pytest.approx(PLAINLY[name](y, score), rel=1e-12)}


def test_answers_that_are_quite_sure_and_wrong_have_a_finite_log_loss() -> None:
    assert math.isfinite(measure(["log_loss"], TRUTH, 1 - TRUTH)["log_loss"])


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_a_ranking_of_one_class_is_no_number(name: str, label: float) -> None:
    assert math.isnan(measure([name], np.full(400, label), GOOD)[name])


@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", METRICS)
def test_an_answer_that_is_no_number_makes_no_metric(name: str, strange: float) -> None:
    score = GOOD.copy()
    score[3] = strange
    assert not math.isfinite(measure([name], TRUTH, score)[name])


@pytest.mark.parametrize("strange", [math.nan, math.inf])
def test_an_answer_that_is_no_number_draws_no_curves(strange: float) -> None:
    score = GOOD.copy()
    score[3] = strange
    assert curves("classification", TRUTH, score) == {}


@pytest.mark.parametrize("rows", [1, 9, 50, 99, 100, 105, 400])
def test_calibration_bins_describe_ten_rows_at_least(rows: int) -> None:
    y = np.resize([0.0, 1.0], rows) if rows > 1 else np.zeros(1)
    drawn = curves("classification", y, GOOD[:rows])
    if rows > 1:
        assert all(b["rows"] >= 10 for b in drawn["calibration"])
        assert all(0 <= b[key] <= 1 for b in drawn["calibration"] for key in ("predicted", "observed"))
        assert len(drawn["calibration"]) <= 10
    else:
        assert drawn == {}


def test_the_roc_curve_goes_from_corner_to_corner_on_a_fixed_grid() -> None:
    roc = curves("classification", TRUTH, GOOD)["roc"]
    assert len(roc["false_positive_rate"]) == len(roc["true_positive_rate"]) == 101
    assert (roc["false_positive_rate"][0], roc["false_positive_rate"][-1], roc["true_positive_rate"][-1]) == (0, 1, 1)
    area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
    assert area == pytest.approx(sk.roc_auc_score(TRUTH, GOOD), abs=0.02)


def test_a_regression_and_one_class_draw_nothing() -> None:
    assert curves("regression", TRUTH, GOOD) == {}
    assert curves("classification", np.ones(400), GOOD) == {}
