"""Image configuration and manifest: canonical JSON, so that equal parts give equal digests."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from insitu.errors import ImageFailed
from insitu.images.base import INTERPRETER, LIBRARY_FOLDER, PYTHON_HOME, USER
from insitu.images.contents import APP_FOLDER, MODEL_FOLDER, SERVER
from insitu.images.environment import EXTRA_LIBRARIES, SITE_PACKAGES
from insitu.images.layers import EPOCH_S, Layer
from insitu.ports import Descriptor

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
PORT = 5001

_CREATED = datetime.fromtimestamp(EPOCH_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

_ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108  the one folder that may be writable
    "INSITU_MODEL": f"/{MODEL_FOLDER}",
    "LD_LIBRARY_PATH": f"/{LIBRARY_FOLDER}:/{EXTRA_LIBRARIES}",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "PATH": f"/{PYTHON_HOME}/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHOME": f"/{PYTHON_HOME}",
    "PYTHONPATH": f"/{APP_FOLDER}:/{SITE_PACKAGES}",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
}
# -P and -s: neither the working folder nor a user's folder is on the module path.
_ENTRYPOINT = [f"/{INTERPRETER}", "-P", "-s", "-m", SERVER]


def canonical(value: Any) -> bytes:
    """Return *value* as JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def image_config(layers: Sequence[Layer], metadata: Mapping[str, Any], labels: Mapping[str, str]) -> bytes:
    """Return the configuration; *metadata* travels in it, as the layers are the same for equal models.

    Raises:
        ImageFailed: There are no images for this processor.
    """
    environment = _ENVIRONMENT | {"INSITU_METADATA": canonical(metadata).decode()}
    served = {"Entrypoint": _ENTRYPOINT, "ExposedPorts": {f"{PORT}/tcp": {}}}
    return _config(layers, environment, labels, served)


def training_config(layers: Sequence[Layer], labels: Mapping[str, str]) -> bytes:
    """Return the configuration of an image that jobs run in; what they run, they say; see `image_config`."""
    environment = {name: value for name, value in _ENVIRONMENT.items() if not name.startswith("INSITU_")}
    return _config(layers, environment | {"PYTHONPATH": f"/{SITE_PACKAGES}"}, labels, {"Cmd": ["python"]})


def _config(
    layers: Sequence[Layer], environment: Mapping[str, str], labels: Mapping[str, str], more: Mapping[str, Any]
) -> bytes:
    config = {
        "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
        "Labels": dict(labels),
        "StopSignal": "SIGTERM",
        "User": USER,
        "WorkingDir": "/",
        **more,
    }
    return canonical(
        {
            "architecture": architecture(),
            "config": config,
            "created": _CREATED,
            "history": [{"created": _CREATED, "created_by": f"insitu: {one.title}"} for one in layers],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]},
        }
    )


def image_manifest(config: Descriptor, layers: Sequence[Layer], labels: Mapping[str, str]) -> bytes:
    """Return the manifest; the labels are its annotations too, which registries show."""
    return canonical(
        {
            "annotations": {**labels, "org.opencontainers.image.created": _CREATED},
            "config": to_json(config),
            "layers": [to_json(one.descriptor) for one in layers],
            "mediaType": MANIFEST_TYPE,
            "schemaVersion": 2,
        }
    )


def architecture() -> str:
    """Return this machine's processor as OCI names it; raise `ImageFailed` for one without images."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise ImageFailed("cannot make an image for this processor", found=machine, wanted=" or ".join(_ARCHITECTURES))
    return _ARCHITECTURES[machine]


def to_json(descriptor: Descriptor) -> dict[str, Any]:
    """Return *descriptor* as OCI writes it."""
    return {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size_bytes,
    }


def parts_of(manifest: bytes) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Return the configuration and the layers of a manifest; raise `ImageFailed` when it is none."""
    try:
        value = json.loads(manifest)
        config, *layers = (
            Descriptor(str(one["mediaType"]), str(one["digest"]), int(one["size"]))
            for one in [value["config"], *value["layers"]]
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise ImageFailed("this is not the manifest of one image", found=type(exc).__name__) from exc
    return config, tuple(layers)
