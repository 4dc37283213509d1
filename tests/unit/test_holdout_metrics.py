"""Metrics are those of scikit-learn; differences are sure of what they say; curves show no single row."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as sk

from insitu.edge.metrics import METRICS, Vector, curves, difference, measure
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


@pytest.mark.parametrize("name", METRICS)
def test_a_difference_lies_in_its_interval_and_comes_out_again(name: str) -> None:
    first = difference(name, TRUTH, GOOD, POOR, 0.9)
    assert first == difference(name, TRUTH, GOOD, POOR, 0.9)
    assert first["low"] < first["estimate"] < first["high"]
    measured = measure([name], TRUTH, GOOD)[name] - measure([name], TRUTH, POOR)[name]
    assert first["estimate"] == pytest.approx(measured)
    assert (first["estimate"] > 0) == (KNOWN_METRICS[name].better == "higher")


def test_a_model_does_not_differ_from_itself() -> None:
    assert difference("roc_auc", TRUTH, GOOD, GOOD, 0.95) == {"estimate": 0, "low": 0, "high": 0}


def test_more_confidence_makes_a_wider_interval() -> None:
    narrow, wide = (difference("brier", TRUTH, GOOD, POOR, confidence) for confidence in (0.8, 0.99))
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]


def test_challenger_and_champion_in_each_others_place_turn_the_sign() -> None:
    one, two = difference("mae", TRUTH, GOOD, POOR, 0.95), difference("mae", TRUTH, POOR, GOOD, 0.95)
    assert (one["low"], one["high"]) == pytest.approx((-two["high"], -two["low"]))


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    random, hits, rounds = np.random.default_rng(1), 0, 40
    for _ in range(rounds):
        truth = random.normal(size=200)
        challenger, champion = truth + random.normal(0, 1, 200), truth + random.normal(0, 1.2, 200)
        true = math.sqrt(2 / math.pi) * (1.0 - 1.2)  # mean of |N(0, s)| is s * sqrt(2 / pi)
        seen = difference("mae", truth, challenger, champion, 0.9)
        hits += seen["low"] <= true <= seen["high"]
    assert hits >= rounds * 0.75


def test_a_difference_on_one_class_is_no_number() -> None:
    assert all(math.isnan(v) for v in difference("roc_auc", np.zeros(50), GOOD[:50], POOR[:50], 0.95).values())


@pytest.mark.parametrize(("positives", "told"), [(1, False), (2, True), (5, True)])
def test_a_few_resamples_without_a_class_are_left_out_and_many_tell_nothing(positives: int, told: bool) -> None:
    # Without any positive: about exp(-positives) of the resamples, so 37 %, 14 % and 0.7 %.
    y = np.zeros(300)
    y[:positives] = 1
    found = difference("roc_auc", y, GOOD[:300], POOR[:300], 0.9)
    assert math.isfinite(found["estimate"])
    assert (math.isfinite(found["low"]), math.isfinite(found["high"])) == (told, told)


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
