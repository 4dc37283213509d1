"""Things that go or stay, and how files and blobs are taken away."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from insitu.batch import Blob
from insitu.crashpoints import crashpoint
from insitu.errors import BlobChanged, BlobNotFound
from insitu.ports import BlobStore


@dataclass(frozen=True)
class Item:
    """One thing that goes.

    Attributes:
        model: Whose it is; empty for what models share.
        of: The run that it is of; empty where it is of none.
        why: Why it is not needed.
    """

    kind: str
    name: str
    size_bytes: int
    remove: Callable[[], object] = field(repr=False, compare=False)
    why: str
    model: str = ""
    of: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        told = {name: getattr(self, name) for name in ("model", "of", "kind", "name", "why")}
        return told | {"bytes": self.size_bytes}


@dataclass(frozen=True)
class Stay:
    """A run that stays, or all of a model, and why; *size_bytes* is what its job and journal take."""

    model: str
    of: str
    why: tuple[str, ...]
    size_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"model": self.model, "of": self.of, "why": list(self.why), "bytes": self.size_bytes}


@dataclass(frozen=True)
class Going:
    """What goes together, once *note* has written down that it does."""

    items: tuple[Item, ...]
    note: Callable[[], object] = field(default=lambda: None, repr=False, compare=False)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of the files below a folder; 0 where there is none."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file() or file.is_symlink())


def delete(path: Path) -> None:
    """Remove a file, or a folder at once: it is moved aside first, lest half of one be taken for a whole one."""
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f".staged-{uuid4().hex}")
        path.rename(aside)
        crashpoint("prune:aside")
        shutil.rmtree(aside)
    else:
        path.unlink(missing_ok=True)


def forget(state: BlobStore, blobs: Iterable[Blob]) -> None:
    """Delete these versions of blobs; what was written anew since stays."""
    for blob in blobs:
        with suppress(BlobNotFound, BlobChanged):
            state.delete(blob.name, etag=blob.etag)
