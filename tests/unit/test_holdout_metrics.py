"""Metrics are those of scikit-learn; curves show no single row."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as sk

from insitu.edge.metrics import METRICS, Vector, curves, measure, rarer_rows, score_psi
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
    "macro_f1": lambda y, s: sk.f1_score(y, s >= 0.5, average="macro"),
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


SPECIES = RANDOM.choice(3, 400, p=[0.6, 0.3, 0.1]).astype(np.float64)
SURE = RANDOM.dirichlet([1, 1, 1], 400) * 0.7 + 0.3 * np.eye(3)[SPECIES.astype(int)]
OF_MANY: dict[str, Callable[[Vector, Vector], float]] = {
    "log_loss": sk.log_loss,
    "accuracy": lambda y, s: sk.accuracy_score(y, s.argmax(axis=1)),
    "macro_f1": lambda y, s: sk.f1_score(y, s.argmax(axis=1), average="macro"),
}


def test_metrics_of_many_classes_agree_with_scikit_learn() -> None:
    assert set(OF_MANY) == {name for name, known in KNOWN_METRICS.items() if known.many}
    found = measure(list(OF_MANY), SPECIES, SURE)
    assert found == {name: pytest.approx(plain(SPECIES, SURE), rel=1e-12) for name, plain in OF_MANY.items()}


def test_of_many_classes_each_counts_and_answers_move_by_the_one_that_moves_most() -> None:
    assert rarer_rows(SPECIES, 3) == min(np.bincount(SPECIES.astype(int)))
    assert rarer_rows(SPECIES, 4) == 0
    assert math.isnan(measure(["macro_f1"], np.where(SPECIES == 2, 0, SPECIES), SURE)["macro_f1"])
    moved = np.column_stack([SURE[:, 0], SURE[::-1, 1], SURE[:, 2] ** 2])
    assert score_psi(moved, SURE) == score_psi(moved[:, 2], SURE[:, 2]) > 0


def test_curves_of_many_classes_are_of_all_against_the_others() -> None:
    drawn = curves("classification", SPECIES, SURE)
    area = np.trapezoid(drawn["roc"]["true_positive_rate"], drawn["roc"]["false_positive_rate"])
    assert area == pytest.approx(sk.roc_auc_score(SPECIES, SURE, multi_class="ovr", average="micro"), abs=0.03)
    assert all(b["rows"] >= 30 for b in drawn["calibration"]), "ten rows with three answers each"
    assert curves("classification", SPECIES[:20], SURE[:20]) == {}


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
    y = np.resize([0.0, 1.0], rows)
    drawn = curves("classification", y, GOOD[:rows])
    assert bool(drawn) == (rows >= 20)  # ten of each class
    if drawn:
        assert all(b["rows"] >= 10 for b in drawn["calibration"])
        assert all(0 <= b[key] <= 1 for b in drawn["calibration"] for key in ("predicted", "observed"))
        assert len(drawn["calibration"]) == min(10, rows // 10)


@pytest.mark.parametrize("rows", [9, 99, 400])
def test_residuals_and_means_of_a_regression_describe_ten_rows_at_least(rows: int) -> None:
    y, score = 100 * POOR[:rows], 90 * POOR[:rows]
    drawn = curves("regression", y, score)
    assert all(b["rows"] >= 10 for part in ("calibration", "residuals") for b in drawn[part])
    if rows == 400:
        means = [b["residual"] for b in drawn["residuals"]]
        assert means == sorted(means)
        assert np.mean(means) == pytest.approx((y - score).mean())


def test_a_step_of_the_roc_curve_is_over_ten_rows_of_the_rarer_class() -> None:
    rare = np.where(np.cumsum(TRUTH) <= 35, TRUTH, 0.0)
    assert len(curves("classification", rare, GOOD)["roc"]["true_positive_rate"]) == 4
    many = np.resize(TRUTH, 8000)
    assert len(curves("classification", many, np.resize(GOOD, 8000))["roc"]["true_positive_rate"]) == 101


def test_the_roc_curve_goes_from_corner_to_corner_on_a_fixed_grid() -> None:
    roc = curves("classification", TRUTH, GOOD)["roc"]
    assert (roc["false_positive_rate"][0], roc["false_positive_rate"][-1], roc["true_positive_rate"][-1]) == (0, 1, 1)
    area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
    assert area == pytest.approx(sk.roc_auc_score(TRUTH, GOOD), abs=0.02)


def test_one_class_draws_nothing_and_counts_for_no_rows() -> None:
    assert rarer_rows(np.ones(400)) == 0
    assert curves("classification", np.ones(400), GOOD) == {}


@pytest.mark.parametrize(("rows", "told"), [(9, 0), (10, 10), (11, 11)])
def test_a_class_of_fewer_than_ten_rows_is_not_counted_aloud(rows: int, told: int) -> None:
    assert rarer_rows(np.append(np.zeros(500), np.ones(rows))) == told


def test_answers_that_did_not_move_have_no_psi_and_those_that_did_have_siddiqis() -> None:
    # Shares of 0.5 and 0.5 against 0.25 and 0.75: 0.25 ln 2 - 0.25 ln(2/3) = 0.2747; half a row in each bin is little.
    old, new = np.repeat([0.2, 0.8], [20_000, 20_000]), np.repeat([0.2, 0.8], [10_000, 30_000])
    assert score_psi(old, old) == 0
    assert score_psi(new, old) == pytest.approx(0.2747, abs=1e-3)
    assert score_psi(GOOD, GOOD[::-1]) == pytest.approx(0)
    assert math.isnan(score_psi(np.append(GOOD, math.nan), np.append(GOOD, 0)))
    assert math.isnan(score_psi(np.column_stack([GOOD, GOOD, GOOD * math.nan]), np.column_stack([GOOD] * 3)))
