"""What a site can set: every key with its type, bounds, unit and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from insitu.settings.azure import (
    AzureMlModels,
    AzureMlTraining,
    AzureSettings,
    DockerTraining,
    HubSettings,
    ProcessTraining,
    VmCompute,
)
from insitu.settings.forms import HostName, MlflowUri, Name, ProjectPath, ProxyUrl, RegistryHost, SparkAddress
from insitu.settings.images import ImagesSettings
from insitu.settings.notify import NotifySettings
from insitu.settings.outward import SiteResidencySettings
from insitu.settings.people import SigningSettings, SiteGateSettings
from insitu.settings.relay import RelaySettings
from insitu.settings.retention import RetentionSettings
from insitu.settings.services import ServicesSettings
from insitu.settings.stores import AzureBlobStore, AzureStateStore, FolderStore
from insitu.settings.strict import Strict


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


class NetworkSettings(Strict):
    """How this machine reaches services outside of it; overrides the standard variables."""

    proxy: ProxyUrl | None = Field(default=None, description="proxy for https; none: HTTPS_PROXY")
    no_proxy: list[HostName] = Field(default=[], description="hosts and domains that are reached directly")
    ca_bundle: ProjectPath | None = Field(
        default=None, description="PEM file of every authority to trust; none: REQUESTS_CA_BUNDLE, SSL_CERT_FILE"
    )


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
    network: NetworkSettings = Field(default=NetworkSettings(), description="how services are reached")
    hub: HubSettings | None = Field(default=None, description="the Azure Stack Hub of this site")
    azure: AzureSettings | None = Field(default=None, description="the public side: the workspace")
    models: MlflowModels | AzureMlModels = Field(
        discriminator="kind", description="where model versions are registered"
    )
    compute: ProcessCompute | VmCompute = Field(discriminator="kind", description="what training runs on")
    training: ProcessTraining | AzureMlTraining | DockerTraining = Field(
        default=ProcessTraining(kind="process"), discriminator="kind", description="how edge jobs get there"
    )
    images: ImagesSettings = Field(
        default={},
        validate_default=True,  # the default is relative to the project, too
        description="where images are made, and what they stand on",
    )
    validation: ValidationSettings = Field(default=ValidationSettings(), description="what checks the data")
    registry: RegistryHost | None = Field(
        default=None, description="host:port of the OCI registry to publish to; none: the layout under images"
    )
    registry_login: Literal["none", "azure"] = Field(
        default="none", description='"azure": an Azure Container Registry, where the identity of [azure] signs in'
    )
    gate: SiteGateSettings = Field(default=SiteGateSettings(), description="which human decisions count")
    residency: SiteResidencySettings = Field(
        default=SiteResidencySettings(), description="what may be told of the data"
    )
    signing: SigningSettings = Field(
        default={},  # its paths are relative to the project
        validate_default=True,
        description="the key that signs decisions",
    )
    retention: RetentionSettings = Field(
        default=RetentionSettings(), description="what `insitu prune` leaves, beside all that is in use"
    )
    relay: RelaySettings | None = Field(default=None, description='the web app that takes "data is ready" calls')
    services: ServicesSettings = Field(
        default={}, validate_default=True, description="Prefect server, workers and what else `insitu up` runs"
    )

    notify: NotifySettings = Field(default=NotifySettings(), description="who is told how runs end")

    @field_validator("models", "training", "compute", "registry_login")
    @classmethod
    def _has_its_side(cls, value: Any, info: ValidationInfo) -> Any:
        kind = value if isinstance(value, str) else value.kind
        table = _NEEDS.get(kind)
        if table and not info.data.get(table):
            raise ValueError(f"a table [{table}] beside it, which says where that is")
        return value

    @field_validator("relay")
    @classmethod
    def _has_who_deploys_it(cls, value: RelaySettings | None, info: ValidationInfo) -> RelaySettings | None:
        if value and value.signs_in and not info.data.get("hub"):
            raise ValueError("a token, or a user and a password, or a table [hub] with an identity that may deploy")
        return value


_NEEDS = {"azure-ml": "azure", "attached-vm": "azure", "kubernetes": "azure", "azure": "azure", "stack-hub-vm": "hub"}
"""The table that a kind cannot be without."""
