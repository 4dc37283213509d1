"""Differences between two models are sure of what they say: against published values, SciPy and simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn import metrics as sk

from insitu.edge.metrics import METRICS, Vector, measure, prepared
from insitu.edge.paired import DELONG_ROWS, EXACT_ROWS, INFLUENCES, difference, mcnemar
from insitu.settings import KNOWN_METRICS

RANDOM = np.random.default_rng(7)
TRUTH = (RANDOM.random(400) < 0.3).astype(np.float64)
GOOD = np.clip(0.5 * TRUTH + 0.5 * RANDOM.random(400), 0, 1)
POOR = RANDOM.random(400)

# Albumin, total protein, K-G score (10 minus it ranks), and whether surgery helped: the ovarian cancer patients of
# DeLong, DeLong and Clarke-Pearson (1988) as the SAS/STAT User's Guide prints them, "Comparing Receiver Operating
# Characteristic Curves".
PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def scored(n: int, seed: int = 3, noise: tuple[float, float] = (0.7, 0.9)) -> tuple[Vector, Vector, Vector]:
    """Return labels and the scores of two models that see them through noise, in steps so that some tie."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=n)
    y = (random.random(n) < 1 / (1 + np.exp(-hidden))).astype(np.float64)
    new, old = (1 / (1 + np.exp(-(hidden + random.normal(0, sigma, n)))) for sigma in noise)
    return y, np.round(new, 3), np.round(old, 3)


# --- published values ---


@pytest.mark.parametrize(
    ("test", "estimate", "standard_error", "low", "high"),
    [(0, 0.0108, 0.0953, -0.1761, 0.1976), (1, -0.0780, 0.1046, -0.2830, 0.1271)],
    ids=["albumin", "total protein"],
)
def test_delong_gives_what_sas_prints_for_delongs_own_patients(
    test: int, estimate: float, standard_error: float, low: float, high: float
) -> None:
    patients = np.array(PATIENTS.split(), dtype=np.float64).reshape(-1, 4)
    y, reference = patients[:, 3], 10 - patients[:, 2]
    found = difference("roc_auc", y, patients[:, test], reference, 0.025)
    assert found.method == "delong"
    assert (found.estimate, found.low, found.high) == pytest.approx((estimate, low, high), abs=6e-5)
    assert (found.high - found.low) / (2 * 1.959964) == pytest.approx(standard_error, abs=6e-5)


def test_mcnemar_gives_agrestis_interval_for_the_prime_ministers_ratings() -> None:
    # Agresti, Categorical Data Analysis, 2nd edition, section 10.1: 794 and 570 agree, 150 and 86 changed their minds;
    # 0.04 with an interval of 0.02 to 0.06.
    counts = (794, 150, 86, 570)
    new, old = (np.repeat(answers, counts).astype(np.float64) for answers in ((1, 1, 0, 0), (1, 0, 1, 0)))
    found = difference("accuracy", np.ones(1600), new, old, 0.025)
    assert found.method == "mcnemar"
    assert found.estimate == pytest.approx(0.04)
    assert (round(found.low, 2), round(found.high, 2)) == (0.02, 0.06)


def test_the_interval_of_two_accuracies_is_agrestis_for_the_environment() -> None:
    # Agresti, An Introduction to Categorical Data Analysis, 2nd edition, section 8.1: for the environment, 227 pay
    # higher taxes and accept a lower standard of living, 132 only pay, 107 only accept, 678 neither; -0.004 to 0.048.
    counts = (227, 132, 107, 678)
    new, old = (np.repeat(answers, counts).astype(np.float64) for answers in ((1, 1, 0, 0), (1, 0, 1, 0)))
    found = difference("accuracy", np.ones(1144), new, old, 0.025)
    assert (found.low, found.high) == pytest.approx((-0.004, 0.048), abs=1.5e-3)


# Pairs whose mean difference is a difference of two mean absolute errors from zero, when all values are made positive.
SLEEP = """0.7 1.9  -1.6 0.8  -0.2 1.1  -1.2 0.1  -0.1 -0.1  3.4 4.4  3.7 5.5  0.8 1.6  0.0 4.6  2.0 3.4"""
MAIZE = "49 -67 8 16 6 23 28 41 14 29 56 24 75 60 -48"


