"""Nobody phones home: the switches of every library that would."""

from __future__ import annotations

import os

SWITCHES = {
    "DO_NOT_TRACK": "true",  # MLflow does not honour "1"
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # read when onnxruntime is imported; its own call comes too late
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def switch_off() -> None:
    """Set the switches that are not set; call it before the libraries are imported."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
