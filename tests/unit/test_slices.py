"""A challenger that is good on the whole and worse in a slice is not promoted, and small slices are not told of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from insitu.edge.metrics import Vector
from insitu.edge.slices import MOST, measure_slices
from insitu.gate import Evidence, decide
from insitu.settings import GateSettings, MetricSettings, SliceSettings

METRICS = {"brier": MetricSettings(direction="lower")}
RANDOM = np.random.default_rng(3)


def holdout(n: int = 6000) -> tuple[pd.Series, Vector, Vector, Vector]:
    """Return groups a (half), b (a third) and c, labels, and two models: the new one is better in a and b, bad in c."""
    groups = pd.Series(np.resize(["a", "a", "a", "b", "b", "c"], n), name="group")
    y = (RANDOM.random(n) < 0.5).astype(np.float64)
    new = np.where(groups == "c", 0.5, 0.5 + 0.3 * (y - 0.5)) + RANDOM.normal(0, 0.02, n)
    old = 0.5 + 0.2 * (y - 0.5) + RANDOM.normal(0, 0.02, n)
    return groups, y, new, old


def settings(**changes: Any) -> SliceSettings:
    return SliceSettings(**{"min_rows": 50, **changes})


def found(rows: pd.Series, y: Vector, new: Vector, old: Vector | None, slices: SliceSettings) -> list[dict[str, Any]]:
    return measure_slices("group", slices.model_dump(), rows, "brier", y, new, old, 0.05)


def verdict(slices: SliceSettings, entries: list[dict[str, Any]], margin: float = 0.0) -> tuple[str, str]:
    gate = GateSettings(metrics=METRICS, primary="brier", margin=margin, slices={"group": slices})
    better = {"estimate": -0.02, "low": -0.03, "high": -0.01, "error": 0.05}
    decision = decide(Evidence(6000, {"brier": 0.2}, {"brier": 0.22}, better, slices=entries), gate, "1")
    return decision.verdict, "; ".join(decision.reasons)


def test_slices_are_told_by_name_largest_first_with_their_rows() -> None:
    entries = found(*holdout(), settings())
    assert [(entry["slice"], entry["rows"]) for entry in entries] == [("a", 3000), ("b", 2000), ("c", 1000)]
    assert {entry["column"] for entry in entries} == {"group"}


def test_a_slice_that_got_worse_rejects_what_is_better_on_the_whole() -> None:
    said, reasons = verdict(settings(), found(*holdout(), settings()))
    assert said == "reject"
    assert "group=c (1,000 rows) is worse: brier gains -" in reasons
    assert "group=a" not in reasons


def test_a_margin_tolerates_it() -> None:
    loose = settings(margin=0.2)
    assert verdict(loose, found(*holdout(), loose))[0] == "promote"


def test_a_slice_that_says_too_little_leaves_a_wanted_proof_open() -> None:
    groups, y, new, old = holdout()
    few = groups.where(groups != "c", other="a").where(np.arange(len(groups)) > 80, other="few")
    new = np.where(few == "few", old + RANDOM.normal(0, 0.05, len(y)), 0.5 + 0.3 * (y - 0.5))
    assert verdict(settings(), found(few, y, new, old, settings()))[0] == "promote"
    said, reasons = verdict(settings(proof=True), found(few, y, new, old, settings(proof=True)))
    assert said == "inconclusive"
    assert "group=few (81 rows) is not proven not worse" in reasons


def test_a_floor_and_a_gap_hold_for_the_first_model_too() -> None:
    groups, y, new, _ = holdout()
    entries = found(groups, y, new, None, settings())
    gate = GateSettings(metrics=METRICS, primary="brier", slices={"group": settings(floor=0.2, max_gap=0.05)})
    decision = decide(Evidence(6000, {"brier": 0.18}, slices=entries), gate, None)
    assert decision.verdict == "reject"
    assert "group=c (1,000 rows): brier is 0.25" in decision.reasons[0]
    assert "differs by" in decision.reasons[1]


def test_small_slices_are_not_told_of() -> None:
    rows = pd.Series(["big"] * 100 + ["Ada Lovelace"] * 9 + ["small"] * 40)
    y, new, old = (RANDOM.random(149).round() for _ in range(3))
    assert [entry["slice"] for entry in found(rows, y, new, old, settings())] == ["big"]


@pytest.mark.parametrize(("rest", "told"), [(0, ["a", "b"]), (9, ["a"]), (10, ["a", "b"]), (40, ["a", "b"])])
def test_the_whole_less_the_slices_tells_of_ten_rows_or_more(rest: int, told: list[str]) -> None:
    rows = pd.Series(["a"] * 100 + ["b"] * 60 + ["rest"] * rest)
    y = np.resize([0.0, 1.0], len(rows))
    assert [entry["slice"] for entry in found(rows, y, y * 0.8, None, settings())] == told


def test_a_ranking_over_fewer_than_ten_rows_of_a_class_is_not_told() -> None:
    rows, score = pd.Series(["rare"] * 100 + ["both"] * 100), RANDOM.random(200)
    y = np.concatenate([np.repeat([1.0, 0.0], [9, 91]), np.resize([0.0, 1.0], 100)])
    entries = measure_slices("group", settings().model_dump(), rows, "roc_auc", y, score, score[::-1], 0.05)
    by_name = {entry["slice"]: entry for entry in entries}
    assert np.isnan([by_name["rare"]["challenger"], by_name["rare"]["difference"]["low"]]).all()
    assert np.isfinite([by_name["both"]["challenger"], by_name["both"]["difference"]["low"]]).all()


def test_only_the_largest_of_many_slices_are_told_of() -> None:
    rows = pd.Series(np.repeat(np.arange(60), 50))
    y = RANDOM.random(3000).round()
    assert len(found(rows, y, y * 0.8, None, settings())) == MOST


def test_bins_have_their_lower_end_and_missing_values_are_a_slice() -> None:
    rows = pd.Series([0.0] * 60 + [10.0] * 60 + [20.0] * 60 + [None] * 60)
    y = RANDOM.random(240).round()
    entries = found(rows, y, y * 0.8, None, settings(bins=[10.0, 20.0]))
    assert {entry["slice"]: entry["rows"] for entry in entries} == {
        "missing": 60, "-inf to 10": 60, "10 to 20": 60, "20 to inf": 60
    }  # fmt: skip


def test_an_alarm_over_many_equal_slices_is_as_rare_as_the_error() -> None:
    random, alarms, rounds = np.random.default_rng(5), 0, 60
    rows = pd.Series(np.resize(np.arange(8), 1600))
    gate = judging("roc_auc", settings())
    for _ in range(rounds):
        y = (random.random(1600) < 0.5).astype(np.float64)
        new, old = (0.5 + 0.2 * (y - 0.5) + random.normal(0, 0.2, 1600) for _ in range(2))
        entries = measure_slices("group", settings().model_dump(), rows, "roc_auc", y, new, old, 0.05)
        alarms += decide(whole("roc_auc", 0.01, 0.2, entries), gate, "1").verdict == "reject"
    assert alarms <= rounds * 0.15


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_a_slice_of_one_class_says_nothing_and_forbids_nothing(metric: str) -> None:
    rows = pd.Series(["one class"] * 100 + ["both"] * 400)
    y = np.append(np.zeros(100), RANDOM.random(400).round())
    score, slices = RANDOM.random(500), settings(floor=0.0, margin=0.5)
    entries = measure_slices("group", slices.model_dump(), rows, metric, y, score, score, 0.05)
    assert decide(whole(metric, 0.01, 0.02, entries), judging(metric, slices), "1").verdict == "promote"


def judging(metric: str, slices: SliceSettings) -> GateSettings:
    return GateSettings(metrics={metric: MetricSettings(direction="higher")}, primary=metric, slices={"group": slices})


def whole(metric: str, low: float, high: float, entries: list[dict[str, Any]]) -> Evidence:
    difference = {"estimate": (low + high) / 2, "low": low, "high": high, "error": 0.05}
    return Evidence(1600, {metric: 0.6}, {metric: 0.6}, difference, slices=entries)
