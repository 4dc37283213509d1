"""The gate: is the challenger good enough, and better or provably not worse than the champion?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from insitu.budget import Share
from insitu.errors import GateFailed
from insitu.settings import KNOWN_METRICS, GateSettings, LimitSettings, MetricSettings
from insitu.slices import figure, objections

Verdict = Literal["promote", "reject", "inconclusive"]
Outcome = Literal["Promoted", "Approved", "Overridden", "Rejected", "Inconclusive", "AwaitingApproval", "Expired"]
PUBLISHED: tuple[Outcome, ...] = ("Promoted", "Approved", "Overridden")
"""Outcomes by which a model is published."""

_UNLIMITED = LimitSettings()
_HOPELESS = 0.03
"""Share of the interval's half below which an estimate is so near the limit that a thousandfold of rows is needed."""


@dataclass(frozen=True)
class Evidence:
    """What the holdout says.

    Attributes:
        rows: Rows of the holdout that were scored.
        challenger: Metrics of the new model.
        champion: Metrics of the published model on the same rows; None when there is none.
        difference: Primary metric, challenger minus champion: estimate, low, high, error (see `insitu.edge.paired`).
        share: What the comparison takes of the holdout's error budget.
        slices: The primary metric in slices of the holdout (see `insitu.edge.slices`).
        rarer_rows: Rows of the rarest class, 0 for fewer than ten; None where there are no classes.
        constant: Whether the challenger gives every row the same answer.
        lost: Why the published model is no champion to compare with; None where it is.
        score_psi: How far the challenger's answers are from the champion's; None without a champion.
    """

    rows: int
    challenger: Mapping[str, float]
    champion: Mapping[str, float] | None = None
    difference: Mapping[str, Any] | None = None
    share: Share | None = None
    slices: Sequence[Mapping[str, Any]] = ()
    rarer_rows: int | None = None
    constant: bool = False
    lost: str | None = None
    score_psi: float | None = None


@dataclass(frozen=True)
class Decision:
    """A verdict with its reasons, and what became of it.

    Attributes:
        champion: The version that the challenger was compared with.
        approval: The human decision on record (see `insitu.decisions`): kind, who, when, reason, expires, record,
            digest; None when nobody has decided.
        outcome: What holds, by verdict and people; None until the decision is on record.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    champion: str | None = None
    approval: dict[str, Any] | None = None
    outcome: Outcome | None = None


def decide(
    evidence: Evidence, gate: GateSettings, champion: str | None, limits: LimitSettings = _UNLIMITED
) -> Decision:
    """Return the verdict over *evidence*.

    Floors, limits and slices come first: a floor that is missed, one answer to everything, answers too far from
    the champion's and a slice that got worse reject. Without a champion, or with one that cannot be compared
    with, they decide alone, as the gate's policy for that allows. With one, the interval of the primary metric's
    difference must clear the policy's limit: wholly on the good side promotes, wholly on the bad side rejects,
    anything else is inconclusive, and so is everything once the holdout's error budget is spent.

    Raises:
        GateFailed: A metric or the difference from the champion is missing, not finite or out of its
            domain, or there are too few rows.
    """
    _require_judgeable(evidence, gate)
    against, unproven = objections(evidence.slices, gate)
    if missed := [*_missed_floors(evidence.challenger, gate.metrics), *_strange(evidence, limits), *against]:
        return Decision("reject", tuple(missed), champion)
    held = _held(gate.metrics)
    if champion is None:
        return _alone(held, "there is no champion yet", gate.first_model, "gate.first_model", None)
    if evidence.lost is not None and gate.unusable_champion != "fail":
        reason = f"champion {champion} cannot be compared with: {evidence.lost}"
        return _alone(held, reason, gate.unusable_champion, "gate.unusable_champion", champion)
    if evidence.difference is None:
        raise GateFailed(f"the difference in {gate.primary} from champion {champion} is missing")
    if evidence.share and evidence.share.is_spent:
        return Decision("inconclusive", tuple(filter(None, [held, _spent(evidence.share)])), champion)
    verdict, reason = _compare(evidence.difference, gate, evidence.rows)
    if verdict == "promote" and unproven:
        verdict = "inconclusive"
    return Decision(verdict, tuple(filter(None, [held, reason, *unproven])), champion)


def _alone(held: str, reason: str, verdict: Verdict, key: str, champion: str | None) -> Decision:
    """Return the verdict over a model that is compared with no other."""
    policy = "" if verdict == "promote" else f"{key} leaves that to people"
    return Decision(verdict, tuple(filter(None, [held, reason, policy])), champion)


def _strange(evidence: Evidence, limits: LimitSettings) -> Iterator[str]:
    """Yield what is wrong with the challenger's answers, however good its metrics are."""
    if evidence.constant:
        yield "the challenger gives every row the same answer"
    found, most = evidence.score_psi, limits.max_score_psi
    if most is not None and found is not None and not found <= most:
        wanted = f"wanted at most {most:.3g} (limits.max_score_psi)"
        yield f"the answers moved from the champion's: psi {found:.3g}, {wanted}"


def gain(evidence_difference: Mapping[str, Any], higher_is_better: bool) -> tuple[float, float, float]:
    """Return the difference as a gain: estimate, low, high, positive when the challenger is better."""
    estimate, low, high = (evidence_difference[key] for key in ("estimate", "low", "high"))
    return (estimate, low, high) if higher_is_better else (-estimate, -high, -low)


def limit_of(gate: GateSettings) -> float:
    """Return the gain that the interval must lie above."""
    return -gate.margin if gate.policy == "not_worse" else gate.min_gain