@pytest.mark.parametrize(
    ("pairs", "mean"),
    [
        # Student, The probable error of a mean, Biometrika 6, 1908: hours of sleep gained by two drugs, ten patients.
        (np.array(SLEEP.split(), dtype=np.float64).reshape(-1, 2) + 10, 1.58),
        # Fisher, The Design of Experiments, 1935, chapter 3: Darwin's maize, crossed less self-fertilised, inches / 8.
        (np.array([[100, 100 + float(d)] for d in MAIZE.split()]), 20.93),
    ],
    ids=["sleep", "maize"],
)
def test_the_bootstrap_gives_scipys_percentiles_of_textbook_pairs(pairs: Vector, mean: float) -> None:
    reference = stats.bootstrap(
        (pairs[:, 1] - pairs[:, 0],), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    )
    found = difference("mae", np.zeros(len(pairs)), pairs[:, 1], pairs[:, 0], 0.025)
    assert found.estimate == pytest.approx(mean, abs=5e-3)
    assert (found.low, found.high) == pytest.approx(
        tuple(reference.confidence_interval), abs=0.15 * reference.standard_error
    )


def test_mcnemars_exact_p_value_is_the_published_one() -> None:
    # Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions: 2 P(X <= 1), X binomial of 10 and a half.
    assert mcnemar(1, 9) == pytest.approx(22 / 1024)
    assert mcnemar(0, 0) == 1


@pytest.mark.parametrize("name", ["rmse", "mae", "log_loss", "brier", "average_precision", "r2"])
def test_the_bootstrap_gives_scipys_percentiles(name: str) -> None:
    y, new, old = scored(300)
    plain = {
        "rmse": sk.root_mean_squared_error,
        "mae": sk.mean_absolute_error,
        "log_loss": lambda y, s: sk.log_loss(y, s, labels=[0, 1]),
        "brier": sk.brier_score_loss,
        "average_precision": sk.average_precision_score,
        "r2": sk.r2_score,
    }[name]
    reference = stats.bootstrap(
        (y, new, old),
        lambda y, new, old: plain(y, new) - plain(y, old),
        paired=True,
        vectorized=False,
        n_resamples=1000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(11),
    )
    found = difference(name, y, new, old, 0.05)
    assert found.method == "bootstrap"
    assert found.estimate == pytest.approx(plain(y, new) - plain(y, old))
    interval = tuple(reference.confidence_interval)
    assert (found.low, found.high) == pytest.approx(interval, abs=0.3 * reference.standard_error)


# --- large holdouts ---


@pytest.mark.parametrize("name", INFLUENCES)
def test_an_influence_is_how_a_metric_moves_with_a_rows_weight(name: str) -> None:
    y, score, _ = scored(200)
    metric, influence, step = prepared(name, y, score), INFLUENCES[name](y, score), 1e-5
    for row in range(0, 200, 9):
        heavier = np.ones(200)
        heavier[row] += step
        assert (metric(heavier) - metric(np.ones(200))) / step * 200 == pytest.approx(influence[row], abs=2e-3)
    assert influence.mean() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", sorted(set(INFLUENCES) - {"accuracy", "roc_auc"}))
def test_drawing_groups_gives_the_interval_of_drawing_rows(name: str) -> None:
    y, new, old = scored(EXACT_ROWS)
    by_rows = difference(name, y, new, old, 0.025)
    more = (np.append(values, values[:1]) for values in (y, new, old))
    by_groups = difference(name, *more, 0.025)
    width = by_rows.high - by_rows.low
    assert (by_groups.low, by_groups.high) == pytest.approx((by_rows.low, by_rows.high), abs=0.1 * width)


def test_delong_and_the_bootstrap_agree_on_an_area() -> None:
    y, new, old = scored(EXACT_ROWS)
    by_formula = difference("roc_auc", y, new, old, 0.025)
    rare = np.where(np.cumsum(y) <= DELONG_ROWS - 1, y, 0.0)
    by_drawing = difference("roc_auc", rare, new, old, 0.025)
    assert (by_formula.method, by_drawing.method) == ("delong", "bootstrap")
    deviation = np.std([difference("roc_auc", *scored(EXACT_ROWS, seed), 0.025).estimate for seed in range(60)])
    assert (by_formula.high - by_formula.low) / (2 * 1.96) == pytest.approx(deviation, rel=0.3)


# --- many classes ---


def of_three(rows: int, seed: int = 11) -> tuple[Vector, Vector, Vector]:
    """Return labels of three classes, one of them rare, and what two models make of them."""
    random = np.random.default_rng(seed)
    y = random.choice(3, rows, p=[0.5, 0.35, 0.15]).astype(np.float64)
    drawn = (random.normal(size=(rows, 3)) + strength * np.eye(3)[y.astype(int)] for strength in (1.5, 1.2))
    new, old = (np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in drawn)
    return y, new, old


