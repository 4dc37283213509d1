"""An image as the archive that `docker load` reads: the layers as they lie in the layout, and a list of them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from insitu.images.assemble import Image
from insitu.images.blobs import CHUNK_BYTES, BlobFolder
from insitu.ports import Descriptor


def docker_archive(image: Image, layout: Path, reference: str) -> Iterator[bytes]:
    """Yield the archive piece by piece; loaded, the image is called *reference*."""
    yield from archive_of_parts(image.config, [layer.descriptor for layer in image.layers], layout, reference)


def archive_of_parts(config: Descriptor, layers: Sequence[Descriptor], layout: Path, reference: str) -> Iterator[bytes]:
    """Yield the archive of an image of these parts; see `docker_archive`."""
    blobs = BlobFolder(layout)
    for part in (config, *dict.fromkeys(layers)):
        yield from _file(_name(part), blobs.path(part.digest))
    names = [_name(layer) for layer in layers]
    manifest = json.dumps([{"Config": _name(config), "RepoTags": [reference], "Layers": names}]).encode()
    yield _head("manifest.json", len(manifest))
    yield manifest + _padding(len(manifest))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _name(part: Descriptor) -> str:
    return f"blobs/{part.digest.removeprefix('sha256:')}"


def _file(name: str, path: Path) -> Iterator[bytes]:
    size_bytes = path.stat().st_size
    yield _head(name, size_bytes)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
    yield _padding(size_bytes)


def _head(name: str, size_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    return info.tobuf()


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % tarfile.BLOCKSIZE)
