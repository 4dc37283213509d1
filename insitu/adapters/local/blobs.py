"""Blobs as files of a folder, with ETags that follow the content."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from hashlib import sha256
from pathlib import Path

from insitu.adapters.names import is_blob_name, require_blob_name
from insitu.batch import Blob
from insitu.errors import BlobChanged, BlobExists, BlobNotFound, InsituError
from insitu.files import staged, write_through

_CHUNK_BYTES = 1 << 20
_SETTLED_NS = 1_000_000_000
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
        return map(self.stat, self.names(prefix))

    def names(self, prefix: str = "") -> Iterator[str]:
        """Yield the names under *prefix*, in name order."""
        folder = prefix.rpartition("/")[0]  # nothing else need be looked through
        if folder and not is_blob_name(folder):
            return
        names = _files(str(self.root / folder), f"{folder}/" if folder else "")
        yield from sorted(n for n in names if n.startswith(prefix) and is_blob_name(n))

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Yield what names under *prefix* have up to their next slash, in name order."""
        place = self.root / prefix.rpartition("/")[0]
        found = [path.relative_to(self.root).as_posix() for path in place.iterdir()] if place.is_dir() else []
        kept = (name for name in found if name.startswith(prefix) and is_blob_name(name))
        yield from sorted(f"{name}/" for name in kept if _holds_files(self.root / name))

    def stat(self, name: str) -> Blob:
        """Return the blob's current version; raise `BlobNotFound`."""
        with self._open(name) as fd:
            return self._describe(name, fd)

    def read(self, name: str, *, etag: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        """Return a range of the blob; raise `BlobNotFound`, `BlobChanged`."""
        with self._open(name) as fd:
            wanted = os.fstat(fd).st_size - offset if length is None else length
            if etag is None and _is_settled(fd):
                seen = _version(fd)
                data = _whole(fd, offset, wanted)
                if _version(fd) == seen:
                    return data
                # Replaced by another file, which changes nothing of this one, or written in place: the digest tells.
            pinned = etag or self._etag(fd)
            self._require(name, fd, pinned)
            data = _whole(fd, offset, wanted)
            self._require(name, fd, pinned)  # else what we hold may mix two versions
            return data

    def create(self, name: str, data: bytes) -> Blob:
        """Write a new blob in one piece; raise `BlobExists`, `StorageFull`."""
        path = self._path(name)
        try:
            with staged(path) as temporary:
                written = self._write(name, temporary, data)
                os.link(temporary, path)
        except (FileExistsError, NotADirectoryError) as exc:
            raise BlobExists(f"blob {name}, or one in its way, exists already") from exc
        return written

    def replace(self, name: str, data: bytes, *, etag: str) -> Blob:
        """Overwrite the version *etag*; raise `BlobNotFound`, `BlobChanged`, `StorageFull`."""
        path = self._path(name)
        with self._open(name), self._replacing():
            with self._open(name) as fd:
                self._require(name, fd, etag)
            with staged(path) as temporary:
                written = self._write(name, temporary, data)
                os.replace(temporary, path)
        return written

    def delete(self, name: str, *, etag: str) -> None:
        """Remove the version *etag*; raise `BlobNotFound`, `BlobChanged`. Folders stay: another may write there now."""
        path = self._path(name)
        with self._open(name), self._replacing():
            with self._open(name) as fd:
                self._require(name, fd, etag)
            path.unlink()

    def _path(self, name: str) -> Path:
        require_blob_name(name)
        return self.root / name

    @contextmanager
    def _open(self, name: str) -> Iterator[int]:
        try:
            file = open(self._path(name), "rb", buffering=0)  # noqa: SIM115 - closed below; only opening it may find nothing
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as exc:
            raise BlobNotFound(f"there is no blob {name} in {self.root}") from exc
        except PermissionError as exc:
            raise InsituError(
                f"blob {name} in {self.root} may not be read", next_action="give this user the right"
            ) from exc
        with file:
            yield file.fileno()

    def _describe(self, name: str, fd: int) -> Blob:
        stat = os.fstat(fd)
        modified = datetime.fromtimestamp(stat.st_mtime, UTC)
        return Blob(name, self._etag(fd), stat.st_size, modified)

    def _etag(self, fd: int) -> str:
        version, may_be_kept = _version(fd), _is_settled(fd)
        if version in self._etags:
            return self._etags[version]
        etag = _etag_of(_pread(fd, 0, os.fstat(fd).st_size))
        if may_be_kept:
            self._etags[version] = etag
        return etag

    def _require(self, name: str, fd: int, etag: str) -> None:
        found = self._etag(fd)
        if found != etag:
            raise BlobChanged(
                f"blob {name} was overwritten after the run had pinned it",
                found=f"version {_short(found)}",
                wanted=f"version {_short(etag)}",
                next_action="start the run again: it pins the new version",
            )

    def _write(self, name: str, temporary: Path, data: bytes) -> Blob:
        """Write *data* beside its target, so that a blob appears whole or not at all."""
        write_through(temporary, data)
        modified = datetime.fromtimestamp(temporary.stat().st_mtime, UTC)
        return Blob(name, _etag_of([data]), len(data), modified)

    @contextmanager
    def _replacing(self) -> Iterator[None]:
        """Compare-and-replace is two system calls: one process at a time."""
        with open(self.root / ".lock", "w") as lock:
            flock(lock, LOCK_EX)
            yield


def _files(folder: str, prefix: str = "") -> Iterator[str]:
    """Yield the names of the files below, each after *prefix*; `Path.rglob` takes several times as long."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False) or Path(entry.path).is_file():
            yield f"{prefix}{entry.name}"


def _holds_files(folder: Path) -> bool:
    """Tell whether anything lies below: where blobs were deleted, their folders are left."""
    return folder.is_dir() and any(_files(str(folder)))


def _version(fd: int) -> Fingerprint:
    stat = os.fstat(fd)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _is_settled(fd: int) -> bool:
    """Tell whether another write would be seen; clocks tick coarsely, and two within a tick look like one version."""
    return time.time_ns() - os.fstat(fd).st_ctime_ns > _SETTLED_NS


def _etag_of(pieces: Iterable[bytes]) -> str:
    digest = sha256()
    for piece in pieces:
        digest.update(piece)
    return f'"{digest.hexdigest()}"'


def _short(etag: str) -> str:
    return etag.strip('"')[:12]


def _whole(fd: int, offset: int, length: int) -> bytes:
    """Return a range that one call usually reads; joined it would be copied once more."""
    first = os.pread(fd, length, offset) if length > 0 else b""
    rest = list(_pread(fd, offset + len(first), length - len(first))) if first else []
    return b"".join((first, *rest)) if rest else first


def _pread(fd: int, offset: int, length: int) -> Iterator[bytes]:
    end = offset + length
    while offset < end:
        chunk = os.pread(fd, min(_CHUNK_BYTES, end - offset), offset)
        if not chunk:
            return
        offset += len(chunk)
        yield chunk
