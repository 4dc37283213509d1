"""An image as its manifest and its configuration describe it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from insitu.errors import ImageFailed, PublishFailed
from insitu.images.manifest import parts_of
from insitu.images.reading import read_document
from insitu.ports import Descriptor, ImageRegistry

LABEL = "io.insitu."
VERSION, TITLE = "org.opencontainers.image.version", "org.opencontainers.image.title"
REVISION = "org.opencontainers.image.revision"
BASE_DIGEST, BASE_NAME = "org.opencontainers.image.base.digest", "org.opencontainers.image.base.name"


@dataclass(frozen=True)
class Described:
    """What an image says of itself.

    Attributes:
        annotations: Of the manifest.
        labels: Of the configuration.
        titles: What each layer holds (`base`, `environment`, ...), as far as the image's history tells.
    """

    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    titles: tuple[str, ...]

    def fact(self, name: str) -> str:
        """Return what the label `io.insitu.NAME` says; empty when there is none."""
        return self.labels.get(f"{LABEL}{name}", "")

    @property
    def model_name(self) -> str:
        """The name of its model, or what people see when it has none."""
        return self.fact("model") or "image"


def describe(images: ImageRegistry, digest: str) -> Described:
    """Return what the image *digest* says of itself.

    Raises:
        PublishFailed: It is not there, or its manifest or configuration are other bytes than their digests name.
        ImageFailed: It is no image.
    """
    found = images.resolve(digest)
    if found is None:
        raise PublishFailed(f"{images.name} does not have the image", wanted=digest)
    config, layers = parts_of(found[1])
    manifest: dict[str, Any] = json.loads(found[1])
    try:
        described = json.loads(read_document(images, config))
        history = [one for one in described.get("history") or [] if not one.get("empty_layer")]
        titles = [_title(str(one.get("created_by", ""))) for one in history]
        labels = described["config"].get("Labels") or {}
        return Described(
            found[0], config, layers, _texts(manifest.get("annotations") or {}), _texts(labels), tuple(titles)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ImageFailed(f"{digest} has no configuration of an image", found=type(exc).__name__) from exc


def _title(created_by: str) -> str:
    return created_by.removeprefix("insitu: ") if created_by.startswith("insitu: ") else "base"


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in values.items()}