@pytest.mark.parametrize("name", ["macro_f1", "log_loss", "accuracy"])
def test_of_many_classes_rows_and_groups_give_one_interval_and_an_influence_is_a_derivative(name: str) -> None:
    y, new, old = of_three(EXACT_ROWS)
    by_rows = difference(name, y, new, old, 0.025)
    by_groups = difference(name, *(np.concatenate([values, values[:1]]) for values in (y, new, old)), 0.025)
    assert by_rows.low < by_rows.estimate < by_rows.high
    width = by_rows.high - by_rows.low
    assert (by_groups.low, by_groups.high) == pytest.approx((by_rows.low, by_rows.high), abs=0.1 * width)
    metric, influence, step = prepared(name, y, new), INFLUENCES[name](y, new), 1e-5
    for row in range(0, EXACT_ROWS, 199):
        heavier = np.ones(EXACT_ROWS)
        heavier[row] += step
        moved = (metric(heavier) - metric(np.ones(EXACT_ROWS))) / step * EXACT_ROWS
        assert moved == pytest.approx(influence[row], abs=5e-3)


def test_the_interval_of_a_macro_f1_holds_the_truth_about_as_often_as_it_says() -> None:
    y, new, old = of_three(200_000, seed=1)
    true = measure(["macro_f1"], y, new)["macro_f1"] - measure(["macro_f1"], y, old)["macro_f1"]
    rounds = [difference("macro_f1", *of_three(150, seed), 0.05) for seed in range(100, 112)]
    assert sum(seen.low <= true <= seen.high for seen in rounds) >= 9  # of 12, where 11 are to be expected


# --- what holds for every metric ---


@pytest.mark.parametrize("name", METRICS)
def test_a_difference_lies_in_its_interval_and_comes_out_again(name: str) -> None:
    first = difference(name, TRUTH, GOOD, POOR, 0.05)
    assert first == difference(name, TRUTH, GOOD, POOR, 0.05)
    assert first.low < first.estimate < first.high
    measured = measure([name], TRUTH, GOOD)[name] - measure([name], TRUTH, POOR)[name]
    assert first.estimate == pytest.approx(measured)
    assert (first.estimate > 0) == (KNOWN_METRICS[name].better == "higher")


@pytest.mark.parametrize("name", METRICS)
def test_challenger_and_champion_in_each_others_place_turn_the_sign(name: str) -> None:
    one, two = difference(name, TRUTH, GOOD, POOR, 0.025), difference(name, TRUTH, POOR, GOOD, 0.025)
    assert (one.low, one.high) == pytest.approx((-two.high, -two.low))


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"accuracy"}))
def test_a_model_does_not_differ_from_itself(name: str) -> None:
    found = difference(name, TRUTH, GOOD, GOOD, 0.025)
    assert (found.estimate, found.low, found.high) == (0, 0, 0)


def test_less_error_makes_a_wider_interval() -> None:
    narrow, wide = (difference("brier", TRUTH, GOOD, POOR, error) for error in (0.1, 0.005))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("scale", [0.01, 1000.0])
def test_an_area_is_the_same_on_every_scale(scale: float) -> None:
    plain, scaled = (difference("roc_auc", TRUTH, GOOD * k, POOR * k, 0.025) for k in (1.0, scale))
    assert (plain.estimate, plain.low, plain.high) == pytest.approx((scaled.estimate, scaled.low, scaled.high))


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "log_loss"])
def test_a_constant_answer_is_judged_as_such(name: str) -> None:
    found = difference(name, TRUTH, GOOD, np.full(400, 0.5), 0.025)
    better: Callable[[float], bool] = (lambda v: v > 0) if KNOWN_METRICS[name].better == "higher" else (lambda v: v < 0)
    assert better(found.low)
    assert better(found.high)


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    random, hits, rounds = np.random.default_rng(1), 0, 40
    for _ in range(rounds):
        truth = random.normal(size=200)
        challenger, champion = truth + random.normal(0, 1, 200), truth + random.normal(0, 1.2, 200)
        true = math.sqrt(2 / math.pi) * (1.0 - 1.2)  # mean of |N(0, s)| is s * sqrt(2 / pi)
        seen = difference("mae", truth, challenger, champion, 0.05)
        hits += seen.low <= true <= seen.high
    assert hits >= rounds * 0.75


