"""The gate: is the challenger good enough, and better or provably not worse than the champion?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from insitu.budget import Share
from insitu.errors import GateFailed
from insitu.settings import KNOWN_METRICS, GateSettings, MetricSettings
from insitu.slices import objections

Verdict = Literal["promote", "reject", "inconclusive"]

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
    """

    rows: int
    challenger: Mapping[str, float]
    champion: Mapping[str, float] | None = None
    difference: Mapping[str, Any] | None = None
    share: Share | None = None
    slices: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Decision:
    """A verdict with its reasons.

    Attributes:
        champion: The version that the challenger was compared with.
        approval: The human decision on record; None when nobody was asked.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    champion: str | None = None
    approval: str | None = None


def decide(evidence: Evidence, gate: GateSettings, champion: str | None) -> Decision:
    """Return the verdict over *evidence*.

    Floors and slices come first: a floor that is missed and a slice that got worse reject. Without a
    champion they decide alone. With one, the interval of the primary metric's difference must clear the
    policy's limit: wholly on the good side promotes, wholly on the bad side rejects, anything else is
    inconclusive, and so is everything once the holdout's error budget is spent.

    Raises:
        GateFailed: A metric or the difference from the champion is missing, not finite or out of its
            domain, or there are too few rows.
    """
    _require_judgeable(evidence, gate)
    against, unproven = objections(evidence.slices, gate)
    if missed := [*_missed_floors(evidence.challenger, gate.metrics), *against]:
        return Decision("reject", tuple(missed), champion)
    held = "every metric reaches its floor" if any(m.floor is not None for m in gate.metrics.values()) else ""
    if champion is None:
        return Decision("promote", tuple(filter(None, [held, "there is no champion yet"])))
    if evidence.difference is None:
        raise GateFailed(f"the difference in {gate.primary} from champion {champion} is missing")
    if evidence.share and evidence.share.is_spent:
        return Decision("inconclusive", tuple(filter(None, [held, _spent(evidence.share)])), champion)
    verdict, reason = _compare(evidence.difference, gate, evidence.rows)
    if verdict == "promote" and unproven:
        verdict = "inconclusive"
    return Decision(verdict, tuple(filter(None, [held, reason, *unproven])), champion)


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
    seen = f"{gate.primary} gains {estimate:+.4g}, {1 - 2 * difference['error']:.4g} interval {low:+.4g} to {high:+.4g}"
    if low > limit:
        return "promote", f"{wish}: {seen}, wholly above {limit:+.4g}"
    if high < limit:
        return "reject", f"not {wish}: {seen}, wholly below {limit:+.4g}"
    enough = rows_to_decide(estimate, low, high, limit, rows)
    more = f"about {enough - rows:,} more rows of holdout would tell" if enough else "more rows would hardly tell"
    return "inconclusive", f"not known to be {wish}: {seen}, which holds {limit:+.4g}; {more}"


def _spent(share: Share) -> str:
    return (
        f"the holdout has decided {share.comparisons} times (gate.comparisons), and its error budget is spent:"
        " wait for new blobs, or raise data.holdout_blobs, so that there are fresh rows"
    )


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
    for role, metrics in (("challenger", evidence.challenger), ("champion", evidence.champion)):
        for name in gate.metrics if metrics is not None else ():
            _require_sane(role, name, (metrics or {}).get(name, math.nan))
    ends = [evidence.difference[end] for end in ("estimate", "low", "high")] if evidence.difference else []
    if not all(map(math.isfinite, ends)):
        raise GateFailed(f"the difference in {gate.primary} cannot be computed on this holdout")


def _require_sane(role: str, name: str, value: float) -> None:
    low, high = KNOWN_METRICS[name].lowest, KNOWN_METRICS[name].highest
    if not (math.isfinite(value) and low <= value <= high):
        raise GateFailed(
            f"the {role}'s {name} cannot be judged",
            found=f"{value}",
            wanted=f"a finite number from {low:g} to {high:g}",
            next_action="look at the holdout: are both classes there, are the answers finite?",
        )
