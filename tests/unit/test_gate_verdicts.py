"""The gate promotes what is proven, and fails closed on what cannot be judged."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.budget import Share
from insitu.errors import GateFailed
from insitu.gate import Evidence, decide, detectable_gain, gain, rows_to_decide
from insitu.settings import KNOWN_METRICS, GateSettings, LimitSettings, MetricSettings


def gate(**changes: Any) -> GateSettings:
    """A gate over one metric where higher is better and one where lower is."""
    metrics = {
        "roc_auc": MetricSettings(direction="higher", floor=0.6),
        "log_loss": MetricSettings(direction="lower", floor=0.6),
    }
    values: dict[str, Any] = {"metrics": metrics, "primary": "roc_auc", "margin": 0.01}
    return GateSettings(**values | changes)


def difference(low: float, high: float) -> dict[str, float]:
    return {"estimate": (low + high) / 2, "low": low, "high": high, "error": 0.025}


GOOD = {"roc_auc": 0.7, "log_loss": 0.5}
FIRST = Evidence(1000, GOOD)


def against(low: float, high: float, **changes: Any) -> Evidence:
    values: dict[str, Any] = {"rows": 1000, "challenger": GOOD, "champion": GOOD, "difference": difference(low, high)}
    return Evidence(**values | changes)


def test_the_first_model_is_promoted_when_it_reaches_its_floors() -> None:
    decision = decide(FIRST, gate(), None)
    assert (decision.verdict, decision.champion) == ("promote", None)
    assert decision.reasons == ("every metric keeps its floor or ceiling", "there is no champion yet")


def test_the_limit_of_a_metric_that_should_be_low_is_called_a_ceiling() -> None:
    metrics = {"log_loss": MetricSettings(direction="lower", floor=0.6)}
    reasons = decide(FIRST, gate(metrics=metrics, primary="log_loss"), None).reasons
    assert reasons[0] == "every metric keeps its ceiling"


def test_without_floors_nothing_is_said_about_them() -> None:
    metrics = {"roc_auc": MetricSettings(direction="higher")}
    assert decide(FIRST, gate(metrics=metrics), None).reasons == ("there is no champion yet",)


@pytest.mark.parametrize(
    ("challenger", "reason"),
    [
        ({"roc_auc": 0.59, "log_loss": 0.5}, "roc_auc is 0.59, wanted at least 0.6"),
        ({"roc_auc": 0.7, "log_loss": 0.61}, "log_loss is 0.61, wanted at most 0.6"),
    ],
)
def test_a_missed_floor_rejects_and_says_which(challenger: dict[str, float], reason: str) -> None:
    assert decide(Evidence(1000, challenger), gate(), None).reasons == (reason,)
    decision = decide(against(0.1, 0.2, challenger=challenger), gate(), "3")
    assert (decision.verdict, decision.reasons, decision.champion) == ("reject", (reason,), "3")


def test_every_missed_floor_is_a_reason() -> None:
    assert len(decide(Evidence(1000, {"roc_auc": 0.5, "log_loss": 0.9}), gate(), None).reasons) == 2


def test_a_metric_on_its_floor_holds() -> None:
    assert decide(Evidence(1000, {"roc_auc": 0.6, "log_loss": 0.6}), gate(), None).verdict == "promote"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.005, 0.02, "promote"),
        (0.001, 0.02, "promote"),
        (-0.05, -0.011, "reject"),
        (-0.02, 0.02, "inconclusive"),
        (-0.01, 0.02, "inconclusive"),
        (-0.05, -0.01, "inconclusive"),
    ],
)
def test_not_worse_asks_for_the_interval_above_the_tolerated_loss(low: float, high: float, verdict: str) -> None:
    decision = decide(against(low, high), gate(), "3")
    assert (decision.verdict, decision.champion) == (verdict, "3")
    assert "roc_auc gains" in decision.reasons[-1]
    assert "95 % interval" in decision.reasons[-1]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.006, 0.02, "promote"), (-0.01, 0.004, "reject"), (0.0, 0.02, "inconclusive"), (0.005, 0.02, "inconclusive")],
)
def test_better_asks_for_the_interval_above_the_least_gain(low: float, high: float, verdict: str) -> None:
    strict = gate(policy="better", margin=0.0, min_gain=0.005)
    assert decide(against(low, high), strict, "3").verdict == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.05, -0.02, "promote"), (-0.05, 0.009, "promote"), (0.011, 0.05, "reject"), (-0.05, 0.05, "inconclusive")],
)
def test_where_lower_is_better_a_loss_is_a_gain(low: float, high: float, verdict: str) -> None:
    assert decide(against(low, high), gate(primary="log_loss"), "3").verdict == verdict


@pytest.mark.parametrize(("number", "verdict"), [(1, "promote"), (12, "promote"), (13, "inconclusive")])
def test_a_holdout_whose_error_budget_is_spent_decides_no_more(number: int, verdict: str) -> None:
    decision = decide(against(0.1, 0.2, share=Share(number, 12, 0.05 / 12)), gate(), "3")
    assert decision.verdict == verdict
    assert ("fresh rows" in decision.reasons[-1]) == (verdict == "inconclusive")


def test_a_floor_rejects_on_a_spent_holdout_too() -> None:
    poor = against(0.1, 0.2, challenger={"roc_auc": 0.5, "log_loss": 0.5}, share=Share(13, 12, 0.05 / 12))
    assert decide(poor, gate(), "3").verdict == "reject"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(8e-5, 9e-5, "+0.000085, 95 % interval +0.00008 to +0.00009"), (9999.4, 9999.6, "+9999 to +10,000")],
)
def test_a_gain_of_few_digits_is_told_without_an_exponent(low: float, high: float, said: str) -> None:
    assert said in decide(against(low, high), gate(), "3").reasons[-1]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.02, 0.02, "about 3,000 more rows"), (-0.0299, 0.0101, "hardly tell"), (-0.05, -0.008, "about 222 more rows")],
)
def test_an_open_verdict_says_how_many_rows_would_close_it(low: float, high: float, said: str) -> None:
    # By (half width / distance to the limit) squared: (0.02 / 0.01)^2 = 4 times the 1,000 rows.
    assert said in decide(against(low, high), gate(), "3").reasons[-1]


def test_that_many_rows_would_just_close_it() -> None:
    rows = rows_to_decide(0.0, -0.02, 0.02, -0.01, 1000)
    assert rows is not None
    assert 0.0 - 0.02 * math.sqrt(1000 / rows) == pytest.approx(-0.01)


def test_a_detectable_gain_follows_the_textbook_formula() -> None:
    # (z of 0.975 + z of 0.8) standard errors: (1.960 + 0.842) * 0.01.
    seen = {"low": -0.0196, "high": 0.0196, "error": 0.025}
    assert detectable_gain(seen, 1000, 1000, 0.025) == pytest.approx(0.02802, abs=1e-5)
    assert detectable_gain(seen, 1000, 4000, 0.025) == pytest.approx(0.01401, abs=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.01, 1.01])
@pytest.mark.parametrize("role", ["challenger", "champion"])
def test_a_metric_that_cannot_be_is_named_with_its_role(role: str, value: float) -> None:
    with pytest.raises(GateFailed, match=rf"{role}'s roc_auc"):
        decide(against(0.1, 0.2, **{role: {**GOOD, "roc_auc": value}}), gate(), "3")


@pytest.mark.parametrize("role", ["challenger", "champion"])
@pytest.mark.parametrize("name", ["roc_auc", "log_loss"])
def test_a_missing_metric_is_named_with_its_role(role: str, name: str) -> None:
    rest = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(GateFailed, match=f"{role}'s {name}"):
        decide(against(0.1, 0.2, **{role: rest}), gate(), "3")


def test_too_few_rows_give_no_verdict() -> None:
    with pytest.raises(GateFailed, match="too small") as caught:
        decide(Evidence(99, GOOD), gate(), None)
    assert "99" in str(caught.value)
    assert "100" in str(caught.value)
    assert decide(Evidence(100, GOOD), gate(), None).verdict == "promote"


@pytest.mark.parametrize(("rows", "said"), [(0, "none, or fewer than 10"), (29, "29 rows of the rarest class")])
def test_too_few_rows_of_one_class_give_no_verdict(rows: int, said: str) -> None:
    with pytest.raises(GateFailed, match="too few rows of one class") as caught:
        decide(Evidence(1000, GOOD, rarer_rows=rows), gate(min_class_rows=30), None)
    assert said in str(caught.value)
    assert decide(Evidence(1000, GOOD, rarer_rows=30), gate(min_class_rows=30), None).verdict == "promote"


def test_a_metric_has_a_least_sample_and_a_range_of_its_own() -> None:
    strict = {"roc_auc": MetricSettings(direction="higher", min_rows=2000)}
    with pytest.raises(GateFailed, match="too small for roc_auc"):
        decide(FIRST, gate(metrics=strict), None)
    for narrow in ({"highest": 0.65}, {"lowest": 0.75}):
        with pytest.raises(GateFailed, match="challenger's roc_auc cannot be judged"):
            decide(FIRST, gate(metrics={"roc_auc": MetricSettings(direction="higher", **narrow)}), None)


@pytest.mark.parametrize("champion", [None, "3"])
def test_one_answer_to_everything_is_rejected_with_and_without_a_champion(champion: str | None) -> None:
    decision = decide(against(0.1, 0.2, constant=True), gate(), champion)
    assert (decision.verdict, decision.reasons) == ("reject", ("the challenger gives every row the same answer",))


@pytest.mark.parametrize(
    ("psi", "most", "verdict"),
    [(0.3, 0.2, "reject"), (0.2, 0.2, "promote"), (0.3, None, "promote"), (math.nan, 0.2, "reject")],
)
def test_answers_far_from_the_champions_are_rejected_where_that_is_limited(
    psi: float, most: float | None, verdict: str
) -> None:
    decision = decide(against(0.1, 0.2, score_psi=psi), gate(), "3", LimitSettings(max_score_psi=most))
    assert decision.verdict == verdict
    assert any("limits.max_score_psi" in reason for reason in decision.reasons) == (verdict == "reject")
    assert decide(FIRST, gate(), None, LimitSettings(max_score_psi=most)).verdict == "promote"


def test_the_first_model_can_be_left_to_people() -> None:
    decision = decide(FIRST, gate(first_model="inconclusive"), None)
    assert decision.verdict == "inconclusive"
    assert decision.reasons[-1] == "gate.first_model leaves that to people"
    assert decide(
        Evidence(1000, {"roc_auc": 0.5, "log_loss": 0.5}), gate(first_model="inconclusive"), None
    ).verdict == ("reject")


@pytest.mark.parametrize("policy", ["fail", "inconclusive", "promote"])
def test_a_lost_champion_is_replaced_only_where_the_gate_says_so(policy: str) -> None:
    evidence, strict = Evidence(1000, GOOD, lost="its files are gone"), gate(unusable_champion=policy)
    if policy == "fail":
        with pytest.raises(GateFailed, match="difference in roc_auc"):
            decide(evidence, strict, "3")
    else:
        decision = decide(evidence, strict, "3")
        assert (decision.verdict, decision.champion) == (policy, "3")
        assert "champion 3 cannot be compared with: its files are gone" in decision.reasons
        poor = Evidence(1000, {"roc_auc": 0.5, "log_loss": 0.5}, lost="its files are gone")
        assert decide(poor, strict, "3").verdict == "reject"


@pytest.mark.parametrize("part", ["estimate", "low", "high"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_difference_that_is_no_number_names_the_primary_metric(part: str, value: float) -> None:
    with pytest.raises(GateFailed, match="roc_auc"):
        decide(against(0.1, 0.2, difference={**difference(0.1, 0.2), part: value}), gate(), "3")


@pytest.mark.parametrize("lost", [{"difference": None}, {"difference": None, "champion": None}])
def test_a_champion_that_was_not_compared_is_not_replaced(lost: dict[str, None]) -> None:
    with pytest.raises(GateFailed, match="roc_auc"):
        decide(against(0.1, 0.2, **lost), gate(), "3")


numbers = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(-1, 1)
differences = (
    st.tuples(finite, finite, finite)
    .map(sorted)
    .map(lambda three: {"low": three[0], "estimate": three[1], "high": three[2], "error": 0.025})
)
scores = st.fixed_dictionaries({"roc_auc": st.floats(0, 1), "log_loss": st.floats(0, 10)})
policies = st.sampled_from([{"margin": 0.02}, {"policy": "better", "margin": 0.0, "min_gain": 0.02}])


@given(scores, scores, differences, policies)
def test_a_missed_floor_is_never_promoted(
    challenger: dict[str, float], champion: dict[str, float], seen: dict[str, float], policy: dict[str, Any]
) -> None:
    evidence = Evidence(1000, challenger, champion, seen)
    if challenger["roc_auc"] < 0.6 or challenger["log_loss"] > 0.6:
        assert decide(evidence, gate(**policy), "3").verdict == "reject"
        assert decide(Evidence(1000, challenger), gate(**policy), None).verdict == "reject"


@given(st.dictionaries(st.sampled_from(["roc_auc", "log_loss", "brier"]), numbers), st.integers(0, 300))
def test_whatever_the_metrics_are_the_answer_is_a_verdict_or_a_refusal(metrics: dict[str, float], rows: int) -> None:
    sane = all(
        math.isfinite(v := metrics.get(name, math.nan))
        and KNOWN_METRICS[name].lowest <= v <= KNOWN_METRICS[name].highest
        for name in ("roc_auc", "log_loss")
    )
    if sane and rows >= 100:
        assert decide(Evidence(rows, metrics), gate(), None).verdict in ("promote", "reject")
    else:
        with pytest.raises(GateFailed):
            decide(Evidence(rows, metrics), gate(), None)


@given(differences, policies)
def test_both_directions_are_judged_alike(seen: dict[str, float], policy: dict[str, Any]) -> None:
    mirrored = {"low": -seen["high"], "estimate": -seen["estimate"], "high": -seen["low"], "error": 0.025}
    higher = decide(Evidence(1000, GOOD, GOOD, seen), gate(**policy), "3")
    lower = decide(Evidence(1000, GOOD, GOOD, mirrored), gate(primary="log_loss", **policy), "3")
    assert higher.verdict == lower.verdict
    assert higher.reasons == tuple(reason.replace("log_loss", "roc_auc") for reason in lower.reasons)


@given(differences, policies, st.floats(0, 1))
def test_a_better_difference_never_gets_a_worse_verdict(
    seen: dict[str, float], policy: dict[str, Any], more: float
) -> None:
    order = ("reject", "inconclusive", "promote")
    shifted = {end: value + (0 if end == "error" else more) for end, value in seen.items()}
    worse, better = (decide(Evidence(1000, GOOD, GOOD, d), gate(**policy), "3").verdict for d in (seen, shifted))
    assert order.index(better) >= order.index(worse)


@given(differences)
def test_a_gain_is_ordered_whichever_way_is_better(seen: dict[str, float]) -> None:
    for higher in (True, False):
        estimate, low, high = gain(seen, higher)
        assert low <= estimate <= high
