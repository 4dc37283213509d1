"""The gate: is the challenger good enough, and better or provably not worse than the champion?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from insitu.errors import GateFailed
from insitu.settings import KNOWN_METRICS, GateSettings, MetricSettings

Verdict = Literal["promote", "reject", "inconclusive"]


@dataclass(frozen=True)
class Evidence:
    """What the holdout says.

    Attributes:
        rows: Rows of the holdout that were scored.
        challenger: Metrics of the new model.
        champion: Metrics of the published model on the same rows; None when there is none.
        difference: Primary metric, challenger minus champion: estimate, low, high.
    """

    rows: int
    challenger: Mapping[str, float]
    champion: Mapping[str, float] | None = None
    difference: Mapping[str, float] | None = None


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

    Floors come first: one that is missed rejects. Without a champion they decide alone. With one,
    the interval of the primary metric's difference must clear the policy's limit: wholly on the good
    side promotes, wholly on the bad side rejects, anything else is inconclusive.

    Raises:
        GateFailed: A metric or the difference from the champion is missing, not finite or out of its
            domain, or there are too few rows.
    """
    _require_judgeable(evidence, gate)
    if missed := list(_missed_floors(evidence.challenger, gate.metrics)):
        return Decision("reject", tuple(missed), champion)
    held = "every metric reaches its floor" if any(m.floor is not None for m in gate.metrics.values()) else ""
    if champion is None:
        return Decision("promote", tuple(filter(None, [held, "there is no champion yet"])))
    if evidence.difference is None:
        raise GateFailed(f"the difference in {gate.primary} from champion {champion} is missing")
    verdict, reason = _compare(evidence.difference, gate)
    return Decision(verdict, tuple(filter(None, [held, reason])), champion)


def gain(evidence_difference: Mapping[str, float], higher_is_better: bool) -> tuple[float, float, float]:
    """Return the difference as a gain: estimate, low, high, positive when the challenger is better."""
    estimate, low, high = (evidence_difference[key] for key in ("estimate", "low", "high"))
    return (estimate, low, high) if higher_is_better else (-estimate, -high, -low)


def _compare(difference: Mapping[str, float], gate: GateSettings) -> tuple[Verdict, str]:
    estimate, low, high = gain(difference, gate.metrics[gate.primary].direction == "higher")
    limit, wish = (-gate.margin, "not worse") if gate.policy == "not_worse" else (gate.min_gain, "better")
    seen = f"{gate.primary} gains {estimate:+.4g}, {gate.confidence:.0%} interval {low:+.4g} to {high:+.4g}"
    if low > limit:
        return "promote", f"{wish}: {seen}, wholly above {limit:+.4g}"
    if high < limit:
        return "reject", f"not {wish}: {seen}, wholly below {limit:+.4g}"
    return "inconclusive", f"not known to be {wish}: {seen}, which holds {limit:+.4g}; more holdout rows would tell"


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
    if evidence.difference is not None and not all(map(math.isfinite, evidence.difference.values())):
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
