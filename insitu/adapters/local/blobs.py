"""Blobs as files of a folder, with ETags that follow the content."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from hashlib import sha256
from pathlib import Path, PurePosixPath

from insitu.batch import Blob
from insitu.errors import BlobChanged, BlobExists, BlobNotFound, UsageError, naming_full_disks

_CHUNK_BYTES = 1 << 20
Fingerprint = tuple[int, int, int, int]


@dataclass(frozen=True)
class FolderBlobs:
    """A `BlobStore` over the files under *root*; hidden files are not blobs.

    The ETag is the sha256 of the content, so equal bytes have equal ETags on every machine. It is
    computed once per version of a file (inode, size, mtime and ctime tell versions apart).
    """

    root: Path
    _etags: dict[Fingerprint, str] = field(default_factory=dict, repr=False, compare=False)

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Yield the blobs under *prefix*, in name order."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        names = (path.relative_to(self.root).as_posix() for path in files)
        for name in sorted(n for n in names if n.startswith(prefix) and not _is_hidden(n)):
            yield self.stat(name)

    def stat(self, name: str) -> Blob:
        """Return the blob's current version; raise `BlobNotFound`."""
        with self._open(name) as fd:
            return self._describe(name, fd)

    def read(self, name: str, *, etag: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        """Return a range of the blob; raise `BlobNotFound`, `BlobChanged`."""
        with self._open(name) as fd:
            pinned = etag or self._etag(fd)
            self._require(name, fd, pinned)
            wanted = os.fstat(fd).st_size - offset if length is None else length
            data = b"".join(_pread(fd, offset, wanted))
            # Written in place while we read: what we hold may mix two versions.
            self._require(name, fd, pinned)
            return data

    def create(self, name: str, data: bytes) -> Blob:
        """Write a new blob in one piece; raise `BlobExists`, `StorageFull`."""
        with self._staged(name, data) as staged:
            try:
                os.link(staged, self._path(name))
            except FileExistsError as exc:
                raise BlobExists(f"blob {name} exists already") from exc
        return self.stat(name)

    def replace(self, name: str, data: bytes, *, etag: str) -> Blob:
        """Overwrite the version *etag*; raise `BlobNotFound`, `BlobChanged`, `StorageFull`."""
        with self._staged(name, data) as staged, self._replacing():
            with self._open(name) as fd:
                self._require(name, fd, etag)
            os.replace(staged, self._path(name))
        return self.stat(name)

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or name != "/".join(parts) or parts[0] == "/" or _is_hidden(name) or "\0" in name:
            raise UsageError(
                f"{name!r} is not a blob name",
                wanted="a relative path without empty, '.', '..' or hidden parts",
            )
        return self.root.joinpath(*parts)

    @contextmanager
    def _open(self, name: str) -> Iterator[int]:
        try:
            fd = os.open(self._path(name), os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise BlobNotFound(f"there is no blob {name} in {self.root}") from exc
        try:
            yield fd
        finally:
            os.close(fd)

    def _describe(self, name: str, fd: int) -> Blob:
        stat = os.fstat(fd)
        modified = datetime.fromtimestamp(stat.st_mtime, UTC)
        return Blob(name, self._etag(fd), stat.st_size, modified)

    def _etag(self, fd: int) -> str:
        stat = os.fstat(fd)
        version = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if version not in self._etags:
            digest = sha256()
            for chunk in _pread(fd, 0, stat.st_size):
                digest.update(chunk)
            self._etags[version] = f'"{digest.hexdigest()}"'
        return self._etags[version]

    def _require(self, name: str, fd: int, etag: str) -> None:
        found = self._etag(fd)
        if found != etag:
            raise BlobChanged(
                f"blob {name} was overwritten after the run had pinned it",
                found=f"version {_short(found)}",
                wanted=f"version {_short(etag)}",
                todo="start the run again: it pins the new version",
            )

    @contextmanager
    def _staged(self, name: str, data: bytes) -> Iterator[Path]:
        """Write *data* beside its target, so that a blob appears whole or not at all."""
        folder = self._path(name).parent
        with naming_full_disks(self.root):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".staged-", delete=False) as file:
                staged = Path(file.name)
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    staged.unlink()
                    raise
        try:
            yield staged
        finally:
            staged.unlink(missing_ok=True)

    @contextmanager
    def _replacing(self) -> Iterator[None]:
        """Compare-and-replace is two system calls: one process at a time."""
        with open(self.root / ".lock", "w") as lock:
            flock(lock, LOCK_EX)
            yield


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _short(etag: str) -> str:
    return etag.strip('"')[:12]


def _pread(fd: int, offset: int, length: int) -> Iterator[bytes]:
    end = offset + length
    while offset < end:
        chunk = os.pread(fd, min(_CHUNK_BYTES, end - offset), offset)
        if not chunk:
            return
        offset += len(chunk)
        yield chunk
