"""The batch: the pinned set of blobs that a run uses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any


@dataclass(frozen=True, order=True)
class Blob:
    """One version of one blob.

    Attributes:
        name: Relative POSIX path inside its container.
        etag: Opaque version of the content; reads are conditional on it.
        size_bytes: Length of the content.
        last_modified: When the store says that it was written (UTC).
        md5: Hex digest when the store knows it.
    """

    name: str
    etag: str
    size_bytes: int
    last_modified: datetime = field(compare=False)
    md5: str | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the blob as JSON values."""
        return {
            "name": self.name,
            "etag": self.etag,
            "size_bytes": self.size_bytes,
            "last_modified": self.last_modified.isoformat(),
            "md5": self.md5,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Blob:
        """Return the blob that `to_json` described; raise `KeyError`, `TypeError` or `ValueError`."""
        return cls(
            name=str(value["name"]),
            etag=str(value["etag"]),
            size_bytes=int(value["size_bytes"]),
            last_modified=datetime.fromisoformat(value["last_modified"]),
            md5=value.get("md5"),
        )


@dataclass(frozen=True)
class Batch:
    """Blobs of one container, pinned by ETag, in name order."""

    container: str
    blobs: tuple[Blob, ...]

    @classmethod
    def of(cls, container: str, blobs: Iterable[Blob]) -> Batch:
        """Return the batch of *blobs*, sorted by name."""
        return cls(container, tuple(sorted(blobs)))

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 over (name, ETag, size) of the sorted blobs.

        The time of the last write is left out: the same bytes copied to another site keep their
        fingerprint wherever the store's ETags follow the content.
        """
        digest = sha256()
        for blob in self.blobs:
            digest.update(json.dumps([blob.name, blob.etag, blob.size_bytes]).encode() + b"\n")
        return digest.hexdigest()

    @cached_property
    def size_bytes(self) -> int:
        """Sum of the blobs' sizes."""
        return sum(blob.size_bytes for blob in self.blobs)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return {
            "container": self.container,
            "fingerprint": self.fingerprint,
            "blobs": [blob.to_json() for blob in self.blobs],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Batch:
        """Return the batch that `to_json` described; raise `KeyError`, `TypeError` or `ValueError`."""
        return cls.of(str(value["container"]), map(Blob.from_json, value["blobs"]))
