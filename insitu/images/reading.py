"""Blobs of any registry, read here: every byte is hashed before it is believed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from insitu.errors import PublishFailed
from insitu.images.blobs import CHUNK_BYTES, check
from insitu.ports import Descriptor, ImageRegistry

DOCUMENT_BYTES = 64 << 20
"""The most that a configuration or an attestation may have: it is held in memory."""


@contextmanager
def local_copy(images: ImageRegistry, blob: Descriptor) -> Iterator[Path]:
    """Yield a file that is the blob: its own, not verified, or one that was fetched and verified."""
    if path := images.local_blob(blob.digest):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="insitu-") as scratch:
        path = Path(scratch) / "blob"
        images.fetch_blob(blob, path)
        yield path


@contextmanager
def verified_copy(images: ImageRegistry, blob: Descriptor) -> Iterator[Path]:
    """Yield a file that is the blob, verified now; raise `PublishFailed` when its bytes are others."""
    with local_copy(images, blob) as path:
        digest, size_bytes = sha256(), 0
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
        check(blob, f"sha256:{digest.hexdigest()}", size_bytes)
        yield path


def read_document(images: ImageRegistry, blob: Descriptor) -> bytes:
    """Return a small blob, verified; raise `PublishFailed` when its bytes are others, or too many."""
    if blob.size_bytes > DOCUMENT_BYTES:
        raise PublishFailed(
            f"{blob.digest} is too large for a document",
            found=f"{blob.size_bytes} bytes",
            wanted=f"at most {DOCUMENT_BYTES}",
        )
    with verified_copy(images, blob) as path:
        return path.read_bytes()
