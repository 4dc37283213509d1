"""What a model can set: every key with its type, bounds, unit and meaning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from insitu.settings.deploy import DeployTarget
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
from insitu.settings.gate import KNOWN_METRICS, GateSettings, LimitSettings
from insitu.settings.problems import Clash, Contradiction
from insitu.settings.strict import Strict


class TargetSettings(Strict):
    """What is predicted."""

    task: Literal["classification", "regression"] = Field(description="decides which metrics are known")
    label_column: Text = Field(description="the column that holds the outcome")
    label_above: float | None = Field(
        default=None,
        description="in units of the column: the label is column > this; without it the column is the label",
    )
    label_is: Parameter | None = Field(
        default=None, description="one class of the column, a text or a number: the label is column == this"
    )
    classes: list[Parameter] = Field(
        default=[],
        exclude_if=lambda classes: not classes,  # keys of runs from before there was this one stay what they are
        description="three classes or more, all that the column has: the label is the place in this list, from 0; a"
        " champion that was trained with another list or order is none to compare with (gate.unusable_champion)",
    )

    @field_validator("label_above")
    @classmethod
    def _is_for_classification(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("task") == "regression":
            raise Contradiction(Clash("nothing: label_above makes classes, and the task is regression"))
        return value

    @field_validator("label_is")
    @classmethod
    def _is_the_only_rule(cls, value: Parameter | None, info: ValidationInfo) -> Parameter | None:
        if value is not None and info.data.get("task") == "regression":
            raise Contradiction(Clash("nothing: label_is makes classes, and the task is regression"))
        if value is not None and info.data.get("label_above") is not None:
            raise Contradiction(Clash("one of label_above and label_is"))
        return value

    @field_validator("classes")
    @classmethod
    def _are_many_and_alone(cls, values: list[Parameter], info: ValidationInfo) -> list[Parameter]:
        if values and info.data.get("task") == "regression":
            raise Contradiction(Clash("nothing: a regression has no classes"))
        if values and any(info.data.get(key) is not None for key in ("label_above", "label_is")):
            raise Contradiction(Clash("one of label_above, label_is and classes"))
        if values and len({*values}) != max(len(values), 3):
            raise Contradiction(Clash("three classes or more, each once; of two, name one with label_is"))
        return values


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


class ParameterForm(Strict):
    """What a parameter of the command does, and what it may be: for people who set it for one run."""

    about: str = Field(default="", description="what it does, in a few words")
    minimum: float | None = Field(default=None, description="its lowest value")
    maximum: float | None = Field(default=None, description="its highest value")
    choices: list[Parameter] = Field(default=[], description="its only values")

    def allows(self, value: int | float | str | bool) -> bool:
        """Tell whether the parameter may be *value*."""
        if self.choices and value not in self.choices:
            return False
        lowest, highest = self.minimum, self.maximum
        if isinstance(value, str) or (lowest is None and highest is None):
            return lowest is None and highest is None
        return (lowest is None or value >= lowest) and (highest is None or value <= highest)

    @property
    def limits(self) -> str:
        """The bounds as people write them; empty where there are none."""
        said = (("at least", self.minimum), ("at most", self.maximum))
        return ", ".join(f"{word} {short(limit)}" for word, limit in said if limit is not None)


def short(limit: float | None) -> float | None:
    """Return 20 for 20.0, as people write it."""
    return int(limit) if limit is not None and limit.is_integer() else limit


class TrainSettings(Strict):
    """How the model is trained."""

    command: list[Text] = Field(min_length=1, description="program and arguments, run in the model's folder")
    timeout_s: int = Field(default=3600, gt=0, description="seconds after which training is stopped")
    params: dict[str, Parameter] = Field(default={}, description="handed to the command as INSITU_PARAMS")
    forms: dict[str, ParameterForm] = Field(
        default={}, description="what parameters may be where they are set for one run"
    )
    requirements: list[Text] = Field(default=[], description="packages that the command and the model need")
    relay_output: bool = Field(
        default=True, description="show what the command prints in the Prefect run; tracebacks never are"
    )
    max_log_bytes: int = Field(default=10_000_000, gt=0, description="bytes of output that are kept")

    @model_validator(mode="after")
    def _keeps_to_its_forms(self) -> TrainSettings:
        known = tuple(self.params)
        clashes = [
            Clash(f"a key of [train.params]: {', '.join(known)}", ("forms", name), known)
            for name in self.forms
            if name not in self.params
        ]
        clashes += [  # of the value, which may be a variable's
            Clash(f"{_wanted(form)}, as [train.forms] says", ("params", name))
            for name, form in self.forms.items()
            if name in self.params and not form.allows(self.params[name])
        ]
        if clashes:
            raise Contradiction(*clashes)
        return self


def _wanted(form: ParameterForm) -> str:
    return f"one of {', '.join(map(str, form.choices))}" if form.choices else f"a number, {form.limits}"


class NeedSettings(Strict):
    """What the compute must have free."""

    cores: int = Field(default=1, ge=1, description="CPU cores")
    memory_mb: int = Field(default=1024, ge=1, description="MB of memory")
    disk_mb: int = Field(default=1024, ge=1, description="MB of disk")


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


class ResidencySettings(Strict):
    """How what was trained is searched for records before it may leave: see docs/residency.md."""

    scan: bool = Field(default=True, description="search what the command leaves for rows of the batch")
    fit_hook: bool = Field(default=True, description="search for what reaches fit of scikit-learn estimators, too")
    pickle: bool = Field(default=True, description="load models that run code as they are loaded: pickles, joblib")
    max_cells: int = Field(default=32, ge=0, description="single values, such as extremes, that a model may hold")
    max_rows: int = Field(
        default=1_000_000, ge=1000, description="rows that are searched for; of more every second, fourth, ..."
    )
    max_capacity_share: float | None = Field(
        default=None, ge=0, description="share of the rows that a model could hold in any encoding unless people agree"
    )
    budget_share: float | None = Field(
        default=None, ge=0, description="the same of all that leaves of the container, every version, run and model"
    )


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
    open_partitions: int | None = Field(
        default=None,
        ge=1,
        description="how many prefixes, the last ones in name order, a look lists beside what is incomplete; else all",
    )
    whole_every_s: float = Field(
        default=3600.0, gt=0, description="open_partitions: seconds between two looks at all prefixes"
    )
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
    limits: LimitSettings = Field(default=LimitSettings(), description="what an image that is published may take")
    smoke: SmokeSettings = Field(default=SmokeSettings(), description="how the finished image is tried out")
    residency: ResidencySettings = Field(
        default=ResidencySettings(), description="how what was trained is searched for records"
    )
    trigger: TriggerSettings = Field(
        default=TriggerSettings(), description="when new blobs are a batch that starts a run"
    )
    deploy: list[DeployTarget] = Field(default=[], description="where a version that becomes champion is deployed")

    @field_validator("gate")
    @classmethod
    def _fits_the_task(cls, gate: GateSettings, info: ValidationInfo) -> GateSettings:
        if (target := info.data.get("target")) is None:
            return gate
        many = bool(target.classes)
        fitting = [n for n, known in KNOWN_METRICS.items() if known.task == target.task and known.many >= many]
        strange = [name for name in gate.metrics if name not in fitting]
        if strange:
            wanted = f"a metric of {'many classes' if many else target.task}: one of {', '.join(fitting)}"
            raise Contradiction(*(Clash(wanted, ("metrics", name)) for name in strange))
        return gate

    @field_validator("deploy")
    @classmethod
    def _have_names_of_their_own(cls, targets: list[DeployTarget]) -> list[DeployTarget]:
        names = [target.name for target in targets]
        twice = [n for n, name in enumerate(names) if name in names[:n]]
        if twice:
            raise Contradiction(*(Clash("a name that no other [[deploy]] has", (n, "name")) for n in twice))
        return targets

    def targets(self, site: str) -> list[DeployTarget]:
        """Return where *site* deploys the model."""
        return [target for target in self.deploy if not target.sites or site in target.sites]
