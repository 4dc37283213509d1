"""Assemble an image, layer by layer, into an OCI image layout: no daemon, no registry, no root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from insitu.images.base import base_recipe, python_recipe
from insitu.images.bases import Base
from insitu.images.blobs import BlobFolder
from insitu.images.contents import app_recipe, model_entries
from insitu.images.environment import environment_recipe
from insitu.images.layers import Layer, build_layer, write_layer
from insitu.images.manifest import CONFIG_TYPE, MANIFEST_TYPE, image_config, image_manifest
from insitu.ports import Descriptor


@dataclass(frozen=True)
class ImageSpec:
    """What goes into an image.

    Attributes:
        model_folder: A model of MLflow's format with a signature of named columns.
        onnx: Its ONNX export; when there is one, it is what is served.
        requirements: What to install, e.g. what `serving_requirements` returns.
        metadata: Answered at `GET /metadata`; `onnx_output` in it names the output that is the prediction.
        labels: Labels of the image, annotations of its manifest.
        base: The image that it stands on, see `fetch_base`; None: from scratch.
    """

    model_folder: Path
    onnx: Path | None
    requirements: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    base: Base | None = None


@dataclass(frozen=True)
class Image:
    """An image that is in a layout; *descriptor* points at its manifest."""

    descriptor: Descriptor
    config: Descriptor
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        """What names the image everywhere: the digest of its manifest."""
        return self.descriptor.digest

    @property
    def size_bytes(self) -> int:
        """What a registry stores of it."""
        layers = sum(layer.descriptor.size_bytes for layer in self.layers)
        return self.descriptor.size_bytes + self.config.size_bytes + layers


def assemble_image(spec: ImageSpec, layout: Path, work: Path) -> Image:
    """Write the image into the layout folder and return it; the same *spec* gives the same digest.

    Args:
        spec: What goes in.
        layout: Folder of an OCI image layout; its index is not touched, see `LayoutImages.tag`.
        work: Folder that may be removed at any time; layers and byte code are not made twice while it is there.

    Raises:
        ImageFailed: A requirement is not installed, or the model cannot be served.
        StorageFull: No space.
    """
    blobs = BlobFolder(layout)
    model = list(model_entries(spec.model_folder, spec.onnx))  # first: it is what can be wrong
    python = python_recipe(work) if spec.base else base_recipe(work)
    recipes = (python, environment_recipe(spec.requirements, work), app_recipe(work))
    if spec.base:
        spec.base.put_layers(blobs)
    labels = {**spec.labels, **(spec.base.labels if spec.base else {})}
    layers = (
        *(spec.base.layers if spec.base else ()),
        *(build_layer(recipe, blobs, work / "layers") for recipe in recipes),
        write_layer("model", model, blobs),
    )
    on = spec.base.config if spec.base else None
    config = blobs.add(image_config(layers, spec.metadata, labels, on), CONFIG_TYPE)
    manifest = blobs.add(image_manifest(config, layers, labels), MANIFEST_TYPE)
    return Image(manifest, config, layers)
