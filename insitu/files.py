"""Writing a local file whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from insitu.errors import naming_write_errors


def file_names(folder: Path) -> list[str]:
    """Return the files below *folder*, in name order; hidden files and byte code are left out."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = sorted(name for name in names if not any(part.startswith((".", "__pycache__")) for part in name.parts))
    return [name.as_posix() for name in kept]


def file_digests(folder: Path) -> dict[str, str]:
    """Return the files of `file_names`, each with its hex sha256."""
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in file_names(folder)}


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
