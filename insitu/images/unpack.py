"""Unpack an image into a folder, once, trusting nothing in its layers."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from isal import igzip, isal_zlib

from insitu.errors import ImageFailed, naming_write_errors
from insitu.images.blobs import CHUNK_BYTES
from insitu.images.manifest import parts_of
from insitu.ports import Descriptor, ImageRegistry

# isal's types say that this is an instance and that its files are untyped.
_CORRUPT: type[Exception] = cast(Any, isal_zlib.error)
_gunzip: Callable[[Path], BinaryIO] = cast(Any, igzip.open)


def unpack_image(images: ImageRegistry, digest: str, work: Path) -> Path:
    """Return the folder with the image's files, unpacked now or earlier.

    Each layer is unpacked once; an image links to the files of its layers, so the next image with
    the same base costs no more than its model.

    Raises:
        ImageFailed: There is no such image, or a layer reaches outside its folder, holds a device, or
            removes files of another layer.
        PublishFailed: The registry returned other bytes than the digest names.
        StorageFull: No space.
    """
    found = images.resolve(digest)
    if found is None:
        raise ImageFailed(f"{images.name} has no image {digest}", next_action="publish it there first")
    _, layers = parts_of(found[1])
    target = work / "images" / digest.replace(":", "-")
    with naming_write_errors(work):
        if not target.is_dir():
            folders = [_layer(images, layer, work) for layer in layers]
            with _staged(target) as staging:
                for folder in folders:
                    _link(folder, staging)
    return target


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes *target* when the block ends well: a folder there is a whole one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".staged-", dir=target.parent) as scratch:
        staging = Path(scratch, "root")
        staging.mkdir()
        yield staging
        try:
            os.rename(staging, target)
        except OSError:
            if not target.is_dir():  # otherwise another process was first, with the same bytes
                raise


def _layer(images: ImageRegistry, layer: Descriptor, work: Path) -> Path:
    target = work / "unpacked-layers" / layer.digest.replace(":", "-")
    if not target.is_dir():
        with _staged(target) as staging:
            blob = staging.parent / "blob"
            images.fetch_blob(layer, blob)
            extract(blob, staging)
    return target


def extract(blob: Path, target: Path) -> None:
    """Unpack a gzipped tar into the empty folder *target*; raise `ImageFailed` for what is unsafe there.

    Nothing is written through a symbolic link, so the order of entries cannot matter.
    """
    try:
        with _gunzip(blob) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                _extract(tar, member, target)
    except (tarfile.TarError, EOFError, BadGzipFile, _CORRUPT) as exc:
        raise ImageFailed("a layer of the image is not a gzipped tar", found=type(exc).__name__) from exc


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    path = target / _inside(member.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.resolve() != target.resolve() / path.parent.relative_to(target):
        raise _unsafe(member.name, "goes through a symbolic link")
    _write(tar, member, path)


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise _unsafe(name, "reaches outside the image")
    if path.name.startswith(".wh."):
        raise _unsafe(name, "removes a file of another layer")
    return path


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(exist_ok=True)
    elif path.is_symlink() or path.exists():
        raise _unsafe(member.name, "is there twice")
    elif member.issym():
        _check_link(member)
        path.symlink_to(member.linkname)
    elif source := tar.extractfile(member) if member.isreg() else None:
        with path.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
    else:
        raise _unsafe(member.name, "is neither a file, a folder nor a symbolic link")


def _check_link(member: tarfile.TarInfo) -> None:
    """Raise unless the link is relative and stays inside, counted without following other links."""
    depth = len(PurePosixPath(member.name).parts) - 1
    link = PurePosixPath(member.linkname)
    for part in link.parts:
        depth += -1 if part == ".." else 1
        if depth < 0 or link.is_absolute():
            raise _unsafe(member.name, "is a link that reaches outside the image")


def _unsafe(name: str, why: str) -> ImageFailed:
    return ImageFailed(f"the image holds {name[:200]!r}, which {why}", next_action="do not run this image")


def _link(folder: Path, target: Path) -> None:
    """Fill *target* with hard links to the files of *folder*; a later layer's file wins."""
    for parent, folders, files in os.walk(folder):
        there = target / Path(parent).relative_to(folder)
        if there.is_symlink():
            raise _unsafe(there.name, "is a link in one layer and a folder in another")
        there.mkdir(exist_ok=True)
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*links, *files):
            if (there / name).is_symlink() or (there / name).exists():
                (there / name).unlink()
            os.link(Path(parent, name), there / name, follow_symlinks=False)
