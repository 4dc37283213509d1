"""What the image tests share, besides fixtures."""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.adapters.local.images import LayoutImages
from insitu.images.assemble import ImageSpec
from insitu.images.environment import serving_requirements
from insitu.images.manifest import CONFIG_TYPE, MANIFEST_TYPE, canonical, to_json
from insitu.ports import Descriptor, ImageRegistry

CHUNK_BYTES = 100_000
"""Of the registries under contract: several make a blob that is quickly sent."""


@dataclass(frozen=True)
class Trained:
    """A saved model, its export, some rows, and what scikit-learn itself says about them."""

    folder: Path
    onnx: Path
    rows: list[list[Any]]
    columns: list[str]
    expected: list[list[float]]


def spec_of(model: Trained, runtime: str = "onnx", **changes: Any) -> ImageSpec:
    """Return what the tests build."""
    return ImageSpec(
        changes.get("model_folder", model.folder),
        model.onnx if runtime == "onnx" else None,
        serving_requirements(model.folder, "onnx" if runtime == "onnx" else "pyfunc"),
        changes.get("metadata", {"model": "flights", "version": "7", "run_key": "abc"}),
        {"io.insitu.model": "flights"},
    )


def blob_of(path: Path, content: bytes, media_type: str = "application/octet-stream") -> Descriptor:
    path.write_bytes(content)
    return Descriptor(media_type, f"sha256:{sha256(content).hexdigest()}", len(content))


def manifest_of(images: ImageRegistry, folder: Path, words: bytes) -> tuple[Descriptor, bytes]:
    """Store a configuration and return a manifest around it."""
    config = blob_of(folder / "config", b'{"words":"' + words + b'"}', CONFIG_TYPE)
    images.put_blob(config, folder / "config")
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": to_json(config), "layers": []}
    content = canonical(manifest)
    return Descriptor(MANIFEST_TYPE, f"sha256:{sha256(content).hexdigest()}", len(content)), content


def layout_with(folder: Path, words: str, size_bytes: int = 10, layer_of: str = "") -> tuple[LayoutImages, str]:
    """Return a layout with an image of one layer, that of another if it is to be, and the image's digest."""
    layout = LayoutImages(folder / words)
    parts = []
    contents = (canonical({"words": words}), random.Random(layer_of or words).randbytes(size_bytes))
    for kind, content in zip((CONFIG_TYPE, "application/octet-stream"), contents, strict=True):
        (folder / "part").write_bytes(content)
        parts.append(Descriptor(kind, f"sha256:{sha256(content).hexdigest()}", len(content)))
        layout.put_blob(parts[-1], folder / "part")
    config, layer = map(to_json, parts)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]}
    content = canonical(manifest)
    digest = f"sha256:{sha256(content).hexdigest()}"
    layout.put_manifest(Descriptor(MANIFEST_TYPE, digest, len(content)), content)
    return layout, digest
