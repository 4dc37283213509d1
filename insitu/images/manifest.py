"""Image configuration and manifest: canonical JSON, so that equal parts give equal digests."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from insitu.errors import ImageFailed
from insitu.images.base import INTERPRETER, LIBRARY_FOLDER, PYTHON_HOME, USER, own_loader
from insitu.images.contents import APP_FOLDER, MODEL_FOLDER, SERVER
from insitu.images.environment import EXTRA_LIBRARIES, SITE_PACKAGES
from insitu.images.layers import EPOCH_S, Layer
from insitu.ports import Descriptor

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
PORT = 5001

_CREATED = datetime.fromtimestamp(EPOCH_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

_LIBRARY_PATH = "LD_LIBRARY_PATH"
_ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108  the one folder that may be writable
    "INSITU_MODEL": f"/{MODEL_FOLDER}",
    _LIBRARY_PATH: f"/{LIBRARY_FOLDER}:/{EXTRA_LIBRARIES}",
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

# Of a base's environment what would reach into our own loader and interpreter, or be taken for ours.
_NOT_OF_A_BASE = ("LD_", "PYTHON", "INSITU_", "GLIBC_TUNABLES")
_OUR_LABELS = ("io.insitu.", "org.opencontainers.image.base.")
_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def canonical(value: Any) -> bytes:
    """Return *value* as JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def image_config(
    layers: Sequence[Layer],
    metadata: Mapping[str, Any],
    labels: Mapping[str, str],
    base: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the configuration; *metadata* travels in it, as the layers are the same for equal models.

    Args:
        base: The configuration document of the base whose layers are the first of *layers*; None: from scratch.

    Raises:
        ImageFailed: There are no images for this processor.
    """
    environment = _ENVIRONMENT | {"INSITU_METADATA": canonical(metadata).decode()}
    served: dict[str, Any] = {"Entrypoint": _ENTRYPOINT, "ExposedPorts": {f"{PORT}/tcp": {}}}
    if base is None:
        return _config(layers, environment, labels, served)
    config = base.get("config") or {}
    environment = _on_base(config.get("Env") or (), environment)
    theirs = {k: v for k, v in (config.get("Labels") or {}).items() if not k.startswith(_OUR_LABELS)}
    return _config(layers, environment, {**theirs, **labels}, served | {"Entrypoint": _entrypoint_on_base()}, base)


def _on_base(entries: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment on a base: its programs keep their path and their libraries, the rest is ours."""
    theirs = dict(one.split("=", 1) for one in entries if "=" in one and not one.startswith(_NOT_OF_A_BASE))
    ours = {name: value for name, value in environment.items() if name not in ("PATH", _LIBRARY_PATH)}
    # Some libraries ask who they are, and the base's /etc/passwd does not know our user.
    return {"PATH": _USUAL_PATH, **theirs, **ours, "USER": "insitu"}


def _entrypoint_on_base() -> list[str]:
    """Return what starts the server with our own loader and libraries, whatever the base has."""
    loader = [f"/{own_loader()}", "--inhibit-cache", "--library-path", _ENVIRONMENT[_LIBRARY_PATH]]
    return [*loader, *_ENTRYPOINT]


def python_of(entrypoint: Sequence[str]) -> list[str]:
    """Return what runs Python in an image that insitu made: how its entry point begins, before Python's options.

    Raises:
        ImageFailed: Somebody else has made the image.
    """
    for count, program in enumerate(entrypoint, 1):
        if program == f"/{PYTHON_HOME}/bin/{Path(program).name}":
            return list(entrypoint[:count])
    raise ImageFailed(
        "the image has no scoring server of insitu", found=str(list(entrypoint)[:1]), wanted="a Python entry point"
    )


def training_config(layers: Sequence[Layer], labels: Mapping[str, str]) -> bytes:
    """Return the configuration of an image that jobs run in; what they run, they say; see `image_config`."""
    environment = {name: value for name, value in _ENVIRONMENT.items() if not name.startswith("INSITU_")}
    return _config(layers, environment | {"PYTHONPATH": f"/{SITE_PACKAGES}"}, labels, {"Cmd": ["python"]})


def _config(
    layers: Sequence[Layer],
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    more: Mapping[str, Any],
    base: Mapping[str, Any] | None = None,
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
            "history": _history(layers, base),
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]},
        }
    )


def _history(layers: Sequence[Layer], base: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return one entry per layer, those of the base as it has them, unless they do not fit its layers."""
    of_base = len(base["rootfs"]["diff_ids"]) if base else 0
    known = (base or {}).get("history") or []
    fits = sum(not one.get("empty_layer") for one in known) == of_base
    own: list[Mapping[str, Any]] = [{"created": _CREATED, "created_by": f"insitu: {one.title}"} for one in layers]
    return [*map(_of_a_base, known), *own[of_base:]] if fits else own


def _of_a_base(step: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a step of a base's history that cannot be taken for ours: by its words people tell what a layer holds."""
    words = str(step.get("created_by", ""))
    return {**step, "created_by": f"base: {words}"} if words.startswith("insitu:") else step


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
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ImageFailed("this is not the manifest of one image", found=type(exc).__name__) from exc
    return config, tuple(layers)
