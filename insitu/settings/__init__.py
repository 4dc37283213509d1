"""The settings of a site and of a model: closed, frozen, and checked before any work.

A site is `deployments/sites/NAME.toml`, a model is `models/NAME/model.toml`. A variable overrides a
key: `INSITU_SITE__REGISTRY=host:5000`, `INSITU_MODEL__TRAIN__TIMEOUT_S=60`. Its text is read as a
TOML value, except where the key holds text.
"""

from insitu.settings.schema import (
    KNOWN_METRICS,
    DataSettings,
    DriftSettings,
    GateSettings,
    MetricSettings,
    ModelSettings,
    NeedSettings,
    ReadingSettings,
    SiteSettings,
    ValidationSettings,
    load_model,
    load_settings,
    load_site,
)

__all__ = [
    "KNOWN_METRICS",
    "DataSettings",
    "DriftSettings",
    "GateSettings",
    "MetricSettings",
    "ModelSettings",
    "NeedSettings",
    "ReadingSettings",
    "SiteSettings",
    "ValidationSettings",
    "load_model",
    "load_settings",
    "load_site",
]
