"""Writing a local file whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from insitu.errors import naming_write_errors


def file_names(folder: Path, *, hidden: bool = False) -> list[str]:
    """Return the files below *folder*, in name order; without *hidden*, hidden files and byte code are left out."""
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [name.as_posix() for name in names if hidden or not _is_hidden(name)]


def _is_hidden(name: Path) -> bool:
    return any(part.startswith((".", "__pycache__")) for part in name.parts)


def file_digests(folder: Path, *, hidden: bool = False) -> dict[str, str]:
    """Return the files of `file_names`, each with its hex sha256."""
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in file_names(folder, hidden=hidden)}


def drop_hidden(folder: Path) -> None:
    """Remove hidden files and byte code below *folder*: nobody lists them, so nobody would look into them."""
    for name in set(file_names(folder, hidden=True)) - set(file_names(folder)):
        (folder / name).unlink(missing_ok=True)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside *path*, gone afterwards unless renamed; raise `StorageFull`."""
    with naming_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".staged-{uuid.uuid4().hex}"
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def write_through(path: Path, data: bytes) -> None:
    """Write *path* down to the disk; it is readable as the umask says, unlike a file of `mkstemp`."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Write *path* in one step, over what was there; raise `StorageFull`."""
    with staged(path) as temporary:
        write_through(temporary, data)
        os.replace(temporary, path)
