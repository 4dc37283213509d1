"""The file of a bundle: written in one go, and read as images that nobody can write to."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from insitu.errors import BundleRefused, UsageError
from insitu.files import staged
from insitu.images.blobs import CHUNK_BYTES, check, copy_verified
from insitu.images.bundle import END, FRONT, Bundle, found, header, leave_out, padding, parse_front, plan_bundle
from insitu.images.manifest import parts_of
from insitu.ports import Descriptor, ImageRegistry

Progress = Callable[[int, int], object]
"""Is told how many bytes of how many are done."""

_SMALL_BYTES = 4 << 20
"""Most that the page in front, or a manifest, may take: it is held in memory."""

_BLOCK = tarfile.BLOCKSIZE
_ANEW = "have it exported and carried over once more; if that does not help, look where it is changed"


def write_bundle(bundle: Bundle, images: ImageRegistry, path: Path, on_progress: Progress) -> None:
    """Write the file whole or not at all, every blob verified on its way.

    Raises:
        PublishFailed: *images* lack a blob, or hold other bytes.
        StorageFull: No space.
    """
    blobs, manifests = {one.digest: one for one in bundle.blobs}, {bundle.image, *bundle.attestations}
    with staged(path) as temporary:
        with temporary.open("wb") as file:
            for name, size_bytes, digest, content in bundle.entries:
                file.write(header(name, size_bytes))
                if content is None and blobs[digest] in manifests:  # a registry gives them as such alone
                    content = found(images, digest)[1]
                for piece in _pieces(images, blobs[digest], path) if content is None else [content]:
                    file.write(piece)
                    on_progress(file.tell(), bundle.size_bytes)
                file.write(padding(size_bytes))
            file.write(END)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def _pieces(images: ImageRegistry, blob: Descriptor, path: Path) -> Iterator[bytes]:
    """Yield the bytes of a blob; raise `PublishFailed`, at the latest after the last one, if they are others."""
    if local := images.local_blob(blob.digest):
        yield from _read(local, blob)
        return
    with staged(path) as temporary:  # on the disk that has room for the bundle
        images.fetch_blob(blob, temporary)
        yield from _read(temporary, blob)


def _read(path: Path, blob: Descriptor) -> Iterator[bytes]:
    digest, size_bytes = sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
            size_bytes += len(piece)
            yield piece
    check(blob, f"sha256:{digest.hexdigest()}", size_bytes)


@contextmanager
def open_bundle(path: Path, beside: ImageRegistry | None = None) -> Iterator[BundleImages]:
    """Yield what is in the file; nothing but its outline is looked at yet, see `BundleImages.require_intact`.

    Args:
        path: The file.
        beside: Has the layers that were left out, where somebody has them.

    Raises:
        UsageError: The file cannot be read.
        BundleRefused: It is no bundle, or not as long as it says.
    """
    try:
        file = path.open("rb")
    except OSError as exc:
        raise UsageError(f"the bundle {path} cannot be read", found=exc.strerror) from exc
    with file:
        bundle = parse_front(_front(file))
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes != bundle.size_bytes:
            short = size_bytes < bundle.size_bytes
            raise BundleRefused(
                f"the bundle {path.name} is {'cut off' if short else 'longer than it says'}",
                found=f"{size_bytes:,} bytes",
                wanted=f"{bundle.size_bytes:,} bytes",
                next_action=_ANEW,
            )
        yield BundleImages(path, bundle, file.fileno(), beside)


def is_bundle(path: Path) -> bool:
    """Tell whether the file says that it is a bundle."""
    try:
        with path.open("rb") as file:
            return file.read(len(FRONT) + 1) == f"{FRONT}\0".encode()
    except OSError:
        return False


@dataclass(frozen=True)
class BundleImages:
    """`ImageRegistry` over an open bundle, for reading only; what was left out comes from *beside*."""

    path: Path
    bundle: Bundle
    _fd: int = field(repr=False)
    _beside: ImageRegistry | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """`oci-archive:FILE`, as skopeo names it."""
        return f"oci-archive:{self.path}"

    def reference(self, tag: str) -> str:
        """Return `oci-archive:FILE:TAG`, or `…@sha256:…` for a digest."""
        return f"{self.name}{'@' if tag.startswith('sha256:') else ':'}{tag}"

    def require_intact(self, on_progress: Progress = lambda done, size: None) -> None:
        """Read every byte of the file.

        Raises:
            BundleRefused: One is not as insitu wrote it, a blob is there that the image has no use for, or one is
                missing that it needs.
        """
        offset = 0
        for name, size_bytes, digest, _ in self.bundle.entries:
            self._require(offset, header(name, size_bytes), f"the header of {name}")
            offset += _BLOCK
            seen = sha256()
            for piece in self._pieces(offset, size_bytes):
                seen.update(piece)
                offset += len(piece)
                on_progress(offset, self.bundle.size_bytes)
            if f"sha256:{seen.hexdigest()}" != digest:
                raise self._changed(name, f"sha256:{seen.hexdigest()}", digest)
            self._require(offset, padding(size_bytes), f"what follows {name}")
            offset += len(padding(size_bytes))
        self._require(offset, END, "the end")
        self._require_whole()

    def resolve(self, reference: str) -> tuple[Descriptor, bytes] | None:
        """Return the manifest that a tag or digest names."""
        bundle = self.bundle
        digest = bundle.digest if reference in bundle.tags else reference
        wanted = next((one for one in (bundle.image, *bundle.attestations) if one.digest == digest), None)
        if wanted is None or digest not in self._places or wanted.size_bytes > _SMALL_BYTES:
            return None
        content = b"".join(self._pieces(*self._places[digest]))
        check(wanted, f"sha256:{sha256(content).hexdigest()}", len(content))
        return wanted, content

    def referrers(self, digest: str) -> Sequence[Descriptor]:
        """Return the attestations of the image."""
        return self.bundle.attestations if digest == self.bundle.digest else ()

    def tags(self) -> Sequence[str]:
        """Return what the receiver is to call the image."""
        return self.bundle.tags

    def has_blob(self, digest: str) -> bool:
        """Tell whether the file holds the blob, or whoever is beside it."""
        return digest in self._places or bool(self._beside and self._beside.has_blob(digest))

    def local_blob(self, digest: str) -> Path | None:
        """Return a blob that was left out, where its holder has it as a file."""
        return self._beside.local_blob(digest) if self._beside and digest not in self._places else None

    def fetch_blob(self, descriptor: Descriptor, path: Path) -> None:
        """Write the blob to *path*, verified against its digest; raise `PublishFailed`, `BundleRefused`."""
        place = self._places.get(descriptor.digest)
        if place:
            copy_verified(cast(BinaryIO, _Pieces(self._pieces(*place))), descriptor, path)
        elif self._beside:
            self._beside.fetch_blob(descriptor, path)
        else:
            raise BundleRefused(
                f"the bundle {self.path.name} was made without a layer of its image",
                wanted=descriptor.digest,
                next_action="name who has it (--to), or have it exported without --without",
            )

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError(f"nothing can be written into {self.path}", next_action="export another bundle")

    put_blob = mount_blob = put_manifest = attach = tag = lock = untag = delete = _refuse

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Offset and size of each blob in the file."""
        places, offset = {}, 0
        for _, size_bytes, digest, content in self.bundle.entries:
            if content is None:
                places[digest] = (offset + _BLOCK, size_bytes)
            offset += _BLOCK + size_bytes + len(padding(size_bytes))
        return places

    def _require_whole(self) -> None:
        """Raise `BundleRefused` unless the file holds what belongs to its image, in the order of an export."""
        bundle = self.bundle
        wanted = plan_bundle(self, bundle.digest, bundle.tags, bundle.made_by)
        layers = parts_of(found(self, bundle.digest)[1])[1]
        wanted = leave_out(wanted, layers, frozenset(one.digest for one in bundle.without))
        if wanted != bundle:
            raise BundleRefused(
                f"the bundle {self.path.name} does not hold what its image is made of",
                found=f"{len(bundle.blobs)} blobs, and {len(bundle.without)} that the receiver has",
                wanted=f"{len(wanted.blobs)} blobs in the order of an export, and {len(wanted.without)}",
                next_action=_ANEW,
            )

    def _require(self, offset: int, wanted: bytes, what: str) -> None:
        if b"".join(self._pieces(offset, len(wanted))) != wanted:
            raise self._changed(what, "other bytes", "those that insitu writes there")

    def _pieces(self, offset: int, size_bytes: int) -> Iterator[bytes]:
        end = offset + size_bytes
        while offset < end and (piece := os.pread(self._fd, min(CHUNK_BYTES, end - offset), offset)):
            offset += len(piece)
            yield piece

    def _changed(self, what: str, found: str, wanted: str) -> BundleRefused:
        return BundleRefused(
            f"the bundle {self.path.name} was changed: {what}", found=found, wanted=wanted, next_action=_ANEW
        )


class _Pieces:
    """Pieces as a file that is read to its end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int = -1) -> bytes:
        return next(self._pieces, b"")


def _front(file: BinaryIO) -> bytes:
    """Return the page in front; raise `BundleRefused` when the file does not begin with one."""
    head = file.read(_BLOCK)
    try:
        size_bytes = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape").size
    except tarfile.TarError:
        size_bytes = -1
    if not 0 < size_bytes <= _SMALL_BYTES or header(FRONT, size_bytes) != head:
        raise BundleRefused(
            "this file is not a bundle",
            wanted=f"a tar that begins with {FRONT}",
            next_action="see that it is what `insitu bundle export` wrote",
        )
    return file.read(size_bytes)
