"""The blobs of an OCI image layout: files named by the sha256 of their bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO, Protocol

from insitu.errors import PublishFailed
from insitu.files import staged
from insitu.ports import Descriptor

CHUNK_BYTES = 1 << 20


class Hash(Protocol):
    """What this module wants of a `hashlib` object."""

    def update(self, data: bytes, /) -> None:
        """Add *data*."""
        ...

    def hexdigest(self) -> str:
        """Return the digest so far."""
        ...


class ThreadedHash:
    """A sha256 that a thread of *pool* takes: `hashlib` lets others run meanwhile. One piece waits at most."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._hash: Hash = sha256()
        self._last: Future[None] | None = None

    def update(self, data: bytes, /) -> None:
        """Add *data*, which must not change any more."""
        self._settle()
        self._last = self._pool.submit(self._hash.update, data)

    def hexdigest(self) -> str:
        """Return the digest so far."""
        self._settle()
        return self._hash.hexdigest()

    def _settle(self) -> None:
        if self._last:
            self._last.result()


@dataclass
class Sink:
    """A file being written; knows the digest and size of what it was given."""

    file: BinaryIO
    hash: Hash
    size_bytes: int = 0

    def write(self, data: bytes) -> int:
        """Append *data*."""
        self.hash.update(data)
        self.size_bytes += len(data)
        return self.file.write(data)

    @property
    def digest(self) -> str:
        """`sha256:…` of everything written."""
        return f"sha256:{self.hash.hexdigest()}"


def copy_verified(source: BinaryIO, wanted: Descriptor, path: Path) -> None:
    """Copy *source* to *path*; raise `PublishFailed` when the bytes are not the ones *wanted*."""
    with staged(path) as temporary:
        with temporary.open("wb") as file:
            sink = Sink(file, sha256())
            while chunk := source.read(CHUNK_BYTES):
                sink.write(chunk)
        check(wanted, sink.digest, sink.size_bytes)
        os.replace(temporary, path)


def check(wanted: Descriptor, digest: str, size_bytes: int) -> None:
    """Raise `PublishFailed` unless digest and size are the ones *wanted*."""
    if (digest, size_bytes) != (wanted.digest, wanted.size_bytes):
        raise PublishFailed(
            f"{wanted.digest} is not what was read",
            found=f"{size_bytes} bytes with {digest}",
            wanted=f"{wanted.size_bytes} bytes with {wanted.digest}",
            next_action="something changed the bytes on the way or on disk: remove that copy and run again",
        )


@dataclass(frozen=True)
class BlobFolder:
    """The `blobs/sha256` folder of the image layout *root*."""

    root: Path

    def path(self, digest: str) -> Path:
        """Return where the blob is or would be; raise `PublishFailed` for anything but a sha256."""
        algorithm, _, name = digest.partition(":")
        if algorithm != "sha256" or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise PublishFailed(f"{digest!r} is not a digest", wanted="sha256: and 64 hexadecimal digits")
        return self.root / "blobs" / "sha256" / name

    @contextmanager
    def writing(self, digest: Hash | None = None) -> Iterator[Sink]:
        """Yield a sink; what was written is a blob under its digest, a sha256, when the block ends well."""
        with staged(self.root / "blobs" / "sha256" / "new") as temporary:
            with temporary.open("wb") as file:
                sink = Sink(file, digest or sha256())
                yield sink
            os.replace(temporary, self.path(sink.digest))

    def add(self, content: bytes, media_type: str) -> Descriptor:
        """Store *content* and return its descriptor."""
        with self.writing() as sink:
            sink.write(content)
        return Descriptor(media_type, sink.digest, sink.size_bytes)

    def holds(self, descriptor: Descriptor) -> bool:
        """Tell whether a blob of this digest and size is here."""
        path = self.path(descriptor.digest)
        return path.is_file() and path.stat().st_size == descriptor.size_bytes

    def share(self, descriptor: Descriptor, other: BlobFolder) -> bool:
        """Take a blob over from *other*, as a link where that is on the same disk; return whether it is here then.

        One of *other* that has other bytes by now is removed there.
        """
        source = other.path(descriptor.digest)
        if self.holds(descriptor) or not other.holds(descriptor):
            return self.holds(descriptor)
        with source.open("rb") as file:
            if f"sha256:{file_digest(file, 'sha256').hexdigest()}" != descriptor.digest:
                source.unlink(missing_ok=True)
                return False
        there = self.path(descriptor.digest)
        there.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another disk, or another process was first
            os.link(source, there)
        if not self.holds(descriptor):
            with source.open("rb") as file:
                copy_verified(file, descriptor, there)
        return True
