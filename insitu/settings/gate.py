"""What the gate of a model can set: metrics, policies, slices and limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, NamedTuple

from annotated_types import MinLen
from pydantic import Field, ValidationInfo, field_validator

from insitu.settings.forms import Text
from insitu.settings.problems import Clash, Contradiction
from insitu.settings.strict import Strict


class KnownMetric(NamedTuple):
    """The task that a metric judges, which way it is better, its range, and whether it judges many classes."""

    task: Literal["classification", "regression"]
    better: Literal["higher", "lower"]
    lowest: float
    highest: float
    many: bool = False


_INFINITE = float("inf")
KNOWN_METRICS: Mapping[str, KnownMetric] = {
    "roc_auc": KnownMetric("classification", "higher", 0, 1),
    "average_precision": KnownMetric("classification", "higher", 0, 1),
    "log_loss": KnownMetric("classification", "lower", 0, _INFINITE, many=True),
    "brier": KnownMetric("classification", "lower", 0, 1),
    "accuracy": KnownMetric("classification", "higher", 0, 1, many=True),
    "macro_f1": KnownMetric("classification", "higher", 0, 1, many=True),
    "rmse": KnownMetric("regression", "lower", 0, _INFINITE),
    "mae": KnownMetric("regression", "lower", 0, _INFINITE),
    "r2": KnownMetric("regression", "higher", -_INFINITE, 1),
}


class MetricSettings(Strict):
    """How one metric is judged, and what it may be at all: beyond that, it was measured wrongly."""

    direction: Literal["higher", "lower"] = Field(description="which way is better")
    unit: str = Field(default="", max_length=40, description="what it is measured in, such as minutes; for people")
    floor: float | None = Field(
        default=None,
        description="limit in units of the metric: a minimum if higher is better, a maximum if lower is",
    )
    lowest: float | None = Field(
        default=None, description="a lower value cannot be and fails the run; without it, what the metric itself allows"
    )
    highest: float | None = Field(default=None, description="likewise for a higher value")
    min_rows: int | None = Field(
        default=None, ge=1, description="rows of holdout below which it says nothing; without it gate.min_rows"
    )


class SliceSettings(Strict):
    """How the slices of the holdout by one column are judged, each by the gate's primary metric."""

    bins: list[float] = Field(default=[], description="cut points of a column of numbers; none: a slice per value")
    min_rows: int = Field(default=200, ge=10, description="rows below which a slice is neither judged nor told")
    margin: float = Field(default=0.0, ge=0, description="loss against the champion that a slice tolerates")
    proof: bool = Field(
        default=False, description="promote only when every slice is proven not worse; else when none is proven worse"
    )
    floor: float | None = Field(
        default=None, description="limit in units of the metric: a minimum if higher is better, a maximum if lower is"
    )
    max_gap: float | None = Field(
        default=None, gt=0, description="how far the challenger's best and worst slices may be apart"
    )

    @field_validator("bins")
    @classmethod
    def _rise(cls, bins: list[float]) -> list[float]:
        if sorted(set(bins)) != bins:
            raise ValueError("numbers in rising order, each once")
        return bins


class GateSettings(Strict):
    """When a challenger may replace the champion. Keys that are checked against others come after them."""

    metrics: Annotated[dict[str, MetricSettings], MinLen(1)] = Field(description="one table per metric")
    primary: Text = Field(description="the metric among these that champion and challenger are compared by")
    policy: Literal["not_worse", "better"] = Field(default="not_worse", description="what a challenger must be")
    margin: float = Field(default=0.0, ge=0, description="for not_worse: tolerated loss in units of the primary metric")
    min_gain: float = Field(default=0.0, ge=0, description="for better: least gain in units of the primary metric")
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="how certain all verdicts over one holdout are together"
    )
    comparisons: int = Field(
        default=12, ge=1, description="how often one holdout may decide between a champion and a challenger"
    )
    min_rows: int = Field(default=100, ge=1, description="rows of holdout below which no verdict is given")
    min_class_rows: int = Field(
        default=10, ge=10, description="for a classification: rows of the rarest class below which no verdict is given"
    )
    max_overlap: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the holdout's rows that the training part may hold, too; 1: nobody looks",
    )
    first_model: Literal["promote", "inconclusive"] = Field(
        default="promote", description="the verdict over a model that has no champion, where floors and slices hold"
    )
    unusable_champion: Literal["fail", "inconclusive", "promote"] = Field(
        default="fail",
        description="likewise where the champion cannot be loaded or cannot score this holdout, or was trained with"
        " another [target]",
    )
    approval: Literal["never", "always", "inconclusive"] = Field(
        default="never", description="when a person decides: over every model that is not rejected, or in doubt only"
    )
    approval_timeout_s: int = Field(default=604_800, ge=1, description="seconds until an approval comes too late")
    slices: dict[Text, SliceSettings] = Field(default={}, description="one table per column whose slices are judged")

    @field_validator("metrics")
    @classmethod
    def _are_known(cls, metrics: dict[str, MetricSettings]) -> dict[str, MetricSettings]:
        if clashes := list(_metric_clashes(metrics)):
            raise Contradiction(*clashes)
        return metrics

    @field_validator("primary")
    @classmethod
    def _is_among_the_metrics(cls, value: str, info: ValidationInfo) -> str:
        known = tuple(info.data.get("metrics", (value,)))
        if value not in known:
            raise Contradiction(Clash(f"a metric of this gate: one of {', '.join(known)}", known=known))
        return value

    @field_validator("margin", "min_gain")
    @classmethod
    def _fits_the_policy(cls, value: float, info: ValidationInfo) -> float:
        needed = {"margin": "not_worse", "min_gain": "better"}[str(info.field_name)]
        if value and info.data.get("policy", needed) != needed:
            raise Contradiction(Clash(f'0, or leave it out: it is for policy = "{needed}" only'))
        return value


class LimitSettings(Strict):
    """What a published image may be and take, and how far its answers may be from the champion's."""

    max_size_mb: float | None = Field(default=None, gt=0, description="MB that a registry stores of the image")
    max_latency_ms: float | None = Field(
        default=None, gt=0, description="milliseconds for one row, by the median of the smoke test's requests"
    )
    max_memory_mb: float | None = Field(
        default=None, gt=0, description="MB of memory that the image's server took at most in the smoke test"
    )
    max_score_psi: float | None = Field(
        default=None,
        gt=0,
        description="population stability index of the answers over the holdout against the champion's",
    )


def _metric_clashes(metrics: Mapping[str, MetricSettings]) -> Iterator[Clash]:
    """Yield what cannot be meant: an unknown metric, the wrong direction, a floor out of range."""
    for name, metric in metrics.items():
        known = KNOWN_METRICS.get(name)
        if known is None:
            yield Clash(f"one of {', '.join(KNOWN_METRICS)}", (name,), tuple(KNOWN_METRICS))
            continue
        if metric.direction != known.better:
            yield Clash(f'"{known.better}": {known.better} {name} is better', (name, "direction"))
        if metric.floor is not None and not known.lowest <= metric.floor <= known.highest:
            wanted = f"a value that {name} can take, from {known.lowest} to {known.highest}"
            yield Clash(wanted, (name, "floor"))
        low, high = known.lowest if metric.lowest is None else metric.lowest, metric.highest
        if not known.lowest <= low < (known.highest if high is None else high) <= known.highest:
            wanted = f"lowest below highest, both from {known.lowest} to {known.highest}"
            yield Clash(wanted, (name, "highest" if metric.lowest is None else "lowest"))
