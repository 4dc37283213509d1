"""What a site and a model can set: every key with its type, bounds, unit and meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from insitu.errors import Problem
from insitu.settings.forms import (
    AccountName,
    AccountUrl,
    BlobPattern,
    Container,
    Delimiter,
    MlflowUri,
    Name,
    Parameter,
    PartitionKey,
    ProjectPath,
    RegistryHost,
    ServiceVersion,
    SparkAddress,
    SuiteName,
    Text,
    VariableName,
)
from insitu.settings.loading import Kind, collecting, load
from insitu.settings.problems import Clash, Contradiction
from insitu.settings.sources import failure


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


class Strict(BaseModel):
    """Closed and frozen, and no value is converted: `"60"` is not 60."""

    # Pydantic's own message is the cause of ours, and a traceback shows it: keep values out of it.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class FolderStore(Strict):
    """Blobs in a folder of this machine."""

    kind: Literal["folder"] = Field(description="blobs are files of a folder")
    root: ProjectPath = Field(description="the folder; a relative path starts at the project")


class SecretSource(Strict):
    """Where a secret is: settings name the place and never hold the secret."""

    env: VariableName | None = Field(default=None, description="the variable that holds it")
    file: ProjectPath | None = Field(default=None, description="the file that holds it and nothing else")

    @model_validator(mode="after")
    def _is_one_place(self) -> SecretSource:
        if (self.env is None) == (self.file is None):
            raise ValueError('{ env = "VARIABLE" } or { file = "PATH" }')
        return self


class AzureBlobStore(Strict):
    """Blobs of one account of Azure Blob Storage: on Azure Stack Hub, in Azure, or an emulator's."""

    kind: Literal["azure-blob"] = Field(description="blobs are those of an Azure storage account")
    account_url: AccountUrl = Field(description="https://ACCOUNT.blob.REGION.FQDN")
    account: AccountName | None = Field(default=None, description="the account's name, where the address does not say")
    key: SecretSource | None = Field(default=None, description="where the account key is")
    sas: SecretSource | None = Field(default=None, description="where a shared access signature is")
    api_version: ServiceVersion = Field(default="2019-07-07", description="the service version to speak")
    ca_bundle: ProjectPath | None = Field(default=None, description="PEM file of the authorities to trust")

    @model_validator(mode="after")
    def _has_one_secret(self) -> AzureBlobStore:
        if (self.key is None) == (self.sas is None):
            raise ValueError("either key or sas, to say where the secret is")
        return self

    @property
    def account_name(self) -> str:
        """The account's name: of an emulator's address the path, else the first word of the host."""
        _, _, host, *path = self.account_url.split("/")
        return self.account or (path[0] if path else host.split(".")[0].split(":")[0])


class AzureStateStore(AzureBlobStore):
    """Blobs of one container of an account."""

    container: Container = Field(default="insitu-state", description="the container; it must exist")


class MlflowModels(Strict):
    """A model registry that MLflow keeps."""

    kind: Literal["mlflow"] = Field(description="an MLflow model registry")
    uri: MlflowUri = Field(description="sqlite:///FILE.db, relative to the project; model files lie beside it")

    @property
    def artifacts(self) -> Path:
        """Where the files of the registered versions are: beside the database."""
        return Path(self.uri.removeprefix("sqlite:///")).parent / "artifacts"


class ProcessCompute(Strict):
    """Training in a process of this machine."""

    kind: Literal["process"] = Field(description="training runs as a process of this machine")
    work: ProjectPath = Field(
        default="var",
        validate_default=True,
        description="folder for jobs/ and scoring/: logs, models and rows that stay on site",
    )
    reserve_memory_mb: int = Field(default=256, ge=0, description="MB of memory that a job must leave free")
    reserve_disk_mb: int = Field(default=256, ge=0, description="MB of disk that a job must leave free")


class ValidationSettings(Strict):
    """What checks the data."""

    engine: Literal["local", "spark"] = Field(default="local", description="a process of this machine, or a cluster")
    spark: SparkAddress | None = Field(
        default=None,
        validate_default=True,
        description="the cluster: spark://HOST:PORT, sc://HOST:PORT for Spark Connect, or local[CORES]",
    )
    wait_s: int = Field(default=120, ge=1, description="seconds to wait for the cluster's answer, or for a free core")

    @field_validator("spark")
    @classmethod
    def _is_there_for_spark(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("engine") == "spark":
            raise ValueError('an address such as "spark://HOST:PORT", as engine = "spark" needs one')
        return value


class SiteSettings(Strict):
    """A place with data and compute."""

    name: Name = Field(description="the name of the file")
    description: str = Field(default="", description="one line for people")
    data: FolderStore | AzureBlobStore = Field(
        discriminator="kind", description="where the data is: containers of an account, or folders below root"
    )
    state: FolderStore | AzureStateStore = Field(
        discriminator="kind", description="where insitu keeps claims, batches, reports and decisions"
    )
    models: MlflowModels = Field(description="where model versions are registered")
    compute: ProcessCompute = Field(description="what training runs on")
    images: FolderStore = Field(
        default={"kind": "folder", "root": "var/images"},
        validate_default=True,  # the default is relative to the project, too
        description="where OCI image layouts and the build cache are",
    )
    validation: ValidationSettings = Field(default=ValidationSettings(), description="what checks the data")
    registry: RegistryHost | None = Field(
        default=None, description="host:port of the OCI registry to publish to; none: the layout under images"
    )


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


class GateSettings(Strict):
    """When a challenger may replace the champion. Keys that are checked against others come after them."""

    metrics: Annotated[dict[str, MetricSettings], MinLen(1)] = Field(description="one table per metric")
    primary: Text = Field(description="the metric among these that champion and challenger are compared by")
    policy: Literal["not_worse", "better"] = Field(default="not_worse", description="what a challenger must be")
    margin: float = Field(default=0.0, ge=0, description="for not_worse: tolerated loss in units of the primary metric")
    min_gain: float = Field(default=0.0, ge=0, description="for better: least gain in units of the primary metric")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="share of certainty that a verdict needs")
    min_rows: int = Field(default=100, ge=1, description="rows of holdout below which no verdict is given")

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


_SITE = Kind(SiteSettings, "deployments/sites/*.toml", "INSITU_SITE__")
_MODEL = Kind(ModelSettings, "models/*/model.toml", "INSITU_MODEL__")


def load_site(project: Path, name: str, environ: Mapping[str, str]) -> SiteSettings:
    """Return the settings of the site *name*; its relative paths start at *project*.

    Raises:
        SettingsError: All problems of the file and of the INSITU_ variables.
    """
    return load(_SITE, project, name, environ, known_variables=_variables())


def load_model(project: Path, name: str, environ: Mapping[str, str]) -> ModelSettings:
    """Return the settings of the model *name*.

    Raises:
        SettingsError: All problems of the file and of the INSITU_ variables.
    """
    return load(_MODEL, project, name, environ, known_variables=_variables())


def load_settings(
    project: Path, site: str, model: str, environ: Mapping[str, str]
) -> tuple[SiteSettings, ModelSettings]:
    """Return the settings of both.

    Raises:
        SettingsError: All problems of both files and of the INSITU_ variables.
    """
    problems: list[Problem] = []
    with collecting(problems):
        site_settings = load_site(project, site, environ)
    with collecting(problems):
        model_settings = load_model(project, model, environ)
    if problems:
        raise failure(problems)
    return site_settings, model_settings


def _variables() -> tuple[str, ...]:
    return (*_SITE.variables(), *_MODEL.variables())


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