def rows_to_decide(estimate: float, low: float, high: float, limit: float, rows: int) -> int | None:
    """Return how many rows of holdout would free the interval from *limit*; None when no number would.

    An interval narrows with the square root of the rows, here around the same estimate.
    """
    distance = estimate - limit
    half = estimate - low if distance > 0 else high - estimate
    return math.ceil(rows * (half / distance) ** 2) if abs(distance) > half * _HOPELESS else None


def detectable_gain(
    difference: Mapping[str, Any], rows: int, holdout_rows: int, error: float, power: float = 0.8
) -> float:
    """Return the gain beyond the limit that a holdout would find with probability *power*.

    By the normal distribution (Chow et al., Sample Size Calculations in Clinical Research, chapter 3).

    Args:
        difference: That of an earlier comparison, over *rows* rows.
        error: Probability of error that the comparison may take, on one side.
    """
    normal = NormalDist()
    width: float = (difference["high"] - difference["low"]) * math.sqrt(rows / holdout_rows)
    deviation = width / (2 * normal.inv_cdf(1 - difference["error"]))
    return (normal.inv_cdf(1 - error) + normal.inv_cdf(power)) * deviation


def _compare(difference: Mapping[str, Any], gate: GateSettings, rows: int) -> tuple[Verdict, str]:
    estimate, low, high = gain(difference, gate.metrics[gate.primary].direction == "higher")
    limit, wish = limit_of(gate), "not worse" if gate.policy == "not_worse" else "better"
    interval = f"{100 - 200 * difference['error']:.4g} % interval {figure(low)} to {figure(high)}"
    seen = f"{gate.primary} gains {figure(estimate)}, {interval}"
    if low > limit:
        return "promote", f"{wish}: {seen}, wholly above {figure(limit)}"
    if high < limit:
        verdict = "worse" if gate.policy == "not_worse" else "not better"
        return "reject", f"{verdict}: {seen}, wholly below {figure(limit)}"
    enough = rows_to_decide(estimate, low, high, limit, rows)
    more = f"about {enough - rows:,} more rows of holdout would tell" if enough else "more rows would hardly tell"
    return "inconclusive", f"not known to be {wish}: {seen}, which holds {figure(limit)}; {more}"


def _spent(share: Share) -> str:
    return (
        f"the holdout has decided {share.comparisons} times (gate.comparisons), and its error budget is spent:"
        " wait for new blobs, or raise data.holdout_blobs, so that there are fresh rows"
    )


def _held(wanted: Mapping[str, MetricSettings]) -> str:
    """Return what holds where no floor is missed; that of a metric of which less is better is a ceiling to people."""
    bounds = {metric.direction for metric in wanted.values() if metric.floor is not None}
    ends = [end for direction, end in (("higher", "floor"), ("lower", "ceiling")) if direction in bounds]
    return f"every metric keeps its {' or '.join(ends)}" if ends else ""


def _missed_floors(metrics: Mapping[str, float], wanted: Mapping[str, MetricSettings]) -> Iterator[str]:
    for name, metric in wanted.items():
        if metric.floor is None:
            continue
        value, higher = metrics[name], metric.direction == "higher"
        if value < metric.floor if higher else value > metric.floor:
            yield f"{name} is {value:.4g}, wanted at {'least' if higher else 'most'} {metric.floor:.4g}"


def _require_judgeable(evidence: Evidence, gate: GateSettings) -> None:
    if evidence.rows < gate.min_rows:
        raise GateFailed(
            "the holdout is too small to judge a model",
            found=f"{evidence.rows} rows with a known label",
            wanted=f"at least {gate.min_rows} (gate.min_rows)",
            next_action="raise data.holdout_blobs, or wait for more data",
        )
    _require_enough(evidence, gate)
    for role, metrics in (("challenger", evidence.challenger), ("champion", evidence.champion)):
        for name, settings in gate.metrics.items() if metrics is not None else ():
            _require_sane(role, name, (metrics or {}).get(name, math.nan), settings)
    ends = [evidence.difference[end] for end in ("estimate", "low", "high")] if evidence.difference else []
    if not all(map(math.isfinite, ends)):
        raise GateFailed(f"the difference in {gate.primary} cannot be computed on this holdout")


def _require_enough(evidence: Evidence, gate: GateSettings) -> None:
    for name, metric in gate.metrics.items():
        if evidence.rows < (metric.min_rows or 0):
            raise GateFailed(
                f"the holdout is too small for {name}",
                found=f"{evidence.rows} rows with a known label",
                wanted=f"at least {metric.min_rows} (gate.metrics.{name}.min_rows)",
                next_action="raise data.holdout_blobs, or wait for more data",
            )
    if evidence.rarer_rows is not None and evidence.rarer_rows < gate.min_class_rows:
        raise GateFailed(
            f"the holdout has too few rows of one class to judge a model by {gate.primary}",
            found=f"{evidence.rarer_rows} rows of the rarest class"
            if evidence.rarer_rows
            else "none, or fewer than 10",
            wanted=f"at least {gate.min_class_rows} of each (gate.min_class_rows)",
            next_action="raise data.holdout_blobs, or see whether the label is still filled",
        )


def _require_sane(role: str, name: str, value: float, settings: MetricSettings) -> None:
    low = KNOWN_METRICS[name].lowest if settings.lowest is None else settings.lowest
    high = KNOWN_METRICS[name].highest if settings.highest is None else settings.highest
    if not (math.isfinite(value) and low <= value <= high):
        raise GateFailed(
            f"the {role}'s {name} cannot be judged",
            found=f"{value}",
            wanted=f"a finite number from {low:g} to {high:g}",
            next_action="look at the holdout: are all classes there, are the answers finite?",
        )
