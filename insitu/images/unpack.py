"""Unpack an image into a folder, once, trusting nothing in its layers.

Bases bring what our own layers never hold. Devices, pipes, owners and set-id bits are left out. Links stay links, and
nothing is ever written through one. What a layer removes of those below it is removed; a later entry takes the place
of an earlier one, as a later layer's does. A name that climbs out of the image is refused.
"""

from __future__ import annotations

import errno
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
_GZIP = b"\x1f\x8b"
_MARK, _ALL = ".wh.", ".wh..wh..opq"
_NOT_ITS_FAULT = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)


def unpack_image(images: ImageRegistry, digest: str, work: Path) -> Path:
    """Return the folder with the image's files, unpacked now or earlier.

    Each layer is unpacked once; an image links to the files of its layers, so the next image with
    the same base costs no more than its model.

    Raises:
        ImageFailed: There is no such image, or a layer reaches outside its folder or is damaged.
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
                    _lay(folder, staging)
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
    """Unpack a tar, gzipped or not, into the empty folder *target*; raise `ImageFailed` for what is unsafe there.

    Marks of removed files (`.wh.NAME`) stay, as empty files: they are about the layers below.
    """
    try:
        with _opened(blob) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                _extract(tar, member, target)
    except (tarfile.TarError, EOFError, BadGzipFile, ValueError, _CORRUPT) as exc:
        raise ImageFailed("a layer of the image is not a gzipped tar", found=type(exc).__name__) from exc


def _opened(blob: Path) -> BinaryIO:
    with blob.open("rb") as file:
        return _gunzip(blob) if file.read(2) == _GZIP else blob.open("rb")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    name = _inside(member.name)
    if not name.parts or not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return  # the root itself; devices and pipes
    try:
        _write(tar, member, _place(target, name), target)
    except BadGzipFile:
        raise
    except (OSError, ValueError) as exc:
        if isinstance(exc, OSError) and exc.errno in _NOT_ITS_FAULT:
            raise
        raise _unsafe(member.name, "this file system cannot hold") from exc


def _inside(name: str) -> PurePosixPath:
    """Return the name from the root of the image: a leading slash means that root, too."""
    path = PurePosixPath(name.lstrip("/"))
    if ".." in path.parts:
        raise _unsafe(name, "reaches outside the image")
    if any(part.removeprefix(_MARK) in ("", ".", "..") for part in path.parts):
        raise _unsafe(name, "removes what has no name")
    return path


def _place(target: Path, name: PurePosixPath) -> Path:
    """Return where *name* goes, with the folders above it; raise `ImageFailed` if one of them is something else."""
    folder = target
    for part in name.parts[:-1]:
        folder /= part
        if folder.is_symlink():
            raise _unsafe(str(name), "goes through a symbolic link")
        if not folder.is_dir():
            folder.unlink(missing_ok=True)
            folder.mkdir()
    return folder / name.name


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, target: Path) -> None:
    if member.isdir():
        _make_folder(path)
        return
    _remove(path)
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        _link(_place(target, _inside(member.linkname)), path, member.name)
    elif source := tar.extractfile(member):
        with path.open("xb") as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
        path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _link(there: Path, path: Path, name: str) -> None:
    try:
        os.link(there, path, follow_symlinks=False)
    except (FileNotFoundError, PermissionError) as exc:
        raise _unsafe(name, "is a hard link to what is no file of its layer") from exc


def _make_folder(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        path.mkdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _unsafe(name: str, why: str) -> ImageFailed:
    return ImageFailed(f"the image holds {name[:200]!r}, which {why}", next_action="do not run this image")


def _lay(layer: Path, target: Path) -> None:
    """Lay a layer over *target*: remove what it marks, then fill in hard links to its files."""
    for parent, folders, files in os.walk(layer):
        there = target / Path(parent).relative_to(layer)
        _make_folder(there)
        for mark in [name for name in (*files, *folders) if name.startswith(_MARK)]:
            removed = list(there.iterdir()) if mark == _ALL else [there / mark.removeprefix(_MARK)]
            for path in removed:
                _remove(path)
        folders[:] = [name for name in folders if not name.startswith(_MARK)]
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*links, *(name for name in files if not name.startswith(_MARK))):
            _remove(there / name)
            os.link(Path(parent, name), there / name, follow_symlinks=False)
