"""A small image in a layout, with attestations about it, made of any bytes."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.adapters.local.images import LayoutImages
from insitu.images.blobs import BlobFolder
from insitu.images.layers import LAYER_TYPE
from insitu.images.manifest import CONFIG_TYPE, MANIFEST_TYPE, canonical, to_json
from insitu.ports import Descriptor

SIZES = (0, 1, 512, 70_001)
"""Layers of these many bytes: none, one, a block, and some."""


def small_image(root: Path, version: str = "5", salt: str = "") -> tuple[LayoutImages, str]:
    """Return a layout that holds an image tagged *version* and `latest`, and the image's digest.

    The last layer differs with *salt*; all others are those of every such image.
    """
    images, blobs = LayoutImages(root), BlobFolder(root)
    salts = ["" for _ in SIZES[:-1]] + [salt]
    layers = [blobs.add(_bytes(size, one), LAYER_TYPE) for size, one in zip(SIZES, salts, strict=True)]
    config = blobs.add(canonical({"architecture": "amd64", "os": "linux", "of": salt}), CONFIG_TYPE)
    labels = {"io.insitu.model": "flights", "io.insitu.version": version}
    content = manifest_of(config, layers, annotations=labels)
    descriptor = described(content)
    for tag in (version, "latest"):
        images.tag(tag, descriptor, content)
    return images, descriptor.digest


def attach(images: LayoutImages, digest: str, statement: bytes, artifact_type: str = "application/x-test") -> None:
    """Attach *statement* to the image."""
    blobs, subject = BlobFolder(images.root), images.resolve(digest)
    assert subject
    empty = blobs.add(b"{}", "application/vnd.oci.empty.v1+json")
    layer = blobs.add(statement, artifact_type)
    content = manifest_of(empty, [layer], artifactType=artifact_type, subject=to_json(subject[0]))
    images.attach(digest, (described(content), content))


def manifest_of(config: Descriptor, layers: list[Descriptor], **more: Any) -> bytes:
    """Return a manifest."""
    parts = {"config": to_json(config), "layers": [*map(to_json, layers)]}
    return canonical({"mediaType": MANIFEST_TYPE, "schemaVersion": 2, **parts, **more})


def described(content: bytes) -> Descriptor:
    """Return what points at a manifest."""
    kind = json.loads(content)["mediaType"]
    return Descriptor(kind, f"sha256:{sha256(content).hexdigest()}", len(content))


def _bytes(size: int, salt: str) -> bytes:
    seed = sha256(f"{size}{salt}".encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]
