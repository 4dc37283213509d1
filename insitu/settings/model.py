"""What a model can set: every key with its type, bounds, unit and meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, NamedTuple

from annotated_types import MinLen
from pydantic import Field, ValidationInfo, field_validator

from insitu.settings.forms import (
    BlobPattern,
    Container,
    Delimiter,
    FileName,
    Name,
    Parameter,
    PartitionKey,
    SuiteName,
    Text,
)
from insitu.settings.problems import Clash, Contradiction
from insitu.settings.strict import Strict


class KnownMetric(NamedTuple):
    """The task that a metric judges, which way it is better, and the range that it can take."""

    task: Literal["classification", "regression"]
    better: Literal["higher", "lower"]
    lowest: float
    highest: float


_INFINITE = float("inf")
KNOWN_METRICS: Mapping[str, KnownMetric] = {
    "roc_auc": KnownMetric("classification", "higher", 0, 1),
    "average_precision": KnownMetric("classification", "higher", 0, 1),
    "log_loss": KnownMetric("classification", "lower", 0, _INFINITE),
    "brier": KnownMetric("classification", "lower", 0, 1),
    "accuracy": KnownMetric("classification", "higher", 0, 1),
    "rmse": KnownMetric("regression", "lower", 0, _INFINITE),
    "mae": KnownMetric("regression", "lower", 0, _INFINITE),
    "r2": KnownMetric("regression", "higher", -_INFINITE, 1),
}


class TargetSettings(Strict):
    """What is predicted."""

    task: Literal["classification", "regression"] = Field(description="decides which metrics are known")
    label_column: Text = Field(description="the column that holds the outcome")
    label_above: float | None = Field(
        default=None,
        description="in units of the column: the label is column > this; without it the column is the label",
    )

    @field_validator("label_above")
    @classmethod
    def _is_for_classification(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("task") == "regression":
            raise Contradiction(Clash("nothing: label_above makes classes, and the task is regression"))
        return value


class ReadingSettings(Strict):
    """How the blobs are read, and how large what is in them may become."""

    types: dict[Text, Literal["integer", "number", "text", "flag", "timestamp", "date"]] = Field(
        default={}, description="types of CSV or JSON Lines columns; the others are found in the first rows"
    )
    delimiter: Delimiter = Field(default=",", description="what separates the fields of a CSV line")
    max_line_mb: int = Field(default=16, ge=1, le=1024, description="MB of the longest line of a text blob")
    max_ratio: int = Field(default=200, ge=1, description="how many times its size a compressed blob may become")
    max_row_group_mb: int = Field(
        default=1024, ge=1, description="MB of a Parquet row group in memory, in the columns that are read"
    )


class DataSettings(Strict):
    """What the model learns from."""

    container: Container = Field(description="the container, or folder below the data root, of the blobs")
    blobs: BlobPattern = Field(default="*", description="glob pattern of blob names, such as month=*/a.parquet")
    suite: SuiteName = Field(description="NAME of data_checks/NAME.json, which the data must pass")
    contiguous: PartitionKey | None = Field(
        default=None, description="partition key whose whole-number values must have no gaps"
    )
    holdout_blobs: int = Field(
        default=1, ge=1, description="how many of the latest blobs, by name, are kept for the gate"
    )
    reading: ReadingSettings = Field(default=ReadingSettings(), description="how the blobs are read")


class TrainSettings(Strict):
    """How the model is trained."""

    command: list[Text] = Field(min_length=1, description="program and arguments, run in the model's folder")
    timeout_s: int = Field(default=3600, gt=0, description="seconds after which training is stopped")
    params: dict[str, Parameter] = Field(default={}, description="handed to the command as INSITU_PARAMS")
    requirements: list[Text] = Field(default=[], description="packages that the command and the model need")
    relay_output: bool = Field(
        default=True, description="show what the command prints in the Prefect run; tracebacks never are"
    )
    max_log_bytes: int = Field(default=10_000_000, gt=0, description="bytes of output that are kept")


class NeedSettings(Strict):
    """What the compute must have free."""

    cores: int = Field(default=1, ge=1, description="CPU cores")
    memory_mb: int = Field(default=1024, ge=1, description="MB of memory")
    disk_mb: int = Field(default=1024, ge=1, description="MB of disk")


class MetricSettings(Strict):
    """How one metric is judged."""

    direction: Literal["higher", "lower"] = Field(description="which way is better")
    floor: float | None = Field(
        default=None,
        description="limit in units of the metric: a minimum if higher is better, a maximum if lower is",
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


class DriftSettings(Strict):
    """How far new data may be from what the champion was trained on; without a limit it is only reported."""

    columns: list[Text] = Field(default=[], description="which columns are compared; none: those of the suite")
    max_psi: float | None = Field(default=None, gt=0, description="population stability index; above 0.25 is a shift")
    max_jensen_shannon: float | None = Field(default=None, gt=0, le=1, description="Jensen-Shannon distance, 0 to 1")
    max_missing_change: float | None = Field(default=None, gt=0, le=1, description="change of the share without value")
    max_new_categories: float | None = Field(
        default=None, ge=0, le=1, description="share of rows with a category that the champion never saw"
    )


class SmokeSettings(Strict):
    """How the finished image is tried out."""

    golden_rows: int = Field(default=20, ge=1, description="rows that the image must score as the model does")
    tolerance: float = Field(default=1e-5, ge=0, description="largest difference of a score")


class TriggerSettings(Strict):
    """When new blobs are a batch that starts a run, and how the watcher looks for them."""

    rule: Literal["quiet", "files", "marker", "manifest"] = Field(
        default="quiet", description="what makes the new blobs of a prefix a batch"
    )
    quiet_s: float = Field(
        default=60.0,
        ge=0,
        description="quiet: seconds without anything new; marker: the same for blobs that come after their batch",
    )
    files: int = Field(default=1, ge=1, description="files: how many blobs a prefix holds when it is complete")
    marker: FileName = Field(default="_SUCCESS", description="marker: the blob that says that its prefix is complete")
    manifest: FileName = Field(
        default="manifest.json", description="manifest: the blob that names its prefix's blobs, their sizes and digests"
    )
    depth: int | None = Field(
        default=None, ge=0, description="how many folders of a name make its prefix; without it all of them"
    )
    incomplete_after_s: float = Field(
        default=86_400.0, gt=0, description="seconds without change after which what is incomplete is quarantined"
    )
    coalesce: bool = Field(
        default=True, description="batches that arrive while a run is busy become one run; false: a run per batch"
    )
    poll_s: float = Field(default=30.0, gt=0, description="seconds between two looks at the data")
    lease_s: float = Field(
        default=120.0, gt=0, description="seconds after which the work of a watcher that says nothing is taken over"
    )
    attempts: int = Field(default=3, ge=1, description="how often a run that fails is started before its quarantine")
    retry_s: float = Field(
        default=60.0, ge=0, description="seconds before the second attempt; each further one waits twice as long"
    )


class ModelSettings(Strict):
    """What is retrained, from what, and when it may be published."""

    name: Name = Field(description="the name of the folder")
    description: str = Field(default="", description="one line for people")
    target: TargetSettings = Field(description="what is predicted")
    data: DataSettings = Field(description="what the model learns from")
    train: TrainSettings = Field(description="how it is trained")
    needs: NeedSettings = Field(default=NeedSettings(), description="what the compute must have free")
    drift: DriftSettings = Field(
        default=DriftSettings(), description="how far new data may be from the champion's training data"
    )
    gate: GateSettings = Field(description="when a challenger may replace the champion")
    smoke: SmokeSettings = Field(default=SmokeSettings(), description="how the finished image is tried out")
    trigger: TriggerSettings = Field(
        default=TriggerSettings(), description="when new blobs are a batch that starts a run"
    )

    @field_validator("gate")
    @classmethod
    def _fits_the_task(cls, gate: GateSettings, info: ValidationInfo) -> GateSettings:
        task = info.data["target"].task if "target" in info.data else None
        fitting = ", ".join(name for name, known in KNOWN_METRICS.items() if known.task == task)
        strange = [name for name in gate.metrics if task and KNOWN_METRICS[name].task != task]
        if strange:
            wanted = f"a metric of {task}: one of {fitting}"
            raise Contradiction(*(Clash(wanted, ("metrics", name)) for name in strange))
        return gate


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