# --- whatever the rows are ---

scores = arrays(np.float64, 40, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]))  # most of them tie
outcomes = arrays(np.float64, 40, elements=st.sampled_from([0.0, 1.0]))
quickly = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize("name", ["roc_auc", "accuracy"])
@given(y=outcomes, new=scores, old=scores)
@quickly
def test_whatever_ties_there_are_both_places_tell_the_same(name: str, y: Vector, new: Vector, old: Vector) -> None:
    if min(y.sum(), len(y) - y.sum()) < DELONG_ROWS:
        y = np.resize([0.0, 1.0], len(y))
    one, two = difference(name, y, new, old, 0.025), difference(name, y, old, new, 0.025)
    assert (one.estimate, one.low, one.high) == pytest.approx((-two.estimate, -two.high, -two.low))
    assert -1 <= one.low <= one.high <= 1


@given(y=outcomes, new=scores, old=scores, order=st.permutations(range(40)))
@quickly
def test_the_order_of_the_rows_means_nothing(y: Vector, new: Vector, old: Vector, order: list[int]) -> None:
    for name in ("roc_auc", "accuracy"):
        if name == "accuracy" or min(y.sum(), len(y) - y.sum()) >= DELONG_ROWS:
            plain, mixed = difference(name, y, new, old, 0.05), difference(name, y[order], new[order], old[order], 0.05)
            assert (plain.estimate, plain.low, plain.high) == pytest.approx((mixed.estimate, mixed.low, mixed.high))


@given(y=outcomes, new=scores, old=scores, power=st.sampled_from([0.5, 2.0, 3.0]))
@quickly
def test_an_area_knows_ranks_only(y: Vector, new: Vector, old: Vector, power: float) -> None:
    y = y if min(y.sum(), len(y) - y.sum()) >= DELONG_ROWS else np.resize([0.0, 1.0], len(y))
    plain, bent = difference("roc_auc", y, new, old, 0.025), difference("roc_auc", y, new**power, old**power, 0.025)
    assert (plain.estimate, plain.low, plain.high) == pytest.approx((bent.estimate, bent.low, bent.high))


@given(answer=st.floats(0, 1), other=st.floats(0, 1), y=outcomes)
@quickly
def test_two_constant_answers_rank_alike(answer: float, other: float, y: Vector) -> None:
    y = y if min(y.sum(), len(y) - y.sum()) >= DELONG_ROWS else np.resize([0.0, 1.0], len(y))
    found = difference("roc_auc", y, np.full(40, answer), np.full(40, other), 0.025)
    assert (found.estimate, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize("name", ["rmse", "mae"])
@given(scale=st.sampled_from([0.001, 0.5, 3.0, 1e6]))
@settings(max_examples=4, deadline=None)
def test_a_difference_in_other_units_is_the_difference_times_the_unit(name: str, scale: float) -> None:
    y, new, old = scored(60)
    plain, scaled = difference(name, y, new, old, 0.05), difference(name, y * scale, new * scale, old * scale, 0.05)
    expected = tuple(scale * value for value in (plain.estimate, plain.low, plain.high))
    assert (scaled.estimate, scaled.low, scaled.high) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@pytest.mark.parametrize("label", [0.0, 1.0])
@given(new=scores, old=scores)
@quickly
def test_of_one_class_alone_no_ranking_is_told(name: str, label: float, new: Vector, old: Vector) -> None:
    found = difference(name, np.full(40, label), new, old, 0.025)
    assert all(map(math.isnan, (found.estimate, found.low, found.high)))


def test_a_difference_on_one_class_is_no_number() -> None:
    found = difference("roc_auc", np.zeros(50), GOOD[:50], POOR[:50], 0.025)
    assert all(map(math.isnan, (found.estimate, found.low, found.high)))


@pytest.mark.parametrize(("positives", "told"), [(1, False), (2, True), (5, True)])
def test_a_few_resamples_without_a_class_are_left_out_and_many_tell_nothing(positives: int, told: bool) -> None:
    # Without any positive: about exp(-positives) of the resamples, so 37 %, 14 % and 0.7 %.
    y = np.zeros(300)
    y[:positives] = 1
    found = difference("roc_auc", y, GOOD[:300], POOR[:300], 0.05)
    assert math.isfinite(found.estimate)
    assert (math.isfinite(found.low), math.isfinite(found.high)) == (told, told)
