"""The settings of a site and of a model: closed, frozen, and checked before any work.

A site is `deployments/sites/NAME.toml`, a model is `models/NAME/model.toml`. A variable overrides a
key: `INSITU_SITE__REGISTRY=host:5000`, `INSITU_MODEL__TRAIN__TIMEOUT_S=60`. Its text is read as a
TOML value, except where the key holds text.
"""

from insitu.settings.azure import (
    AzureMlModels,
    AzureMlTraining,
    AzureSettings,
    DockerTraining,
    EdgeSecrets,
    HubSettings,
    Principal,
    SshSettings,
    VmCompute,
)
from insitu.settings.deploy import (
    BundleTarget,
    DeployTarget,
    DockerTarget,
    EndpointTarget,
    KubernetesTarget,
)
from insitu.settings.gate import (
    KNOWN_METRICS,
    GateSettings,
    LimitSettings,
    MetricSettings,
    SliceSettings,
)
from insitu.settings.images import ImagesSettings
from insitu.settings.model import (
    DataSettings,
    DriftSettings,
    ModelSettings,
    NeedSettings,
    ParameterForm,
    ReadingSettings,
    TriggerSettings,
)
from insitu.settings.notify import NotifySettings
from insitu.settings.opening import load_model, load_settings, load_site
from insitu.settings.outward import SiteResidencySettings
from insitu.settings.parameters import params_schema, with_params
from insitu.settings.people import SigningSettings, SiteGateSettings
from insitu.settings.relay import RelaySettings
from insitu.settings.retention import RetentionSettings
from insitu.settings.services import ServicesSettings
from insitu.settings.site import MlflowModels, NetworkSettings, ProcessCompute, SiteSettings, ValidationSettings
from insitu.settings.stores import AzureBlobStore, AzureStateStore, FolderStore
from insitu.settings.strict import SecretSource

__all__ = [
    "KNOWN_METRICS",
    "AzureBlobStore",
    "AzureMlModels",
    "AzureMlTraining",
    "AzureSettings",
    "AzureStateStore",
    "BundleTarget",
    "DataSettings",
    "DeployTarget",
    "DockerTarget",
    "DockerTraining",
    "DriftSettings",
    "EdgeSecrets",
    "EndpointTarget",
    "FolderStore",
    "GateSettings",
    "HubSettings",
    "ImagesSettings",
    "KubernetesTarget",
    "LimitSettings",
    "MetricSettings",
    "MlflowModels",
    "ModelSettings",
    "NeedSettings",
    "NetworkSettings",
    "NotifySettings",
    "ParameterForm",
    "Principal",
    "ProcessCompute",
    "ReadingSettings",
    "RelaySettings",
    "RetentionSettings",
    "SecretSource",
    "ServicesSettings",
    "SigningSettings",
    "SiteGateSettings",
    "SiteResidencySettings",
    "SiteSettings",
    "SliceSettings",
    "SshSettings",
    "TriggerSettings",
    "ValidationSettings",
    "VmCompute",
    "load_model",
    "load_settings",
    "load_site",
    "params_schema",
    "with_params",
]
